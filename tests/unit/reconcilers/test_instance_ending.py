"""The end of an Instance, case by case: what its user reads, and what is done before it is let go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from controller.api import meta
from controller.api.instance import InstanceStatus
from controller.api.reasons import Reason
from controller.ports import MachineState
from controller.reconcilers.instance import status
from controller.reconcilers.instance.observed import Acts, Attempt, CloudView, First, Observed, Owner, Sent, Sight
from controller.reconcilers.instance.plan import plan
from controller.reconcilers.instance.steps import Action, Close, Release, Terminate
from tests.properties import build
from tests.properties.build import NOW, launched, machine, seconds
from tests.unit.reconcilers.instances import BOUND, CLOSED, ending, observed, sees


def _release(reason: Reason) -> Callable[[tuple[Action, ...]], bool]:
    return lambda actions: [each.reason for each in actions if isinstance(each, Release)] == [reason] and len(actions) == 1


@pytest.mark.parametrize(
    ("o", "expected", "reason"),
    [
        pytest.param(ending(BOUND, sight=sees(MachineState.RUNNING)), (Terminate((machine().id,)),), Reason.TERMINATING, id="ends"),
        pytest.param(
            ending(BOUND, sight=sees(MachineState.RUNNING), acts=Acts(terminated=NOW + seconds(50))), (), Reason.TERMINATING, id="was asked"
        ),
        pytest.param(
            ending(BOUND, sight=sees(MachineState.RUNNING), acts=Acts(terminated=NOW)),
            (Terminate((machine().id,)),),
            Reason.TERMINATING,
            id="is asked again",
        ),
        pytest.param(ending(BOUND, sight=sees(MachineState.SHUTTING_DOWN)), (), Reason.TERMINATING, id="is ending"),
        pytest.param(ending(BOUND, sight=sees(MachineState.TERMINATED)), (Close(),), Reason.TERMINATING, id="ended: its launch is closed"),
        pytest.param(ending(BOUND, sight=sees(MachineState.TERMINATED), acts=CLOSED), _release(Reason.DELETED), Reason.DELETED, id="ended"),
        pytest.param(ending(BOUND, acts=CLOSED), (), Reason.TERMINATING, id="a list that lacks it is no proof"),
        pytest.param(
            ending(BOUND, acts=CLOSED, sight=Sight(listed=NOW, machines=(machine("m-1", MachineState.TERMINATED),))),
            (),
            Reason.TERMINATING,
            id="nor is another machine's end",
        ),
        pytest.param(
            ending(BOUND, acts=CLOSED, sight=Sight(listed=NOW, gone=True)), (), Reason.TERMINATING, id="nor NotFound of a young one"
        ),
        pytest.param(
            ending(BOUND, acts=CLOSED, sight=Sight(listed=NOW, gone=True), now=NOW + seconds(120)),
            _release(Reason.DELETED),
            Reason.DELETED,
            id="NotFound is",
        ),
        pytest.param(ending(acts=CLOSED, sight=Sight(listed=NOW + seconds(1))), _release(Reason.DELETED), Reason.DELETED, id="never sent"),
        pytest.param(ending(acts=CLOSED), (), Reason.TERMINATING, id="never sent, but that list is older"),
        pytest.param(
            ending(launched(), acts=CLOSED, sight=Sight(listed=NOW + seconds(60))),
            (),
            Reason.TERMINATING,
            id="sent and unknown: may appear",
        ),
        pytest.param(
            ending(launched(), acts=CLOSED, sight=Sight(listed=NOW + seconds(121))), _release(Reason.DELETED), Reason.DELETED, id="did not"
        ),
        pytest.param(
            ending(launched(), acts=Acts(closed=NOW + seconds(900)), sight=Sight(listed=NOW + seconds(901))),
            (),
            Reason.TERMINATING,
            id="sent and unknown: an earlier process may have sent until it ended",
        ),
        pytest.param(ending(launched(), attempt=Attempt(Sent.IN_FLIGHT, at=NOW)), (), Reason.LAUNCHING, id="a call is on its way"),
        pytest.param(
            ending(launched(), attempt=Attempt(machine=machine("m-0", MachineState.PENDING), at=NOW)),
            (Terminate((machine().id,)),),
            Reason.TERMINATING,
            id="made, and no list shows it yet",
        ),
        pytest.param(ending(BOUND, owner=Owner(blockers=("web",))), (), Reason.WAITING_FOR_DEPENDENTS, id="waits its turn"),
        pytest.param(ending(BOUND, annotations={meta.SCALE_IN: "true"}), (), Reason.SCALING, id="waits to be counted"),
        pytest.param(
            ending(BOUND, annotations={meta.SCALE_IN: "true"}, owner=Owner(counted=True), sight=sees(MachineState.RUNNING)),
            (Terminate((machine().id,)),),
            Reason.TERMINATING,
            id="counted",
        ),
        pytest.param(
            ending(BOUND, annotations={meta.SCALE_IN: "true"}, owner=Owner(going=True), sight=sees(MachineState.RUNNING)),
            (Terminate((machine().id,)),),
            Reason.TERMINATING,
            id="counts no more",
        ),
        pytest.param(
            ending(BOUND, sight=sees(MachineState.RUNNING), rival=build.instance(1)),
            _release(Reason.DUPLICATE_MACHINE),
            Reason.DUPLICATE_MACHINE,
            id="a copy",
        ),
        pytest.param(ending(BOUND, sight=sees(MachineState.RUNNING), elsewhere="other"), (), Reason.FROZEN, id="a copy, maybe"),
        pytest.param(ending(BOUND, owner=Owner(exists=False)), _release(Reason.OWNER_MISSING), Reason.OWNER_MISSING, id="no owner"),
        pytest.param(ending(BOUND, annotations={meta.ABANDON: "m-0"}), _release(Reason.ABANDONED), Reason.ABANDONED, id="given up"),
        pytest.param(
            ending(BOUND, annotations={meta.ABANDON: "m-1"}, cloud=CloudView(exists=True)), (), Reason.WAITING_FOR_CLOUD, id="another"
        ),
        pytest.param(
            ending(BOUND, annotations={meta.ABANDON: "batch-0"}, cloud=CloudView(exists=True)), (), Reason.WAITING_FOR_CLOUD, id="its batch"
        ),
        pytest.param(ending(cloud=CloudView()), (), Reason.WAITING_FOR_CLOUD, id="no Cloud, launched by no record"),
        pytest.param(
            ending(cloud=CloudView(), annotations={meta.ABANDON: "batch-0"}), _release(Reason.ABANDONED), Reason.ABANDONED, id="its way out"
        ),
        pytest.param(ending(BOUND, cloud=CloudView()), (), Reason.WAITING_FOR_CLOUD, id="no Cloud, launched"),
        pytest.param(
            ending(BOUND, acts=CLOSED, sight=replace(sees(MachineState.TERMINATED), trouble="no list")),
            (),
            Reason.TERMINATING,
            id="in doubt",
        ),
    ],
)
def test_an_end(o: Observed, expected: Any, reason: Reason) -> None:
    todo = plan(o)
    assert expected(todo.actions) if callable(expected) else todo.actions == expected
    assert todo.stand.reason is reason


def test_the_id_of_what_was_made_is_recorded_while_it_ends_though_no_list_shows_it() -> None:
    o = ending(launched(), attempt=Attempt(machine=machine("m-0", MachineState.PENDING), at=NOW))
    recorded = status.report(o.instance, plan(o).stand, o.now).machine
    assert recorded is not None
    assert recorded.id == "m-0"


@pytest.mark.parametrize(
    ("told", "changed"),
    [
        pytest.param(False, {}, id="may be gone in a moment"),
        pytest.param(True, {"now": NOW + seconds(60)}, id="takes long"),
        pytest.param(True, {"owner": Owner()}, id="one of a few"),
        pytest.param(True, {"acts": Acts(terminated=NOW, trouble="not allowed")}, id="is refused"),
        pytest.param(True, {"cloud": CloudView(exists=True, message="no answer")}, id="its cloud gives no answer"),
        pytest.param(True, {"owner": Owner(fleet=True, blockers=("web",))}, id="waits for others"),
        pytest.param(False, {"cloud": CloudView(exists=True, unasked=True)}, id="its cloud was not asked by this process"),
    ],
)
def test_that_a_machine_of_a_fleet_ends_is_told_when_it_takes_long(told: bool, changed: dict[str, Any]) -> None:
    o = ending(BOUND, **{"sight": sees(MachineState.SHUTTING_DOWN), "owner": Owner(fleet=True), "now": NOW + seconds(50), **changed})
    assert plan(o).stand.untold is not told


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(launched(), id="its id is to be recorded"),
        pytest.param(
            BOUND.model_copy(update={"conditions": (build.said("Ready", False, Reason.WAITING_FOR_DEPENDENTS),)}), id="other words stand"
        ),
    ],
)
def test_what_is_to_be_recorded_of_an_end_is_written_at_once(before: InstanceStatus) -> None:
    o = ending(before, sight=sees(MachineState.SHUTTING_DOWN), owner=Owner(fleet=True), now=NOW + seconds(50))
    assert not plan(o).stand.untold


# --- later members of a batch ---------------------------------------------------------------------------------------
LATE = Sight(listed=NOW + seconds(121))


@pytest.mark.parametrize(
    ("o", "reason"),
    [
        pytest.param(observed(first=First.UNSENT), Reason.RECONCILING, id="its first waits"),
        pytest.param(observed(first=First.UNSENT, first_said=(Reason.LIMIT_REACHED, "full")), Reason.LIMIT_REACHED, id="and says why"),
        pytest.param(observed(first=First.NEVER), Reason.RECONCILING, id="its first goes: the group plans again"),
        pytest.param(observed(first=First.GONE), Reason.RECONCILING, id="its first is not there"),
        pytest.param(observed(launched(), first=First.SENT), Reason.RECONCILING, id="launched a moment ago"),
        pytest.param(
            observed(launched(), first=First.SENT, attempt=Attempt(Sent.UNKNOWN, Reason.THROTTLED, "slow", at=NOW)),
            Reason.THROTTLED,
            id="put off",
        ),
        pytest.param(
            observed(launched(), first=First.SENT, attempt=Attempt(Sent.REFUSED, Reason.NO_CAPACITY, "full", at=NOW)),
            Reason.NO_CAPACITY,
            id="refused",
        ),
        pytest.param(
            observed(launched(), first=First.SENT, attempt=Attempt(Sent.DOUBTFUL, Reason.NO_CAPACITY, "full", at=NOW)),
            Reason.LAUNCHING,
            id="refused, and an earlier call may have made it",
        ),
        pytest.param(observed(launched(), first=First.LEAVING), Reason.LAUNCHING, id="looked for by tag"),
        pytest.param(observed(launched(), first=First.GONE, sight=LATE, now=NOW + seconds(122)), Reason.LAUNCH_LOST, id="and not found"),
    ],
)
def test_a_later_member_hears_and_never_sends(o: Observed, reason: Reason) -> None:
    todo = plan(o)
    assert todo.actions == ()
    assert todo.stand.reason is reason


@pytest.mark.parametrize(
    ("o", "goes"),
    [
        pytest.param(ending(first=First.UNSENT, sight=LATE), False, id="its first could still launch it"),
        pytest.param(ending(first=First.NEVER), True, id="its first goes unlaunched"),
        pytest.param(ending(first=First.GONE), False, id="its first is gone, nobody knows how"),
        pytest.param(ending(first=First.GONE, sight=LATE, now=NOW + seconds(122)), True, id="and nothing has shown since"),
        pytest.param(ending(launched(), first=First.SENT, sight=LATE), False, id="launched: nothing is known yet"),
        pytest.param(
            ending(launched(), first=First.SENT, sight=LATE, attempt=Attempt(Sent.UNKNOWN, Reason.CLOUD_UNREACHABLE, "?", at=NOW)),
            False,
            id="its first sends again",
        ),
        pytest.param(
            ending(launched(), first=First.SENT, attempt=Attempt(Sent.REFUSED, Reason.NO_CAPACITY, "full", at=NOW)), True, id="refused"
        ),
        pytest.param(
            ending(launched(), first=First.SENT, attempt=Attempt(Sent.DOUBTFUL, Reason.NO_CAPACITY, "full", at=NOW)),
            False,
            id="refused, and an earlier call may have made it",
        ),
        pytest.param(
            ending(launched(), first=First.SENT, attempt=Attempt(Sent.DOUBTFUL, Reason.NO_CAPACITY, "full", at=NOW), sight=LATE),
            True,
            id="refused, and an earlier call made nothing",
        ),
        pytest.param(
            ending(
                launched().model_copy(update={"conditions": (build.said("Launched", False, Reason.NO_CAPACITY),)}),
                first=First.SENT,
                attempt=Attempt(Sent.UNKNOWN, Reason.CLOUD_UNREACHABLE, "?", at=NOW, unanswered=True),
            ),
            False,
            id="refused, by an answer to an earlier call",
        ),
        pytest.param(ending(launched(), first=First.LEAVING), False, id="its first goes: what was sent may show"),
        pytest.param(ending(launched(), first=First.LEAVING, sight=LATE, now=NOW + seconds(122)), True, id="and has not"),
    ],
)
def test_a_later_member_goes_once_nothing_can_make_its_machine(o: Observed, goes: bool) -> None:
    assert any(isinstance(each, Release) for each in plan(o).actions) is goes
    assert not any(isinstance(each, Close) for each in plan(o).actions), "the launch is the first one's to close"
