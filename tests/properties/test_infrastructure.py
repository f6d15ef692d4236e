"""The Infrastructure's plan, driven step by step over a set of groups as data."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from controller.api.group import InstanceGroup
from controller.api.infrastructure import Infrastructure, InfrastructureSpec, Scaling, Service
from controller.api.meta import VARIABLES, Condition, Variable
from controller.api.reasons import Reason
from controller.reconcilers import graph
from controller.reconcilers.graph import TemplateFacts
from controller.reconcilers.infrastructure import plan as planner
from controller.reconcilers.infrastructure import status
from controller.reconcilers.infrastructure.plan import CreateGroup, DeleteGroup, Observed, Release, UpdateGroup, plan
from tests.properties import build
from tests.properties.draws import chance
from tests.properties.test_graph import NAMES, Edges, any_edges, ordered_edges, reaches


@st.composite
def services(draw: st.DrawFn) -> tuple[Service, ...]:
    """Services in any order, over a part of a graph without rings that is closed under its edges."""
    graph, rng = draw(ordered_edges()), draw(chance())
    here = NAMES[: draw(st.integers(0, len(NAMES)))]
    names = [name for name in graph if name in here]
    found: list[Service] = []
    for name in names:
        numbers = rng.choice(("none", "replicas", "scaling"))
        found.append(
            build.service(
                name,
                *sorted(graph[name] & set(names)),
                replicas=rng.randint(0, 4) if numbers == "replicas" else None,
                scaling=Scaling(min=rng.randint(0, 2), max=rng.randint(2, 5)) if numbers == "scaling" else None,
            )
        )
    rng.shuffle(found)
    return tuple(found)


@dataclass
class Groups:
    """The groups there are. One that is deleted stays for some steps, as its machines would keep it."""

    infrastructure: Infrastructure
    rng: random.Random
    groups: dict[str, InstanceGroup] = field(default_factory=dict[str, InstanceGroup])
    released: bool = False

    def observed(self) -> Observed:
        groups = list(self.groups.values())
        self.rng.shuffle(groups)
        return Observed(self.infrastructure, tuple(groups), templates={"template": TemplateFacts()})

    def step(self) -> planner.Plan:
        """Plan and apply; actions in any order, and some of the going groups go."""
        edges = planner.recorded_edges(tuple(self.groups.values()))
        for each in [each for each in self.groups.values() if each.metadata.deleting and self.rng.random() < 0.5]:
            if graph.may_go(each.spec.service, edges):
                del self.groups[each.spec.service]
        before = planner.recorded_edges(tuple(self.groups.values()))
        todo = plan(self.observed())
        for action in self.rng.sample(todo.actions, len(todo.actions)):
            match action:
                case CreateGroup(name, spec):
                    assert spec.service not in self.groups, "made twice"
                    made = build.group(spec.service)
                    assert made.metadata.name == name
                    self.groups[spec.service] = made.model_copy(update={"spec": spec})
                case UpdateGroup(name, spec):
                    old = self.groups[spec.service]
                    assert old.metadata.name == name
                    self.groups[spec.service] = old.model_copy(
                        update={"spec": spec, "metadata": old.metadata.model_copy(update={"generation": old.metadata.generation + 1})}
                    )
                case DeleteGroup(name):
                    self._delete(name, dict(before))
                case Release():
                    assert not self.groups, "let go while groups are left"
                    self.released = True
                case planner.AddFinalizer() | planner.AdoptGroup() | planner.FreeGroup():
                    raise AssertionError("it has its finalizer, all groups are its own, and none outlives it")
        return todo

    def _delete(self, name: str, before: Edges) -> None:
        (service,) = [each.spec.service for each in self.groups.values() if each.metadata.name == name]
        for other, needs in before.items():
            ring = reaches(before, service, other) and reaches(before, other, service)
            assert other == service or service not in needs or ring, f"{service} went before {other}, which depends on it"
        old = self.groups[service]
        self.groups[service] = old.model_copy(update={"metadata": old.metadata.model_copy(update={"deletion_timestamp": build.NOW})})

    def converge(self) -> None:
        for _ in range(200):
            going = any(each.metadata.deleting for each in self.groups.values())
            if not self.step().actions and not going and (not self.groups or not self.infrastructure.metadata.deleting):
                return
            if self.released:
                return
        raise AssertionError("does not end")

    def describe(self, services: tuple[Service, ...], **more: bool) -> None:
        metadata = self.infrastructure.metadata
        self.infrastructure = Infrastructure(
            metadata=metadata.model_copy(update={"generation": metadata.generation + 1}),
            spec=InfrastructureSpec(services=services, paused=more.get("paused", False)),
        )


def world(services: tuple[Service, ...], rng: random.Random) -> Groups:
    return Groups(build.infrastructure(*services), rng)


def check(groups: Groups) -> None:
    """The groups are as the services say."""
    wanted = {each.name: each for each in groups.infrastructure.spec.services}
    assert set(groups.groups) == set(wanted)
    for name, each in groups.groups.items():
        assert each.spec.depends_on == wanted[name].depends_on
        assert (each.spec.fixed_replicas, each.spec.scaling) == (wanted[name].replicas, wanted[name].scaling)
        assert each.spec.infrastructure.id == groups.infrastructure.identity
        assert not each.spec.paused
        if wanted[name].replicas is not None:
            assert each.spec.replicas == wanted[name].replicas


_BOTH = (build.service("a"), build.service("b", "a"))
_ONE = (build.service("b"),)


@example(_BOTH, [(3, _ONE), (2, _BOTH)], 0, random.Random(1)).via("one that goes is depended on again")
@given(services(), st.lists(st.tuples(st.integers(0, 6), services()), min_size=1, max_size=3), st.integers(0, 4), chance())
def test_any_graph_becomes_any_other(
    first: tuple[Service, ...], later: list[tuple[int, tuple[Service, ...]]], back: int, rng: random.Random
) -> None:
    """Whatever was described before, and however far that went; at last the first one again, if `back` is not 0, after so many steps."""
    groups = world(first, rng)
    for steps, described in (*later, *([(back, first)] if back else [])):
        for _ in range(steps):
            groups.step()
        groups.describe(described)
    groups.converge()
    check(groups)
    assert plan(groups.observed()) == planner.Plan()


@given(services(), st.integers(0, 3), chance())
def test_a_deleted_infrastructure_ends_from_any_point(described: tuple[Service, ...], steps: int, rng: random.Random) -> None:
    groups = world(described, rng)
    for _ in range(steps):
        groups.step()
    metadata = groups.infrastructure.metadata.model_copy(update={"deletion_timestamp": build.NOW})
    groups.infrastructure = groups.infrastructure.model_copy(update={"metadata": metadata})
    groups.converge()
    assert groups.released


@given(any_edges(), chance())
def test_rings_among_recorded_edges_keep_no_deletion(edges: Edges, rng: random.Random) -> None:
    groups = Groups(build.infrastructure(deleting=True), rng)
    groups.groups = {name: build.group(name, needs=tuple(sorted(needs))) for name, needs in edges.items()}
    groups.converge()
    assert groups.released


@given(services(), services(), chance())
def test_the_order_of_groups_and_services_does_not_matter(
    first: tuple[Service, ...], second: tuple[Service, ...], rng: random.Random
) -> None:
    groups = world(first, rng)
    for _ in range(2):
        groups.step()
    groups.describe(second)
    o = groups.observed()
    mixed = replace(
        o,
        groups=tuple(rng.sample(o.groups, len(o.groups))),
        infrastructure=o.infrastructure.model_copy(
            update={"spec": o.infrastructure.spec.model_copy(update={"services": tuple(rng.sample(second, len(second)))})}
        ),
    )
    one, other = plan(o), plan(mixed)
    assert sorted(one.actions, key=str) == sorted(other.actions, key=str)
    assert (one.problems, one.waits) == (other.problems, other.waits)
    assert status.report(o, one, build.NOW) == status.report(mixed, other, build.NOW)


@given(services(), st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9)), chance())
def test_a_number_that_no_service_fixes_is_left_alone(described: tuple[Service, ...], scaled: dict[str, int], rng: random.Random) -> None:
    groups = world(described, rng)
    groups.converge()
    for name, number in scaled.items():
        if name in groups.groups:
            each = groups.groups[name]
            groups.groups[name] = each.model_copy(update={"spec": each.spec.model_copy(update={"replicas": number})})
    rescaled = {name: each.spec.replicas for name, each in groups.groups.items()}
    groups.describe(tuple(each.model_copy(update={"variables": ()}) for each in described))
    groups.converge()
    for each in described:
        expected = rescaled[each.name] if each.replicas is None else each.replicas
        assert groups.groups[each.name].spec.replicas == expected


@given(services(), services(), st.integers(0, 3), chance())
def test_paused_makes_and_removes_nothing(first: tuple[Service, ...], second: tuple[Service, ...], steps: int, rng: random.Random) -> None:
    groups = world(first, rng)
    for _ in range(steps):
        groups.step()
    groups.describe(second, paused=True)
    before = {name: each.spec for name, each in groups.groups.items() if not each.metadata.deleting}
    for _ in range(4):
        groups.step()
    assert {name: each.spec.model_copy(update={"paused": False}) for name, each in groups.groups.items() if name in before} == {
        name: spec.model_copy(update={"paused": False}) for name, spec in before.items() if name in groups.groups
    }
    assert all(each.spec.paused for each in groups.groups.values() if not each.metadata.deleting)
    groups.describe(second)
    groups.converge()
    check(groups)


@given(services(), st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9)), chance())
def test_a_group_made_while_its_machines_exist_starts_with_at_least_their_number(
    described: tuple[Service, ...], machines: dict[str, int], rng: random.Random
) -> None:
    todo = plan(replace(world(described, rng).observed(), machines=machines))
    made = {action.spec.service: action.spec.replicas for action in todo.actions if isinstance(action, CreateGroup)}
    for each in described:
        least = each.initial_replicas() if each.replicas is not None else max(each.initial_replicas(), machines.get(each.name, 0))
        assert made[each.name] == least


def _ready(group: InstanceGroup, is_ready: bool) -> InstanceGroup:
    reason = Reason.READY if is_ready else Reason.SCALING
    return group.model_copy(update={"status": group.status.model_copy(update={"conditions": (build.said("Ready", is_ready, reason),)})})


@given(services(), st.integers(0, 3), st.frozensets(st.sampled_from(NAMES)), chance())
def test_the_status_is_stable_and_its_times_move_only_on_flips(
    described: tuple[Service, ...], steps: int, up: frozenset[str], rng: random.Random
) -> None:
    groups = world(described, rng)
    for _ in range(steps):
        groups.step()
    groups.groups = {name: _ready(each, name in up) for name, each in groups.groups.items()}
    o = groups.observed()
    first = status.report(o, plan(o), build.NOW)
    again = replace(o, infrastructure=o.infrastructure.model_copy(update={"status": first}))
    assert status.report(again, plan(again), build.NOW + timedelta(hours=1)) == first
    assert len(first.services) <= 200
    flipped = replace(again, groups=tuple(_ready(each, True) for each in o.groups))
    later = status.report(flipped, plan(flipped), build.NOW + timedelta(hours=2))
    for old, new in zip(first.conditions, later.conditions, strict=True):
        assert (old.last_transition_time == new.last_transition_time) == (old.status == new.status), (old, new)


def _times(conditions: tuple[Condition, ...]) -> list[str]:
    return [each.last_transition_time.isoformat() for each in conditions]


def test_ready_is_said_only_when_every_group_is_ready_and_nothing_is_planned() -> None:
    groups = world((build.service("a"), build.service("b", "a")), random.Random(0))
    groups.converge()
    groups.groups = {name: _ready(each, True) for name, each in groups.groups.items()}
    o = groups.observed()
    assert status.report(o, plan(o), build.NOW).ready == "2/2"
    assert status.report(o, plan(o), build.NOW).phase == "Ready"
    groups.groups["a"] = _ready(groups.groups["a"], False)
    o = groups.observed()
    assert status.report(o, plan(o), build.NOW).phase == "Reconciling"
    assert _times(status.report(o, plan(o), build.NOW).conditions) == [build.NOW.isoformat()] * 3


def test_a_group_holds_as_many_variables_as_may_be_written_above_it() -> None:
    def some(letter: str) -> tuple[Variable, ...]:
        return tuple(Variable(name=f"{letter}{number}", value="x") for number in range(VARIABLES))

    described = InfrastructureSpec(services=(build.service("a").model_copy(update={"variables": some("s")}),), variables=some("i"))
    metadata = build.infrastructure().metadata
    todo = plan(Observed(Infrastructure(metadata=metadata, spec=described), templates={"template": TemplateFacts()}))
    (made,) = todo.actions
    assert isinstance(made, CreateGroup)
    assert len(made.spec.variables) == 2 * VARIABLES
