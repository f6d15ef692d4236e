"""The graph: what is wrong with it does not depend on the order it is written in, and teardown goes against the edges."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from controller.api.infrastructure import InfrastructureSpec, Service
from controller.api.reasons import Reason
from controller.reconcilers import graph
from controller.reconcilers.graph import TemplateFacts
from tests.properties import build
from tests.properties.draws import chance

NAMES = ("a", "b", "c", "d", "e", "f")
Edges = dict[str, frozenset[str]]


@st.composite
def any_edges(draw: st.DrawFn) -> Edges:
    """Any graph over some services, rings, self-edges and dangling edges included. One bit an edge: quick to draw, shrinks well."""
    here, bits = draw(st.integers(0, 6)), draw(st.integers(0, 2**36 - 1))
    return {name: frozenset(other for at, other in enumerate(NAMES) if bits >> (6 * row + at) & 1) for row, name in enumerate(NAMES[:here])}


@st.composite
def ordered_edges(draw: st.DrawFn) -> Edges:
    """A graph without rings: each service depends on ones before it."""
    order = draw(chance()).sample(NAMES, len(NAMES))
    bits = draw(st.integers(0, 2**36 - 1))
    return {name: frozenset(other for at, other in enumerate(order[:row]) if bits >> (6 * row + at) & 1) for row, name in enumerate(order)}


@st.composite
def facts(draw: st.DrawFn) -> TemplateFacts:
    some = st.frozensets(st.sampled_from(NAMES), max_size=3)
    clouds = st.tuples(st.sampled_from(("sim", "aws", "none")), st.sampled_from(("simulated", "ec2")))
    problem = st.sampled_from((None, None, graph.Problem(Reason.TEMPLATE_INVALID, "line 1")))
    return TemplateFacts(draw(some), draw(some), draw(some), tuple(draw(st.lists(clouds, max_size=2))), draw(problem))


def services(edges: Edges) -> tuple[Service, ...]:
    return tuple(build.service(name, *sorted(needs)) for name, needs in edges.items())


def reaches(edges: Edges, start: str, goal: str) -> bool:
    """Whether a walk of at least one edge leads there; written unlike the code it judges."""
    step = set(edges.get(start, ()))
    for _ in NAMES:
        step |= {more for each in step for more in edges.get(each, ())}
    return goal in step


@given(any_edges(), st.dictionaries(st.just("template"), facts()), chance())
def test_the_order_of_services_and_edges_does_not_matter(edges: Edges, templates: dict[str, TemplateFacts], rng: random.Random) -> None:
    plain = services(edges)
    mixed = [each.model_copy(update={"depends_on": tuple(rng.sample(each.depends_on, len(each.depends_on)))}) for each in plain]
    rng.shuffle(mixed)
    clouds = {"sim": "simulated", "aws": "ec2"}
    first = graph.problems(InfrastructureSpec(services=plain), templates, clouds)
    assert first == graph.problems(InfrastructureSpec(services=tuple(mixed)), templates, dict(reversed(clouds.items())))
    assert len(set(first)) == len(first)


@given(any_edges())
def test_a_ring_is_found_where_there_is_one_and_its_path_is_real(edges: Edges) -> None:
    found = graph.problems(InfrastructureSpec(services=services(edges)), {"template": TemplateFacts()}, {})
    rings = [each.message.rpartition(": ")[2].split(" → ") for each in found if each.reason is Reason.CYCLE]
    assert bool(rings) == any(reaches(edges, name, name) for name in edges)
    for ring in rings:
        assert ring[0] == ring[-1]
        assert len(set(ring)) == len(ring) - 1
        assert all(second in edges[first] for first, second in itertools.pairwise(ring))


@given(any_edges())
def test_each_unknown_service_is_named_and_no_other(edges: Edges) -> None:
    found = graph.problems(InfrastructureSpec(services=services(edges)), {"template": TemplateFacts()}, {})
    unknown = sum(1 for needs in edges.values() for each in needs if each not in edges)
    assert sum(1 for each in found if each.reason is Reason.UNKNOWN_SERVICE) == unknown


@given(any_edges(), chance())
def test_teardown_ends_and_goes_against_the_edges(edges: Edges, rng: random.Random) -> None:
    left = dict(edges)
    while left:
        able = [name for name in left if graph.may_go(name, left)]
        assert able, f"nothing may go of {left}"
        gone = rng.choice(able)
        for other, needs in left.items():
            in_ring = reaches(left, gone, other) and reaches(left, other, gone)
            assert other == gone or gone not in needs or in_ring, f"{gone} went before {other}"
        del left[gone]


@given(any_edges())
def test_blockers_are_direct_dependents_outside_of_the_ring(edges: Edges) -> None:
    for name in edges:
        expected = [other for other, needs in edges.items() if other != name and name in needs and not reaches(edges, name, other)]
        assert graph.blockers(name, edges) == tuple(sorted(expected))


@given(ordered_edges())
def test_a_graph_without_rings_has_no_problem(edges: Edges) -> None:
    assert graph.problems(InfrastructureSpec(services=services(edges)), {"template": TemplateFacts()}, {}) == ()
