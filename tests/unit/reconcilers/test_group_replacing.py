"""Which failed Instances of a group are replaced, case by case: the brake, the back-off, lack of room."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.api import meta
from controller.api.group import InstanceGroupStatus, Replacement
from controller.api.instance import Batch, Instance
from controller.api.reasons import Reason
from controller.reconcilers.instancegroup.observed import Hold, Observed
from controller.reconcilers.instancegroup.plan import Create, plan
from controller.reconcilers.instancegroup.replacing import BACK_OFF_FORGOTTEN, BACK_OFF_MOST, back_off
from tests.properties.build import NOW, group, instance, launched, seconds, stands
from tests.unit.reconcilers.groups import created, gone, held, observed, up


def _uids(o: Observed, *names: str) -> tuple[str, ...]:
    found = {each.metadata.name: each.metadata.uid for each in o.instances}
    return tuple(found[name] for name in names)


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
    assert create == Create((1,) * most, _uids(o, *gone(todo))), "what they replace is noted, so that the next step can count"
    stand_ins = tuple(stands(100 + n, False, Reason.BOOTING, annotations={meta.REPLACES: uid}) for n, uid in enumerate(create.replaces))
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


def _stand_ins(reason: Reason, *indexes: int) -> tuple[Instance, ...]:
    return tuple(stands(index, False, reason, annotations={meta.REPLACES: "one that went"}) for index in indexes)


@pytest.mark.parametrize(
    "reason", [pytest.param(Reason.STARTUP_TIMEOUT, id="may still run"), pytest.param(Reason.MACHINE_ENDED, id="certainly gone")]
)
def test_what_stands_in_for_others_and_fails_is_replaced_and_counts_on(reason: Reason) -> None:
    o = observed(*(stands(index, False, Reason.PROBE_FAILED) for index in range(8)), *_stand_ins(reason, 8, 9))
    todo = plan(o)
    assert gone(todo) == ["shop-app-8", "shop-app-9"]
    assert [each.replaces for each in todo.actions if isinstance(each, Create)] == [_uids(o, "shop-app-8", "shop-app-9")]


def test_who_stands_in_counts_though_it_is_made_later_than_its_predecessor_goes() -> None:
    """By a next process, or after a change of the number was heard: the one that went tells of nothing any more."""
    ill = tuple(stands(index, False, Reason.PROBE_FAILED) for index in range(10))
    o = observed(*ill)
    todo = plan(o)
    assert todo.replacement is not None
    assert todo.replacement.unmade == _uids(o, *gone(todo))
    noted = InstanceGroupStatus(replacement=todo.replacement)
    left = tuple(each for each in ill if each.metadata.name not in gone(todo))
    later = observed(*left, group=group(replicas=10, status=noted))
    assert [each.replaces for each in plan(later).actions if isinstance(each, Create)] == [todo.replacement.unmade]
    one, other = todo.replacement.unmade
    made = stands(10, False, Reason.BOOTING, annotations={meta.REPLACES: one})
    again = plan(replace(later, instances=(*left, made)))
    assert [each.replaces for each in again.actions if isinstance(each, Create)] == [(other,)]
    assert again.replacement is not None
    assert again.replacement.unmade == (other,)
    well = plan(replace(later, instances=o.instances[:9])).replacement
    assert well is not None
    assert well.unmade == (), "they were not deleted after all"
    fewer = plan(replace(later, group=group(replicas=8, status=noted))).replacement
    assert fewer is not None
    assert fewer.unmade == (), "nobody is made in their place any more"


@pytest.mark.parametrize(
    ("spec", "more"),
    [
        pytest.param({"revision": "shop-app-0"}, {"revision": "shop-app-1"}, id="the template was corrected"),
        pytest.param({}, {"stranded": frozenset({"shop-app-8", "shop-app-9"})}, id="its Cloud goes"),
        pytest.param({"batch": Batch(id="b", index=1, size=3)}, {}, id="the first of its batch was not made"),
    ],
)
def test_who_stands_in_and_is_made_anew_without_a_launch_has_a_stand_in_too(spec: dict[str, Any], more: dict[str, Any]) -> None:
    """It goes by no failure of its own, and others are made by a later pass."""
    noted = group(replicas=10, status=InstanceGroupStatus(replacement=Replacement(consecutive=1, time=NOW)))
    annotations = {meta.REPLACES: "one that went"}
    unlaunched = tuple(instance(index, spec=spec, annotations=annotations) for index in (8, 9))
    o = observed(*(stands(index, False, Reason.PROBE_FAILED) for index in range(8)), *unlaunched, group=noted, **more)
    todo = plan(o)
    assert gone(todo) == ["shop-app-8", "shop-app-9"]
    assert created(todo) == 0
    assert todo.replacement is not None
    assert todo.replacement.unmade == _uids(o, "shop-app-8", "shop-app-9")
    going = tuple(each.model_copy(update={"metadata": each.metadata.model_copy(update={"deletion_timestamp": NOW})}) for each in unlaunched)
    then = group(replicas=10, status=InstanceGroupStatus(replacement=todo.replacement))
    after = plan(replace(o, instances=(*o.instances[:8], *going), group=then, **more))
    assert [each.replaces for each in after.actions if isinstance(each, Create)] == [todo.replacement.unmade]


def test_one_that_was_ready_once_stands_in_for_nobody_any_more() -> None:
    (again,) = _stand_ins(Reason.PROBE_FAILED, 1)
    served = again.model_copy(update={"status": again.status.model_copy(update={"ready_time": NOW})})
    todo = plan(observed(stands(0, False, Reason.PROBE_FAILED), served, *up(5)[2:]))
    assert gone(todo) == ["shop-app-0"]


def test_what_a_restore_makes_look_like_stand_ins_is_braked_too() -> None:
    assert len(gone(plan(observed(*_stand_ins(Reason.STARTUP_TIMEOUT, *range(10)))))) == 2
    assert gone(plan(observed(*_stand_ins(Reason.STARTUP_TIMEOUT, *range(8)), *_stand_ins(Reason.BOOTING, 8, 9)))) == []


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


def test_a_back_off_by_a_clock_that_was_set_back_since_is_no_longer_than_the_longest() -> None:
    noted = Replacement(consecutive=2, time=NOW + seconds(7200), due=NOW + seconds(7220))
    o = observed(stands(0, False, Reason.MACHINE_ENDED), group=group(replicas=1, status=InstanceGroupStatus(replacement=noted)))
    todo = plan(o)
    assert (gone(todo), held(todo)) == ([], Reason.BACK_OFF)
    assert todo.again is not None
    assert todo.again - o.now <= BACK_OFF_MOST * 1.1
    assert todo.replacement is not None
    assert todo.replacement.due == todo.again, "it is counted from when it was first seen"
    later = replace(o, group=group(replicas=1, status=InstanceGroupStatus(replacement=todo.replacement)), now=todo.again)
    assert gone(plan(later)) == ["shop-app-0"]


def test_a_quiet_group_begins_its_back_off_anew() -> None:
    old = group(replicas=1, status=InstanceGroupStatus(replacement=Replacement(consecutive=9, time=NOW)))
    ill = stands(0, False, Reason.MACHINE_ENDED)
    starting = seconds(ill.spec.health.startup_seconds)
    assert held(plan(observed(ill, group=old, now=NOW + BACK_OFF_FORGOTTEN + starting - seconds(1)))) is Reason.BACK_OFF
    o = observed(ill, group=old, now=NOW + BACK_OFF_FORGOTTEN + starting + seconds(1))
    todo = plan(o)
    assert gone(todo) == ["shop-app-0"]
    assert todo.replacement == Replacement(consecutive=1, time=o.now)


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
    assert [each.replaces for each in todo.actions if isinstance(each, Create)] == [_uids(o, *sorted(gone(todo)))]
    assert len(gone(plan(replace(o, narrow="")))) == 10
    coming = plan(replace(o, instances=(*o.instances[:49], instance(49))))
    assert (coming.actions, held(coming)) == ((), Reason.BRAKED), "what is made of it is not known"
