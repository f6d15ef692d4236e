"""Merge patches: the RFC's own examples, and that a difference is the way from one object to another."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.stores import merge

_SCALARS = st.one_of(st.booleans(), st.integers(-2, 2), st.sampled_from((0.0, 1.0, 0.5)), st.text("ab", max_size=2))
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner | st.none(), max_size=3), st.dictionaries(st.text("ab", max_size=1), inner, max_size=3)),
    max_leaves=10,
)
_OBJECTS = st.dictionaries(st.text("abc", max_size=1), _VALUES, max_size=4)
_PATCHES = st.recursive(_SCALARS | st.none(), lambda inner: st.dictionaries(st.text("abc", max_size=1), inner, max_size=4), max_leaves=8)


@pytest.mark.parametrize(
    ("target", "patch", "wanted"),
    [
        # RFC 7396, appendix A
        pytest.param({"a": "b"}, {"a": "c"}, {"a": "c"}, id="replace"),
        pytest.param({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}, id="add"),
        pytest.param({"a": "b"}, {"a": None}, {}, id="remove"),
        pytest.param({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}, id="remove-one"),
        pytest.param({"a": ["b"]}, {"a": "c"}, {"a": "c"}, id="list-to-scalar"),
        pytest.param({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}, id="scalar-to-list"),
        pytest.param({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}, id="nested"),
        pytest.param({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}, id="lists-are-whole"),
        pytest.param(["a", "b"], ["c", "d"], ["c", "d"], id="top-list"),
        pytest.param({"a": "b"}, ["c"], ["c"], id="object-to-list"),
        pytest.param({"a": "foo"}, None, None, id="null"),
        pytest.param({"a": "foo"}, "bar", "bar", id="scalar"),
        pytest.param({"e": None}, {"a": 1}, {"e": None, "a": 1}, id="null-that-stands"),
        pytest.param([1, 2], {"a": "b", "c": None}, {"a": "b"}, id="list-to-object"),
        pytest.param({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}, id="nulls-of-what-is-new"),
    ],
)
def test_the_examples_of_the_rfc(target: Any, patch: Any, wanted: Any) -> None:
    assert merge.apply(target, patch) == wanted


@given(_OBJECTS, _OBJECTS)
def test_the_difference_leads_from_one_to_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merge.same(merge.apply(old, merge.difference(old, new)), new)


@given(_OBJECTS, _OBJECTS)
def test_a_difference_is_empty_for_equals_alone(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merge.difference(old, copy.deepcopy(old)) == {}
    assert (merge.difference(old, new) == {}) == merge.same(old, new)


@given(_OBJECTS, _PATCHES)
def test_applying_twice_is_applying_once(target: dict[str, Any], patch: Any) -> None:
    once = merge.apply(target, patch)
    assert merge.same(merge.apply(once, patch), once)


@given(_OBJECTS, _OBJECTS, _PATCHES)
def test_arguments_stay_as_they_are(old: dict[str, Any], new: dict[str, Any], patch: Any) -> None:
    before = copy.deepcopy((old, new, patch))
    merge.difference(old, new)
    merge.apply(old, patch)
    merge.same(old, new)
    assert (old, new, patch) == before


@given(_OBJECTS, _OBJECTS)
def test_a_difference_names_nothing_that_is_the_same(old: dict[str, Any], new: dict[str, Any]) -> None:
    for key in merge.difference(old, new):
        assert key not in new or key not in old or not merge.same(old[key], new[key])


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        pytest.param({"a": True}, {"a": 1}, False, id="true-is-not-1"),
        pytest.param([False], [0], False, id="false-is-not-0"),
        pytest.param({"a": [1, {"b": True}]}, {"a": [1.0, {"b": True}]}, True, id="1-is-1.0"),
        pytest.param({"a": 1, "b": {"c": True}}, {"b": {"c": True}, "a": 1}, True, id="order-of-keys"),
        pytest.param({"a": 1, "b": {"c": True}}, {"b": {"c": 1}, "a": 1}, False, id="order-of-keys-and-true"),
        pytest.param({"a": None}, {}, False, id="null-is-not-nothing"),
        pytest.param([1, 2], [1], False, id="shorter"),
        pytest.param("1", 1, False, id="text"),
    ],
)
def test_same(left: Any, right: Any, same: bool) -> None:
    assert merge.same(left, right) is same
    assert merge.same(right, left) is same


def test_a_null_cannot_be_stored() -> None:
    with pytest.raises(ValueError, match="'b'"):
        merge.difference({}, {"a": {"b": None}})
