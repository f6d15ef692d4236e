"""The longest path, by a table and against every path there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import paths, shapes

DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}


@pytest.mark.parametrize(
    ("needs", "weights", "expected"),
    [
        pytest.param({}, {}, (), id="nothing"),
        pytest.param({"a": []}, {"a": 3.0}, ("a",), id="one"),
        pytest.param({"a": [], "b": []}, {"a": 3.0, "b": 5.0}, ("b",), id="two apart"),
        pytest.param({"b": ["a"], "a": []}, {"a": 3.0, "b": 1.0}, ("a", "b"), id="a chain, listed backwards"),
        pytest.param(DIAMOND, {"a": 1.0, "b": 5.0, "c": 2.0, "d": 1.0}, ("a", "b", "d"), id="the heavier side of a diamond"),
        pytest.param(DIAMOND, {"a": 1.0, "b": 5.0, "c": 6.0, "d": 1.0}, ("a", "c", "d"), id="the other side"),
        pytest.param({"a": [], "b": ["a"], "x": []}, {"a": 1.0, "b": 1.0, "x": 9.0}, ("x",), id="one heavy service beats a chain"),
        pytest.param(
            {"a": [], "b": ["a"], "x": [], "c": ["b", "x"]},
            {"a": 4.0, "b": 4.0, "x": 7.0, "c": 1.0},
            ("a", "b", "c"),
            id="not the heaviest step",
        ),
    ],
)
def test_the_longest_path(needs: Mapping[str, Sequence[str]], weights: Mapping[str, float], expected: tuple[str, ...]) -> None:
    assert paths.longest(needs, weights) == expected


def test_a_cycle_has_no_longest_path() -> None:
    with pytest.raises(CycleError):
        paths.longest({"a": ["b"], "b": ["a"]}, {"a": 1.0, "b": 1.0})


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, list[str]], dict[str, float]]:
    """Acyclic graphs of up to 7 services, listed in any order."""
    names = [f"s{number}" for number in range(draw(st.integers(1, 7)))]
    needs = {name: draw(st.lists(st.sampled_from(names[:at]), unique=True)) if at else [] for at, name in enumerate(names)}
    weights = {name: float(draw(st.integers(0, 60))) for name in names}
    return {name: needs[name] for name in draw(st.permutations(names))}, weights


def every_path(needs: Mapping[str, Sequence[str]], last: str) -> Iterator[tuple[str, ...]]:
    """All paths that end there."""
    yield (last,)
    for each in needs[last]:
        yield from ((*path, last) for path in every_path(needs, each))


@given(graphs())
def test_no_path_is_longer(graph: tuple[dict[str, list[str]], dict[str, float]]) -> None:
    needs, weights = graph
    found = paths.longest(needs, weights)
    every = [path for name in needs for path in every_path(needs, name)]
    assert found in every
    assert paths.length(found, weights) == max(paths.length(path, weights) for path in every)


def test_layers_are_joined_by_all_edges_within_the_bounds_of_the_api() -> None:
    shape = shapes.layers(10, 10)
    assert len(shape.needs) == 100
    assert max(len(each) for each in shape.needs.values()) == 10
    weights = {name: 7.0 if name.endswith("-03") else 1.0 for name in shape.needs}
    assert paths.length(paths.longest(shape.needs, weights), weights) == 70.0
