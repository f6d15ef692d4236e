"""The group's plan, case by case: release, scale, replace, claim, end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.api import meta
from controller.api.group import InstanceGroupStatus, Replacement
from controller.api.infrastructure import Scaling
from controller.api.instance import Batch, Instance
from controller.api.meta import condition
from controller.api.reasons import Reason
from controller.ports import Identity
from controller.reconcilers.instancegroup import status
from controller.reconcilers.instancegroup.observed import Dependency, Hold, Observed, Unclaimed, wanted
from controller.reconcilers.instancegroup.plan import AddFinalizer, Claim, Create, Delete, Plan, RefuseScaleIn, Release, ScaleIn, plan
from controller.reconcilers.instancegroup.replacing import BACK_OFF_FORGOTTEN, back_off
from tests.properties.build import NOW, group, instance, launched, machine, seconds, stands


def observed(*instances: Instance, **more: Any) -> Observed:
    fields: dict[str, Any] = {"group": group(replicas=len(instances)), "instances": instances, "now": NOW, "revision": "shop-app-1"}
    return Observed(**(fields | more))


def up(number: int) -> tuple[Instance, ...]:
    return tuple(stands(index, True) for index in range(number))


def gone(todo: Plan) -> list[str]:
    return [each.name for each in todo.actions if isinstance(each, Delete)]


def created(todo: Plan) -> int:
    return sum(each.count for each in todo.actions if isinstance(each, Create))


def held(todo: Plan) -> Reason | None:
    return None if todo.progress is None else todo.progress.reason


@pytest.mark.parametrize(
    ("replicas", "scaling", "expected"),
    [
        pytest.param(3, None, 3, id="no bounds"),
        pytest.param(0, None, 0, id="nothing"),
        pytest.param(1, Scaling(min=2), 2, id="below min"),
        pytest.param(9, Scaling(min=2, max=5), 5, id="above max"),
        pytest.param(9, Scaling(min=2), 9, id="no max"),
        pytest.param(3, Scaling(min=0, max=0), 0, id="none allowed"),
        pytest.param(0, Scaling(min=0, max=5), 0, id="min 0"),
    ],
)
def test_wanted(replicas: int, scaling: Scaling | None, expected: int) -> None:
    each = group(replicas=replicas, spec={"scaling": scaling})
    assert wanted(each) == expected
    o = observed(group=each)
    said = condition(status.report(o, plan(o)).conditions, "Scaled")
    assert said is not None
    assert (said.status == "False") == (expected != replicas)


@pytest.mark.parametrize(
    ("o", "reason"),
    [
        pytest.param(
            observed(group=group(replicas=2, needs=("db",)), dependencies=(Dependency("db", False, "0 of 1"),)),
            Reason.WAITING_FOR_DEPENDENCIES,
            id="a dependency is not Available",
        ),
        pytest.param(observed(group=group(replicas=2), hold=Hold(Reason.NO_ADDRESS, "db")), Reason.NO_ADDRESS, id="nothing to tell"),
        pytest.param(observed(group=group(replicas=2, spec={"paused": True})), Reason.PAUSED, id="paused"),
        pytest.param(
            observed(group=group(replicas=2), unclaimed=(Unclaimed(machine(), ("sim",)),)), Reason.UNCLAIMED, id="a machine is unclaimed"
        ),
        pytest.param(
            observed(group=group(replicas=2), duplicates=(Identity("b", 0),)), Reason.DUPLICATE_MACHINE, id="two machines of one identity"
        ),
    ],
)
def test_what_holds_creation_back(o: Observed, reason: Reason) -> None:
    todo = plan(o)
    assert created(todo) == 0
    assert held(todo) is reason


def test_a_dependency_that_was_available_once_holds_nothing_back() -> None:
    latched = group(replicas=2, needs=("db",), status=InstanceGroupStatus(released=True))
    o = observed(group=latched, dependencies=(Dependency("db", False, "0 of 1"),))
    assert plan(o).actions == (Create((1, 1)),)
    assert status.report(o, plan(o)).released


def test_scale_in_takes_what_is_not_ready_first_and_then_the_youngest() -> None:
    def born(index: int, age: float, ready: bool) -> Instance:
        return stands(index, ready, Reason.READY if ready else Reason.BOOTING, creation_timestamp=NOW - seconds(age))

    all = (born(0, 500, True), born(1, 100, True), born(2, 300, False), born(3, 900, True), born(4, 50, False))
    order = [gone(plan(observed(*all, group=group(replicas=number)))) for number in (4, 3, 2, 1, 0)]
    assert order[0] == ["shop-app-4"]
    assert sorted(order[1]) == ["shop-app-2", "shop-app-4"]
    assert sorted(set(order[2]) - set(order[1])) == ["shop-app-1"]
    assert sorted(set(order[3]) - set(order[2])) == ["shop-app-0"]
    assert len(order[4]) == 5


@pytest.mark.parametrize(
    "reason",
    [
        pytest.param(each, id=each.value)
        for each in (Reason.STARTUP_TIMEOUT, Reason.MACHINE_STOPPED, Reason.MACHINE_MISSING, Reason.MACHINE_ERROR, Reason.PROBE_FAILED)
    ],
)
@pytest.mark.parametrize(
    ("size", "most"),
    [pytest.param(3, 1, id="of 3"), pytest.param(9, 1, id="of 9"), pytest.param(10, 2, id="of 10"), pytest.param(25, 5, id="of 25")],
)
def test_the_brake(reason: Reason, size: int, most: int) -> None:
    o = observed(*(stands(index, False, reason) for index in range(size)))
    todo = plan(o)
    assert len(gone(todo)) == most
    (create,) = [each for each in todo.actions if isinstance(each, Create)]
    assert create == Create((1,) * most, tuple(gone(todo))), "what they replace is noted, so that the next step can count"
    stand_ins = tuple(stands(100 + n, False, Reason.BOOTING, annotations={meta.REPLACES: name}) for n, name in enumerate(gone(todo)))
    left = tuple(each for each in o.instances if each.metadata.name not in gone(todo))
    braked = plan(observed(*left, *stand_ins))
    assert gone(braked) == []
    assert held(braked) is Reason.BRAKED


@pytest.mark.parametrize(
    "reason",
    [
        pytest.param(each, id=each.value)
        for each in (Reason.MACHINE_ENDED, Reason.NO_CAPACITY, Reason.QUOTA_EXCEEDED, Reason.CLOUD_INVALID, Reason.LAUNCH_LOST)
    ],
)
def test_what_is_certainly_gone_is_not_braked(reason: Reason) -> None:
    todo = plan(observed(*(stands(index, False, reason) for index in range(5))))
    assert (len(gone(todo)), created(todo)) == (5, 5)
    assert [each.replaces for each in todo.actions if isinstance(each, Create)] == [()]


@pytest.mark.parametrize(
    "reason",
    [
        pytest.param(each, id=each.value)
        for each in (
            Reason.BOOTING,
            Reason.STARTING,
            Reason.LAUNCHING,
            Reason.DUPLICATE_MACHINE,
            Reason.MACHINE_UNKNOWN,
            Reason.LIMIT_REACHED,
        )
    ],
)
def test_what_may_still_come_is_not_replaced(reason: Reason) -> None:
    assert plan(observed(stands(0, False, reason))).actions == ()


def test_nothing_that_may_still_run_is_ended_while_nothing_can_be_made() -> None:
    o = observed(
        stands(0, False, Reason.PROBE_FAILED), stands(1, False, Reason.MACHINE_ENDED), hold=Hold(Reason.TEMPLATE_INVALID, "line 1")
    )
    assert gone(plan(o)) == ["shop-app-1"]
    assert held(plan(replace(o, instances=o.instances[:1], group=group(replicas=1)))) is Reason.TEMPLATE_INVALID


def test_a_machine_that_lacks_counts_against_the_brake() -> None:
    going = instance(0, deleting=True)
    o = observed(going, stands(1, False, Reason.PROBE_FAILED), group=group(replicas=2))
    todo = plan(o)
    assert gone(todo) == []
    assert created(todo) == 1


@pytest.mark.parametrize("doubt", [pytest.param("Cloud sim gives no list", id="doubt")])
def test_in_doubt_nothing_is_destroyed(doubt: str) -> None:
    failing = observed(*(stands(index, False, Reason.MACHINE_ENDED) for index in range(4)), in_doubt=doubt)
    assert plan(failing).actions == ()
    assert held(plan(failing)) is Reason.FROZEN
    assert gone(plan(replace(observed(*up(4), group=group(replicas=1)), in_doubt=doubt))) == []


# --- back-off -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("consecutive", "plain"),
    [
        pytest.param(0, 0, id="the first at once"),
        pytest.param(1, 10, id="10 s"),
        pytest.param(2, 20, id="20 s"),
        pytest.param(5, 160, id="160 s"),
        pytest.param(6, 300, id="5 min"),
        pytest.param(1000, 300, id="no more"),
    ],
)
def test_back_off(consecutive: int, plain: float) -> None:
    waits = {back_off(consecutive, f"uid-{seed}").total_seconds() for seed in range(200)}
    assert all(0.9 * plain <= each <= 1.1 * plain for each in waits)
    assert plain == 0 or (min(waits) < 0.92 * plain and max(waits) > 1.08 * plain), "jittered over the whole range"
    assert back_off(consecutive, "uid") == back_off(consecutive, "uid"), "the same group waits equally long in every pass"


def test_a_failure_after_a_replacement_waits_and_says_until_when() -> None:
    last = Replacement(consecutive=2, time=NOW)
    waiting = group(replicas=1, status=InstanceGroupStatus(replacement=last))
    o = observed(stands(0, False, Reason.MACHINE_ENDED), group=waiting, now=NOW + seconds(5))
    todo = plan(o)
    assert (gone(todo), held(todo)) == ([], Reason.BACK_OFF)
    assert todo.again is not None
    assert seconds(18) <= todo.again - o.now <= seconds(22)
    assert todo.replacement == Replacement(consecutive=2, time=NOW, due=todo.again)
    noted = group(replicas=1, status=InstanceGroupStatus(replacement=todo.replacement))
    later = replace(o, group=noted, now=o.now + seconds(10))
    assert plan(later).again == todo.again, "it is counted from when the failure was seen"
    after = plan(replace(later, now=todo.again))
    assert gone(after) == ["shop-app-0"]
    assert after.replacement == Replacement(consecutive=3, time=todo.again)
    assert plan(replace(later, instances=(stands(0, True, Reason.READY),))).replacement == last, "it got well by itself"


def test_a_quiet_group_begins_its_back_off_anew() -> None:
    old = group(replicas=1, status=InstanceGroupStatus(replacement=Replacement(consecutive=9, time=NOW)))
    ill = stands(0, False, Reason.MACHINE_ENDED)
    starting = seconds(ill.spec.health.startup_seconds)
    assert held(plan(observed(ill, group=old, now=NOW + BACK_OFF_FORGOTTEN + starting - seconds(1)))) is Reason.BACK_OFF
    o = observed(ill, group=old, now=NOW + BACK_OFF_FORGOTTEN + starting + seconds(1))
    todo = plan(o)
    assert gone(todo) == ["shop-app-0"]
    assert todo.replacement == Replacement(consecutive=1, time=o.now)


# --- scale-in of one named Instance ---------------------------------------------------------------------------------
def marked(index: int) -> Instance:
    return instance(index, deleting=True, annotations={meta.SCALE_IN: "true"})


@pytest.mark.parametrize(
    ("o", "actions"),
    [
        pytest.param(
            observed(marked(0), *up(3)[1:], group=group(replicas=3)), (ScaleIn(2, ("shop-app-0",), ("shop-app-0",)),), id="lowered by one"
        ),
        pytest.param(
            observed(marked(0), marked(1), group=group(replicas=3)),
            (ScaleIn(1, ("shop-app-0", "shop-app-1"), ("shop-app-0", "shop-app-1")),),
            id="by two at once",
        ),
        pytest.param(
            observed(marked(0), marked(1), group=group(replicas=2, annotations={meta.SCALED_IN: "shop-app-0"})),
            (ScaleIn(1, ("shop-app-0", "shop-app-1"), ("shop-app-1",)),),
            id="the first was counted",
        ),
        pytest.param(
            observed(marked(0), group=group(replicas=9, spec={"scaling": Scaling(min=1, max=5)})),
            (ScaleIn(4, ("shop-app-0",), ("shop-app-0",)),),
            id="from the bound, not from what was asked",
        ),
        pytest.param(
            observed(marked(0), group=group(replicas=2, spec={"scaling": Scaling(min=2)})),
            (ScaleIn(2, ("shop-app-0",), ("shop-app-0",)),),
            id="not below min",
        ),
        pytest.param(
            observed(marked(0), group=group(replicas=2, spec={"fixed_replicas": 2})),
            (RefuseScaleIn("shop-app-0"), ScaleIn(2, ("shop-app-0",), ())),
            id="refused where the service fixes the count",
        ),
        pytest.param(
            observed(*up(2), group=group(replicas=2, annotations={meta.SCALED_IN: "shop-app-7"})),
            (ScaleIn(2, (), ()),),
            id="the note goes with the Instance",
        ),
    ],
)
def test_scale_in(o: Observed, actions: tuple[Any, ...]) -> None:
    assert plan(o).actions == actions


def test_what_was_counted_is_not_counted_again() -> None:
    o = observed(marked(0), *up(3)[1:], group=group(replicas=2, annotations={meta.SCALED_IN: "shop-app-0"}))
    assert plan(o).actions == ()


def test_a_mark_on_an_instance_that_stays_means_nothing() -> None:
    assert plan(observed(stands(0, True, annotations={meta.SCALE_IN: "true"}))).actions == ()


# --- claims ---------------------------------------------------------------------------------------------------------
def test_only_sure_machines_of_our_own_identity_are_claimed_each_once() -> None:
    found = (
        Unclaimed(machine("m-1", of=1), ("sim",), sure=True),
        Unclaimed(machine("m-2", of=2), ("sim",)),
        Unclaimed(machine("m-3", of=3), ("sim",), sure=True, stranger="older"),
        Unclaimed(machine("m-4", of=1), ("sim",), sure=True),
    )
    todo = plan(observed(group=group(replicas=3), unclaimed=found))
    assert todo.actions == (Claim(found[0]),)
    assert held(todo) is Reason.UNCLAIMED
    assert todo.progress is not None
    assert "spec.id: older" in todo.progress.message


def test_machines_of_which_the_template_names_no_cloud_are_not_claimed_and_said() -> None:
    found = (Unclaimed(machine("m-1", of=1), (), sure=True), Unclaimed(machine("m-2", of=2), ("sim",), sure=True))
    todo = plan(observed(group=group(replicas=3), unclaimed=found))
    assert todo.actions == (Claim(found[1]),)
    assert todo.progress is not None
    assert "1 machines of this service, m-1 for one," in todo.progress.message
    assert held(plan(observed(group=group(), unclaimed=found[:1], hold=Hold(Reason.TEMPLATE_NOT_FOUND, "no")))) is Reason.TEMPLATE_NOT_FOUND


# --- the end --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("o", "names", "reason"),
    [
        pytest.param(observed(*up(2), blockers=("web",)), [], Reason.WAITING_FOR_DEPENDENTS, id="waits its turn"),
        pytest.param(observed(*up(2)), ["shop-app-0", "shop-app-1"], Reason.WAITING_FOR_MACHINES, id="ends its machines"),
        pytest.param(observed(instance(0, deleting=True)), [], Reason.WAITING_FOR_MACHINES, id="waits for them"),
        pytest.param(observed(*up(1), in_doubt="no list"), ["shop-app-0"], Reason.WAITING_FOR_MACHINES, id="permission though in doubt"),
    ],
)
def test_ending(o: Observed, names: list[str], reason: Reason) -> None:
    going = replace(o, group=group(replicas=2, deleting=True, spec={"paused": True}))
    assert (gone(plan(going)), held(plan(going))) == (names, reason)


def test_an_empty_group_is_let_go() -> None:
    assert plan(observed(group=group(deleting=True))).actions == (Release(),)


def test_a_finalizer_that_was_dropped_is_put_back_before_all_else() -> None:
    assert plan(observed(group=group(replicas=5, finalizers=()))).actions == (AddFinalizer(),)


# --- the status -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("o", "available", "ready", "reason"),
    [
        pytest.param(observed(*up(2)), "True", "True", "Ready", id="all up"),
        pytest.param(observed(*up(1), group=group(replicas=2)), "False", "False", "Scaling", id="one lacks"),
        pytest.param(
            observed(*up(2), group=group(replicas=3, spec={"scaling": Scaling(min=2)})), "True", "False", "Scaling", id="min is up"
        ),
        pytest.param(observed(group=group(replicas=0)), "True", "True", "Ready", id="nothing wanted"),
        pytest.param(observed(stands(0, False, Reason.BOOTING)), "False", "False", "Reconciling", id="booting"),
        pytest.param(observed(*up(2), group=group(replicas=2, deleting=True)), "True", "False", "WaitingForMachines", id="going"),
    ],
)
def test_status(o: Observed, available: str, ready: str, reason: str) -> None:
    said = status.report(o, plan(o))
    found = {each.type: each.status for each in said.conditions}
    assert (found["Available"], found["Ready"], said.reason) == (available, ready, reason)
    assert said.selector == "occopus.io/group=shop-app"


def test_an_older_revision_is_said_and_counted() -> None:
    o = observed(stands(0, True), stands(1, True, spec={"revision": "older"}))
    said = status.report(o, plan(o))
    progressing = condition(said.conditions, "Progressing")
    assert progressing is not None
    assert (progressing.status, progressing.reason) == ("False", "RevisionChanged")
    assert progressing.message.startswith("1 of 2")
    assert (said.replicas, said.updated_replicas) == (2, 1)


def test_the_status_is_bounded_whatever_the_size() -> None:
    o = observed(
        *up(200), stale=frozenset(f"shop-app-{n}" for n in range(200)), duplicates=tuple(Identity(f"b-{n}", 0) for n in range(200))
    )
    said = status.report(o, plan(o))
    assert len(said.addresses) == 5
    assert all(len(each.message) <= 1024 for each in said.conditions)
    stale = condition(said.conditions, "InputsCurrent")
    assert stale is not None
    assert stale.message.endswith("and 195 more were told has changed since")


def test_nothing_moves_with_time_alone() -> None:
    o = observed(*up(1), stands(1, False, Reason.BOOTING))
    first = status.report(o, plan(o))
    later = replace(o, now=NOW + timedelta(hours=3), group=o.group.model_copy(update={"status": first}))
    assert status.report(later, plan(later)) == first


# --- no room
def _full(index: int, size: int = 1) -> Instance:
    return stands(index, False, Reason.NO_CAPACITY, spec={"batch": Batch(id="b", index=index, size=size)})


def _there(number: int) -> tuple[Instance, ...]:
    return tuple(instance(index, status=launched(machine=f"m-{index}", ready=True)) for index in range(number))


def _narrow(*instances: Instance, **more: Any) -> Observed:
    return observed(*instances, **{"group": group(replicas=10), "most": 5, "room": 100, "narrow": "one", **more})


def test_where_there_was_no_room_for_all_one_batch_is_made_and_heard_of_before_the_next() -> None:
    assert [each.sizes for each in plan(_narrow(*_there(2))).actions if isinstance(each, Create)] == [(5,)]
    assert created(plan(_narrow(*_there(2), instance(2)))) == 0, "what is made of it is not known"
    assert created(plan(_narrow(*_there(2), instance(2), narrow="two"))) == 5, "another implementation is asked"
    assert created(plan(_narrow(*_there(2), instance(2), narrow=""))) == 7


def test_what_was_refused_is_made_again_in_halves_at_once() -> None:
    todo = plan(_narrow(*(_full(index, 4) for index in range(4)), most=2))
    assert len(gone(todo)) == 4
    assert [each.sizes for each in todo.actions if isinstance(each, Create)] == [(2,)]


@pytest.mark.parametrize("size", [pytest.param(1, id="one"), pytest.param(4, id="of a kind that is had in no number")])
def test_what_had_no_room_for_one_waits_for_the_back_off_and_is_tried_by_one(size: int) -> None:
    last = InstanceGroupStatus(replacement=Replacement(consecutive=3, time=NOW))
    refused, full = tuple(_full(index, size) for index in range(size)), frozenset({"one"})
    waits = plan(_narrow(*refused, most=1, full=full, group=group(replicas=10, status=last)))
    assert waits.actions == ()
    assert held(waits) is Reason.BACK_OFF
    due = plan(_narrow(*refused, most=1, full=full))
    assert len(gone(due)) == size
    assert created(due) == 1


def test_no_more_are_replaced_at_once_than_are_made_in_their_place_where_room_is_short() -> None:
    ill = launched(ready=True).model_copy(update={"conditions": stands(0, False, Reason.PROBE_FAILED).status.conditions})
    failing = tuple(each.model_copy(update={"status": ill.model_copy(update={"machine": each.status.machine})}) for each in _there(20))
    o = _narrow(*failing, *_there(50)[20:], group=group(replicas=50), most=3)
    todo = plan(o)
    assert len(gone(todo)) == 3
    assert [each.replaces for each in todo.actions if isinstance(each, Create)] == [tuple(sorted(gone(todo)))]
    assert len(gone(plan(replace(o, narrow="")))) == 10
    coming = plan(replace(o, instances=(*o.instances[:49], instance(49))))
    assert (coming.actions, held(coming)) == ((), Reason.BRAKED), "what is made of it is not known"
