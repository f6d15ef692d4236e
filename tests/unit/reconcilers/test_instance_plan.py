"""The Instance's plan, case by case: what its user reads, and what is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from controller.api import meta
from controller.api.instance import Instance, InstanceStatus, MachineStatus
from controller.api.meta import condition
from controller.api.reasons import Reason
from controller.api.template import Health as HealthSpec
from controller.ports import MachineState
from controller.reconcilers.instance import status
from controller.reconcilers.instance.observed import Acts, Attempt, CloudView, First, Health, Observed, Owner, Sent, Sight
from controller.reconcilers.instance.plan import plan
from controller.reconcilers.instance.steps import Action, AddFinalizer, Close, Launch, Record, Release, Resend, Terminate
from tests.properties import build
from tests.properties.build import NOW, instance, launched, machine, seconds

WELL = CloudView(exists=True, ready=True)
LISTED = Sight(listed=NOW)


def observed(status: InstanceStatus | None = None, **more: Any) -> Observed:
    """An Instance on a cloud that is well and was listed, one minute after the beginning."""
    metadata = more.pop("metadata", {})
    fields: dict[str, Any] = {"instance": instance(status=status, **metadata), "now": NOW + seconds(60), "cloud": WELL, "sight": LISTED}
    return Observed(**(fields | more))


def sees(state: MachineState, id: str = "m-0") -> Sight:
    return Sight(listed=NOW, machines=(machine(id, state),))


NEW = observed()
BOUND = launched(machine="m-0")


@pytest.mark.parametrize(
    ("o", "actions", "reason"),
    [
        pytest.param(NEW, (Launch(),), Reason.WAITING_FOR_LAUNCH, id="launches"),
        pytest.param(replace(NEW, owner=Owner(exists=False)), (), Reason.WAITING_FOR_GROUP, id="no group"),
        pytest.param(replace(NEW, owner=Owner(going=True)), (), Reason.WAITING_FOR_GROUP, id="its group goes"),
        pytest.param(replace(NEW, owner=Owner(paused=True)), (), Reason.PAUSED, id="paused"),
        pytest.param(replace(NEW, cloud=CloudView()), (), Reason.CLOUD_NOT_FOUND, id="no Cloud"),
        pytest.param(replace(NEW, cloud=CloudView(exists=True)), (), Reason.WAITING_FOR_CLOUD, id="Cloud not Ready"),
        pytest.param(replace(NEW, sight=Sight()), (), Reason.WAITING_FOR_CLOUD, id="not listed yet"),
        pytest.param(replace(NEW, cloud=replace(WELL, room=False, limit=3)), (), Reason.LIMIT_REACHED, id="limit"),
        pytest.param(
            replace(NEW, attempt=Attempt(Sent.HELD, Reason.SECRET_NOT_FOUND, "no Secret", at=NOW + seconds(58))),
            (),
            Reason.SECRET_NOT_FOUND,
            id="held, not tried again too soon",
        ),
        pytest.param(
            replace(NEW, attempt=Attempt(Sent.HELD, Reason.SECRET_NOT_FOUND, "no Secret", at=NOW)),
            (Launch(),),
            Reason.SECRET_NOT_FOUND,
            id="held, tried again",
        ),
        pytest.param(
            replace(NEW, sight=sees(MachineState.RUNNING)), (Record(machine()),), Reason.LAUNCHING, id="a restore dropped the record"
        ),
        pytest.param(
            replace(NEW, sight=sees(MachineState.TERMINATED)),
            (Record(machine("m-0", MachineState.TERMINATED)),),
            Reason.LAUNCHING,
            id="dropped, and the machine has ended: never again",
        ),
        pytest.param(observed(metadata={"finalizers": ()}), (AddFinalizer(),), Reason.RECONCILING, id="finalizer was dropped"),
        # launched, outcome open
        pytest.param(observed(launched()), (Resend(),), Reason.LAUNCHING, id="a new process repeats"),
        pytest.param(observed(launched(), attempt=Attempt(Sent.IN_FLIGHT, at=NOW)), (), Reason.LAUNCHING, id="on its way"),
        pytest.param(
            observed(launched(), attempt=Attempt(Sent.UNKNOWN, Reason.THROTTLED, "slow", at=NOW + seconds(59))),
            (),
            Reason.THROTTLED,
            id="soon",
        ),
        pytest.param(
            observed(launched(), attempt=Attempt(Sent.UNKNOWN, Reason.THROTTLED, "slow", at=NOW)), (Resend(),), Reason.THROTTLED, id="again"
        ),
        pytest.param(
            observed(launched(), attempt=Attempt(Sent.PACED, Reason.DENIED, "no", at=NOW + seconds(59), after=seconds(60))),
            (),
            Reason.DENIED,
            id="what was answered stays said while its turn is awaited",
        ),
        pytest.param(
            observed(launched(), attempt=Attempt(Sent.PACED, at=NOW + seconds(59), after=seconds(60))),
            (),
            Reason.WAITING_FOR_LAUNCH,
            id="its turn is awaited",
        ),
        pytest.param(
            observed(launched(), attempt=Attempt(Sent.PACED, at=NOW + seconds(59), after=seconds(60)), owner=Owner(many=True)),
            (),
            Reason.RECONCILING,
            id="its turn is awaited: a fleet's group tells",
        ),
        pytest.param(
            observed(launched(), attempt=Attempt(Sent.UNKNOWN, Reason.DENIED, "no", at=NOW), cloud=CloudView(exists=True)),
            (),
            Reason.WAITING_FOR_CLOUD,
            id="not repeated while the Cloud is in doubt",
        ),
        pytest.param(
            observed(launched(), attempt=Attempt(Sent.REFUSED, Reason.NO_CAPACITY, "full", at=NOW)), (), Reason.NO_CAPACITY, id="refused"
        ),
        pytest.param(observed(launched(), attempt=Attempt(Sent.MISMATCH, at=NOW)), (), Reason.LAUNCHING, id="looked for by tag"),
        pytest.param(
            observed(launched(), attempt=Attempt(Sent.MISMATCH, at=NOW), sight=Sight(listed=NOW + seconds(121))),
            (),
            Reason.LAUNCH_LOST,
            id="not found by tag: burnt",
        ),
        # with a machine
        pytest.param(observed(BOUND, sight=sees(MachineState.PENDING)), (), Reason.BOOTING, id="boots"),
        pytest.param(observed(BOUND, sight=sees(MachineState.RUNNING)), (), Reason.STARTING, id="starts"),
        pytest.param(observed(BOUND, sight=sees(MachineState.RUNNING), health=Health(True)), (), Reason.READY, id="Ready"),
        pytest.param(
            observed(BOUND, sight=sees(MachineState.RUNNING), health=Health(None, "page: refused"), now=NOW + seconds(300)),
            (),
            Reason.STARTUP_TIMEOUT,
            id="never healthy",
        ),
        pytest.param(
            observed(BOUND, sight=sees(MachineState.RUNNING), now=NOW + seconds(300)), (), Reason.STARTING, id="late, and not probed yet"
        ),
        pytest.param(
            observed(BOUND, sight=replace(sees(MachineState.PENDING), trouble="no answer"), now=NOW + seconds(300)),
            (),
            Reason.BOOTING,
            id="late, and the list is in doubt",
        ),
        pytest.param(
            observed(BOUND, sight=sees(MachineState.PENDING), now=NOW + seconds(300)), (), Reason.STARTUP_TIMEOUT, id="never runs"
        ),
        pytest.param(
            observed(launched(machine="m-0", ready=True), sight=sees(MachineState.RUNNING), health=Health(False, "refused")),
            (),
            Reason.PROBE_FAILED,
            id="falls ill",
        ),
        pytest.param(observed(BOUND, sight=sees(MachineState.STOPPED)), (), Reason.MACHINE_STOPPED, id="stopped"),
        pytest.param(observed(BOUND, sight=sees(MachineState.ERROR)), (), Reason.MACHINE_ERROR, id="error"),
        pytest.param(observed(BOUND, sight=sees(MachineState.UNKNOWN)), (), Reason.MACHINE_UNKNOWN, id="a strange state"),
        pytest.param(
            observed(BOUND, sight=Sight(listed=NOW, machines=(replace(machine(), ours=False),)), health=Health(True)),
            (),
            Reason.MACHINE_UNKNOWN,
            id="there, and not ours by its tag",
        ),
        pytest.param(
            observed(BOUND, sight=Sight(listed=NOW, machines=(replace(machine("m-0", MachineState.TERMINATED), ours=False),))),
            (),
            Reason.MACHINE_ENDED,
            id="ended, its tags with it",
        ),
        pytest.param(observed(BOUND, sight=sees(MachineState.TERMINATED)), (), Reason.MACHINE_ENDED, id="ended"),
        pytest.param(observed(BOUND, sight=sees(MachineState.SHUTTING_DOWN)), (), Reason.MACHINE_ENDED, id="ends"),
        pytest.param(
            observed(BOUND, sight=Sight(listed=NOW, machines=(machine("m-0"), machine("m-1")))), (), Reason.DUPLICATE_MACHINE, id="two"
        ),
        pytest.param(observed(BOUND, sight=Sight(listed=NOW, gone=True), now=NOW + seconds(120)), (), Reason.MACHINE_MISSING, id="missing"),
    ],
)
def test_a_life(o: Observed, actions: tuple[Action, ...], reason: Reason) -> None:
    todo = plan(o)
    assert (todo.actions, todo.stand.reason) == (actions, reason)


def said(o: Observed) -> str:
    """What the Ready condition says after this pass."""
    found = condition(status.report(o.instance, plan(o).stand, o.now).conditions, "Ready")
    return found.reason if found is not None else ""


READY = launched(machine="m-0", ready=True).model_copy(update={"conditions": (build.said("Ready", True, Reason.READY),)})


@pytest.mark.parametrize(
    "o",
    [
        pytest.param(observed(READY, sight=LISTED), id="a list lacks it"),
        pytest.param(observed(READY, sight=Sight(listed=NOW, gone=True)), id="not found while it may be too young to show"),
        pytest.param(observed(READY, sight=Sight()), id="not listed yet"),
        pytest.param(observed(READY, sight=sees(MachineState.RUNNING)), id="not probed yet by this process"),
        pytest.param(
            observed(READY, attempt=Attempt(machine=machine("m-0", MachineState.PENDING), at=NOW), now=NOW + seconds(900)),
            id="a list lacks it, and the answer to its launch is old",
        ),
    ],
)
def test_a_ready_machine_stays_ready_until_more_is_known(o: Observed) -> None:
    assert said(o) == Reason.READY.value


def test_without_probes_the_clouds_word_is_enough() -> None:
    o = observed(BOUND, sight=sees(MachineState.RUNNING))
    bare = o.instance.model_copy(update={"spec": o.instance.spec.model_copy(update={"health": HealthSpec()})})
    assert said(replace(o, instance=bare)) == Reason.READY.value


def test_a_burnt_launch_stays_burnt_in_every_later_process() -> None:
    burnt = launched().model_copy(update={"conditions": (build.said("Launched", False, Reason.LAUNCH_LOST),)})
    assert plan(observed(burnt)).actions == ()
    assert said(observed(burnt)) == Reason.LAUNCH_LOST.value


# --- the end --------------------------------------------------------------------------------------------------------
GOING = {"deleting": True}
CLOSED = Acts(closed=NOW)


def ending(status: InstanceStatus | None = None, **more: Any) -> Observed:
    annotations = more.pop("annotations", {})
    return observed(status, metadata=GOING | {"annotations": annotations}, **more)


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
        pytest.param(ending(BOUND, owner=Owner(exists=False)), _release(Reason.OWNER_MISSING), Reason.OWNER_MISSING, id="no owner"),
        pytest.param(ending(BOUND, annotations={meta.ABANDON: "m-0"}), _release(Reason.ABANDONED), Reason.ABANDONED, id="given up"),
        pytest.param(
            ending(BOUND, annotations={meta.ABANDON: "m-1"}, cloud=CloudView(exists=True)), (), Reason.WAITING_FOR_CLOUD, id="another"
        ),
        pytest.param(
            ending(BOUND, annotations={meta.ABANDON: "batch-0"}, cloud=CloudView(exists=True)), (), Reason.WAITING_FOR_CLOUD, id="its batch"
        ),
        pytest.param(ending(cloud=CloudView()), _release(Reason.DELETED), Reason.DELETED, id="no Cloud, never launched"),
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


# --- the status -----------------------------------------------------------------------------------------------------
def test_the_addresses_of_an_ended_machine_stay_readable() -> None:
    before = launched(machine="m-0").model_copy(
        update={"machine": MachineStatus(id="m-0", state="running", private_addresses=("10.0.0.9",))}
    )
    ended = replace(machine("m-0", MachineState.TERMINATED), private_addresses=())
    o = observed(before, sight=Sight(listed=NOW, machines=(ended,)))
    shown = status.report(o.instance, plan(o).stand, o.now).machine
    assert shown == MachineStatus(id="m-0", state="terminated", private_addresses=("10.0.0.9",))


@pytest.mark.parametrize(
    ("many", "recorded", "probed_for", "told"),
    [
        pytest.param(False, True, 1.0, True, id="one of a few"),
        pytest.param(True, True, 14.0, False, id="may serve in a moment"),
        pytest.param(True, True, 15.0, True, id="has not served for long enough"),
        pytest.param(True, True, None, True, id="not probed by this process yet"),
        pytest.param(True, False, 1.0, True, id="its id is to be recorded"),
    ],
)
def test_that_a_machine_of_a_fleet_starts_is_told_when_it_takes_long(
    many: bool, recorded: bool, probed_for: float | None, told: bool
) -> None:
    o = observed(
        BOUND if recorded else launched(),
        owner=Owner(many=many),
        sight=sees(MachineState.RUNNING),
        health=Health(None, "page: refused"),
        now=NOW + seconds(60),
        probed_since=None if probed_for is None else NOW + seconds(60 - probed_for),
    )
    todo = plan(o)
    assert (todo.stand.reason, todo.stand.untold) == (Reason.STARTING, not told)
    assert todo.again == NOW + seconds(300 if told else 61)


def test_a_machine_that_starts_untold_is_looked_at_by_its_deadline() -> None:
    o = observed(
        BOUND,
        owner=Owner(many=True),
        sight=sees(MachineState.RUNNING),
        health=Health(None, "page: refused"),
        now=NOW + seconds(298),
        probed_since=NOW + seconds(297),
    )
    assert plan(o).again == NOW + seconds(300)


def test_a_missing_machine_is_shown_as_missing() -> None:
    o = observed(BOUND, sight=Sight(listed=NOW, gone=True), now=NOW + seconds(120))
    shown = status.report(o.instance, plan(o).stand, o.now).machine
    assert shown is not None
    assert shown.state == "missing"


@pytest.mark.parametrize("ready_before", [pytest.param(True, id="was Ready"), pytest.param(False, id="becomes Ready")])
def test_ready_time_is_when_it_first_was_ready(ready_before: bool) -> None:
    o = observed(launched(machine="m-0", ready=ready_before), sight=sees(MachineState.RUNNING), health=Health(True))
    assert status.report(o.instance, plan(o).stand, o.now).ready_time == (NOW if ready_before else o.now)


def test_a_model_of_each_status_is_valid() -> None:
    o = observed(BOUND, sight=sees(MachineState.RUNNING), health=Health(True))
    full = o.instance.model_copy(update={"status": status.report(o.instance, plan(o).stand, o.now)})
    assert Instance.model_validate(full.model_dump(mode="json", by_alias=True)) == full


@pytest.mark.parametrize(
    ("tries", "after", "least", "most"),
    [
        pytest.param(1, 0.0, 1.8, 2.2, id="the first time"),
        pytest.param(2, 0.0, 3.6, 4.4, id="twice as long"),
        pytest.param(50, 0.0, 9.0, 11.0, id="never much longer than 10 s"),
        pytest.param(1, 30.0, 30.0, 30.0, id="as the cloud asks"),
    ],
)
def test_a_call_that_is_put_off_waits_longer_from_time_to_time(tries: int, after: float, least: float, most: float) -> None:
    put_off = Attempt(Sent.UNKNOWN, Reason.THROTTLED, "slow down", at=NOW, tries=tries, after=seconds(after))
    o = observed(launched(), attempt=put_off, now=NOW)
    todo = plan(o)
    assert todo.actions == ()
    assert todo.again is not None
    assert seconds(least) <= todo.again - NOW <= seconds(most)
    assert plan(replace(o, now=todo.again)).actions == (Resend(),)


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
        pytest.param(ending(launched(), first=First.LEAVING), False, id="its first goes: what was sent may show"),
        pytest.param(ending(launched(), first=First.LEAVING, sight=LATE, now=NOW + seconds(122)), True, id="and has not"),
    ],
)
def test_a_later_member_goes_once_nothing_can_make_its_machine(o: Observed, goes: bool) -> None:
    assert any(isinstance(each, Release) for each in plan(o).actions) is goes
    assert not any(isinstance(each, Close) for each in plan(o).actions), "the launch is the first one's to close"
