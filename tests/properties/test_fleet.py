"""The plans of a group and of its Instances together, against a cloud that fails on command: both promises are kept.

What must never happen is judged at each step by `oracles`; here stands what happens, and that all is well in the end.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.api import meta
from controller.api.infrastructure import Scaling
from tests.properties.build import seconds
from tests.properties.cloud import TruthCloud, Vm
from tests.properties.draws import Seeded, chance
from tests.properties.fleet import Fleet

Event = Callable[[Fleet, int], None]


def _vm(fleet: Fleet, number: int, do: Callable[[Vm], None]) -> None:
    live = fleet.cloud.live(fleet.now)
    if live:
        do(live[number % len(live)])


def _instance(fleet: Fleet, number: int, do: Callable[[str], None]) -> None:
    names = sorted(fleet.lives)
    if names:
        do(names[number % len(names)])


def _stop(vm: Vm, fleet: Fleet) -> None:
    vm.stopped = fleet.now


def _break(vm: Vm, fleet: Fleet) -> None:
    vm.broken = fleet.now


def _sicken(vm: Vm, fleet: Fleet) -> None:
    vm.sick = fleet.now


def _vanish(vm: Vm, fleet: Fleet) -> None:
    fleet.cloud.kill(vm, fleet.now)
    vm.vanished = True


def _trouble(fleet: Fleet, number: int) -> None:
    fleet.faults.trouble = "" if fleet.faults.trouble else "no answer"


def _paused(fleet: Fleet, number: int) -> None:
    fleet.faults.paused = not fleet.faults.paused


def _hold(fleet: Fleet, number: int) -> None:
    fleet.faults.hold = not fleet.faults.hold


def _available(fleet: Fleet, number: int) -> None:
    fleet.faults.available = not fleet.faults.available


def _secret(fleet: Fleet, number: int) -> None:
    fleet.faults.missing_secret = not fleet.faults.missing_secret


def _slow(fleet: Fleet, number: int) -> None:
    fleet.faults.slow = seconds(0 if fleet.faults.slow else 1 + number % 20)


def _never_healthy(fleet: Fleet, number: int) -> None:
    fleet.cloud.unhealthy_next = number % 4


def _no_answer(fleet: Fleet, number: int) -> None:
    for _ in range(1 + number % 3):
        fleet.faults.outcomes.append("transient")


def _revise(fleet: Fleet, number: int) -> None:
    """The template is changed, or changed back."""
    fleet.revision = 1 + number % 3


def _denied(fleet: Fleet, number: int) -> None:
    for _ in range(1 + number % 5):
        fleet.faults.outcomes.append("denied")


def _cut(fleet: Fleet, number: int) -> None:
    fleet.faults.cut = number % 4


#: What can happen, by name. The number chooses whom it happens to, or how much.
EVENTS: dict[str, Event] = {
    "second": lambda fleet, number: fleet.step(1.0),
    "while": lambda fleet, number: fleet.step(1.0 + number % 15),
    "minute": lambda fleet, number: fleet.step(20.0 + number % 60),
    "long": lambda fleet, number: fleet.step(320.0),
    "kill": lambda fleet, number: _vm(fleet, number, lambda vm: fleet.cloud.kill(vm, fleet.now)),
    "stop": lambda fleet, number: _vm(fleet, number, lambda vm: _stop(vm, fleet)),
    "break": lambda fleet, number: _vm(fleet, number, lambda vm: _break(vm, fleet)),
    "sicken": lambda fleet, number: _vm(fleet, number, lambda vm: _sicken(vm, fleet)),
    "vanish": lambda fleet, number: _vm(fleet, number, lambda vm: _vanish(vm, fleet)),
    "refuse capacity": lambda fleet, number: fleet.faults.outcomes.append("capacity"),
    "refuse quota": lambda fleet, number: fleet.faults.outcomes.append("quota"),
    "refuse invalid": lambda fleet, number: fleet.faults.outcomes.append("invalid"),
    "lose the reply": lambda fleet, number: fleet.faults.outcomes.append("lost"),
    "no answer": _no_answer,
    "deny": _denied,
    "revise": _revise,
    "never healthy": _never_healthy,
    "slow calls": _slow,
    "list in doubt": _trouble,
    "pause": _paused,
    "hold": _hold,
    "dependency": _available,
    "secret": _secret,
    "scale": lambda fleet, number: fleet.scale(number % 7),
    "delete": lambda fleet, number: _instance(fleet, number, fleet.delete),
    "scale in": lambda fleet, number: _instance(fleet, number, lambda name: fleet.delete(name, **{meta.SCALE_IN: "true"})),
    "crash": lambda fleet, number: fleet.crash(),
    "cut": _cut,
    "restore": lambda fleet, number: _instance(fleet, number, fleet.restore),
}

#: Time passes between most events.
SCRIPTS = st.lists(st.tuples(st.sampled_from(sorted(EVENTS)), st.integers(0, 99)), max_size=25)
CLOUDS = st.builds(TruthCloud, lag=st.sampled_from((0, 0, 5, 45, 100)).map(seconds), certain=st.booleans())


def play(fleet: Fleet, script: list[tuple[str, int]]) -> None:
    for name, number in script:
        EVENTS[name](fleet, number)
        if fleet.rng.random() < 0.7:
            fleet.step(fleet.rng.choice((1.0, 2.0, 10.0, 35.0)))


@given(chance(), CLOUDS, st.integers(0, 7), SCRIPTS)
def test_whatever_happens_the_group_comes_to_be_as_wanted(
    rng: Seeded, cloud: TruthCloud, replicas: int, script: list[tuple[str, int]]
) -> None:
    fleet = Fleet(rng, replicas=replicas, cloud=cloud)
    play(fleet, script)
    fleet.settle()
    assert fleet.planned is not None
    assert fleet.planned.progress is None


@given(chance(), CLOUDS, st.integers(0, 7), SCRIPTS)
def test_whatever_happens_a_deleted_group_ends_and_leaves_nothing(
    rng: Seeded, cloud: TruthCloud, replicas: int, script: list[tuple[str, int]]
) -> None:
    fleet = Fleet(rng, replicas=replicas, cloud=cloud)
    play(fleet, script)
    fleet.delete_group()
    play(fleet, script[:5])
    fleet.settle()
    assert fleet.gone
    assert fleet.cloud.live(fleet.now) == []
    assert not any(call.identity.batch_id not in fleet.cloud.tokens | dict.fromkeys(fleet.cloud.closed) for call in fleet.calls)


def test_a_refusal_is_no_proof_while_an_earlier_call_is_on_its_way() -> None:
    """What hypothesis found: by the process that died, refused to the next one, and carried out after the group was gone."""
    fleet = Fleet(Seeded(0), cloud=TruthCloud(certain=False))
    fleet.faults.slow = seconds(20)
    fleet.step()
    fleet.step()
    assert fleet.calls, "a launch is on its way"
    fleet.crash()
    fleet.faults.slow = seconds(0)
    fleet.faults.outcomes.append("capacity")
    fleet.step()
    fleet.delete_group()
    fleet.settle()
    assert fleet.gone
    assert fleet.made == 1
    assert fleet.cloud.live(fleet.now) == []


@given(chance(), CLOUDS, st.integers(0, 9), st.tuples(st.integers(0, 3), st.integers(3, 6)), SCRIPTS)
def test_bounds_hold_whatever_is_asked_for(
    rng: Seeded, cloud: TruthCloud, replicas: int, bounds: tuple[int, int], script: list[tuple[str, int]]
) -> None:
    low, high = bounds
    fleet = Fleet(rng, replicas=replicas, cloud=cloud, scaling=Scaling(min=low, max=high))
    play(fleet, script)
    fleet.settle()
    assert low <= len(fleet.lives) <= high


#: There are 35 such groups, and each costs as much as ten stories.
@settings(max_examples=settings().max_examples // 4)
@given(chance(), st.integers(5, 11), st.integers(1, 5), st.lists(st.integers(0, 3), max_size=3))
def test_a_group_that_falls_ill_as_a_whole_is_replaced_bit_by_bit(rng: Seeded, replicas: int, sick: int, cuts: list[int]) -> None:
    """Also by processes that die between the acts of a pass."""
    fleet = Fleet(rng, replicas=replicas)
    fleet.settle()
    for vm in fleet.cloud.live(fleet.now)[:sick]:
        vm.sick = fleet.now
    for cut in cuts:
        fleet.faults.cut, fleet.cloud.unhealthy_next = cut, 1
        for _ in range(20):
            fleet.step(2.0)
    fleet.settle()


@given(chance(), st.integers(1, 6), st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True))
def test_scale_in_of_named_instances_lowers_the_count_by_as_many(rng: Seeded, replicas: int, chosen: list[int]) -> None:
    fleet = Fleet(rng, replicas=replicas)
    fleet.settle()
    names = [f"shop-app-{each}" for each in chosen if each < replicas]
    for name in names:
        fleet.delete(name, **{meta.SCALE_IN: "true"})
        fleet.step(fleet.rng.choice((0.0, 1.0, 5.0)))
    fleet.settle()
    assert fleet.group.spec.replicas == replicas - len(names)
    assert not set(names) & set(fleet.lives)


@given(chance(), st.integers(1, 6), st.integers(0, 5))
def test_a_deleted_instance_is_replaced_and_nothing_else(rng: Seeded, replicas: int, chosen: int) -> None:
    fleet = Fleet(rng, replicas=replicas)
    fleet.settle()
    before = {life.instance.metadata.uid for life in fleet.lives.values()}
    gone = fleet.lives[f"shop-app-{chosen % replicas}"].instance.metadata.uid
    fleet.delete(f"shop-app-{chosen % replicas}")
    fleet.settle()
    after = {life.instance.metadata.uid for life in fleet.lives.values()}
    assert before - after == {gone}
