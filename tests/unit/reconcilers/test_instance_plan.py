"""The Instance's plan, case by case: what its user reads, and what is done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.api.reasons import Reason
from controller.api.template import Health as HealthSpec
from controller.ports import MachineState
from controller.reconcilers.instance.observed import Attempt, CloudView, Health, Observed, Owner, Sent, Sight
from controller.reconcilers.instance.plan import plan
from controller.reconcilers.instance.steps import Action, AddFinalizer, Launch, Record, Resend
from tests.properties import build
from tests.properties.build import NOW, launched, machine, seconds
from tests.unit.reconcilers.instances import BOUND, LISTED, WELL, observed, said, sees

NEW = observed()


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
            observed(launched(), attempt=Attempt(Sent.PACED, at=NOW + seconds(59), after=seconds(60)), owner=Owner(fleet=True)),
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
        pytest.param(
            observed(launched(), attempt=Attempt(Sent.DOUBTFUL, Reason.NO_CAPACITY, "full", at=NOW)),
            (),
            Reason.LAUNCHING,
            id="refused, and an earlier call may have made it",
        ),
        pytest.param(
            observed(
                launched(), attempt=Attempt(Sent.DOUBTFUL, Reason.NO_CAPACITY, "full", at=NOW), sight=Sight(listed=NOW + seconds(121))
            ),
            (),
            Reason.NO_CAPACITY,
            id="refused, and an earlier call made nothing",
        ),
        pytest.param(observed(launched(), attempt=Attempt(Sent.MISMATCH, at=NOW)), (), Reason.LAUNCHING, id="looked for by tag"),
        pytest.param(
            observed(launched(), attempt=Attempt(Sent.MISMATCH, at=NOW), sight=Sight(listed=NOW + seconds(121))),
            (),
            Reason.LAUNCH_LOST,
            id="not found by tag: burnt",
        ),
        pytest.param(
            observed(sight=sees(MachineState.RUNNING), rival=build.instance(1, status=launched())),
            (),
            Reason.DUPLICATE_MACHINE,
            id="a copy of one that was launched",
        ),
        pytest.param(
            observed(sight=sees(MachineState.RUNNING), elsewhere="other"),
            (),
            Reason.FROZEN,
            id="a copy, maybe, of one in a namespace that is not served",
        ),
        # with a machine
        pytest.param(observed(BOUND, sight=sees(MachineState.PENDING)), (), Reason.BOOTING, id="boots"),
        pytest.param(observed(BOUND, sight=sees(MachineState.RUNNING)), (), Reason.STARTING, id="starts"),
        pytest.param(observed(BOUND, sight=sees(MachineState.RUNNING), health=Health(True)), (), Reason.READY, id="Ready"),
        pytest.param(
            observed(
                BOUND,
                sight=replace(sees(MachineState.RUNNING), listed=NOW + seconds(300)),
                health=Health(None, "page: refused"),
                now=NOW + seconds(301),
            ),
            (),
            Reason.STARTUP_TIMEOUT,
            id="never healthy",
        ),
        pytest.param(
            observed(BOUND, sight=sees(MachineState.RUNNING), health=Health(None, "page: refused"), now=NOW + seconds(3600)),
            (),
            Reason.STARTING,
            id="not healthy before it slept for an hour",
        ),
        pytest.param(
            observed(BOUND, sight=sees(MachineState.RUNNING), now=NOW + seconds(300)), (), Reason.STARTING, id="late, and not probed yet"
        ),
        pytest.param(
            observed(BOUND, sight=sees(MachineState.RUNNING), health=Health(None, "page: not asked", asked=False), now=NOW + seconds(300)),
            (),
            Reason.STARTING,
            id="late, and it cannot be asked",
        ),
        pytest.param(
            observed(BOUND, sight=replace(sees(MachineState.PENDING), trouble="no answer"), now=NOW + seconds(300)),
            (),
            Reason.BOOTING,
            id="late, and the list is in doubt",
        ),
        pytest.param(
            observed(BOUND, sight=replace(sees(MachineState.PENDING), listed=NOW + seconds(300)), now=NOW + seconds(301)),
            (),
            Reason.STARTUP_TIMEOUT,
            id="never runs",
        ),
        pytest.param(
            observed(BOUND, sight=replace(sees(MachineState.PENDING), listed=NOW + seconds(299)), now=NOW + seconds(999)),
            (),
            Reason.BOOTING,
            id="late, and not listed since",
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


@pytest.mark.parametrize(
    ("attempt", "sent", "action"),
    [
        pytest.param(Attempt(Sent.HELD, Reason.SECRET_NOT_FOUND, "no Secret"), False, Launch(), id="held"),
        pytest.param(Attempt(Sent.PACED, after=seconds(10)), False, Launch(), id="paced"),
        pytest.param(Attempt(Sent.BEHIND, Reason.DENIED, "no", after=seconds(10)), False, Launch(), id="behind"),
        pytest.param(Attempt(Sent.UNKNOWN, Reason.CLOUD_UNREACHABLE, "no answer", tries=3), True, Resend(), id="no answer"),
        pytest.param(Attempt(Sent.PACED, after=seconds(10)), True, Resend(), id="no answer, paced"),
        pytest.param(Attempt(Sent.BEHIND, Reason.DENIED, "no", after=seconds(10)), True, Resend(), id="no answer, behind"),
    ],
)
def test_what_was_tried_by_a_clock_that_was_set_back_since_is_due(attempt: Attempt, sent: bool, action: Action) -> None:
    o = observed(launched() if sent else None, attempt=replace(attempt, at=NOW + seconds(7200)), now=NOW)
    assert plan(o).actions == (action,)
    soon = replace(o, attempt=replace(attempt, at=NOW))
    assert plan(soon).actions == ()


def test_a_launch_that_is_held_back_waits_as_long_as_the_launcher_says() -> None:
    o = observed(attempt=Attempt(Sent.HELD, Reason.TEMPLATE_INVALID, "too long", at=NOW, after=seconds(60)), now=NOW)
    todo = plan(replace(o, now=NOW + seconds(59)))
    assert (todo.actions, todo.again) == ((), NOW + seconds(60))
    assert plan(replace(o, now=NOW + seconds(60))).actions == (Launch(),)


def test_a_burnt_launch_stays_burnt_in_every_later_process() -> None:
    burnt = launched().model_copy(update={"conditions": (build.said("Launched", False, Reason.LAUNCH_LOST),)})
    assert plan(observed(burnt)).actions == ()
    assert said(observed(burnt)) == Reason.LAUNCH_LOST.value


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


@pytest.mark.parametrize("address", [pytest.param("Private", id="private"), pytest.param("Public", id="public")])
def test_a_machine_that_got_no_address_of_the_kind_that_is_probed_is_told_so_to_the_end(address: str) -> None:
    """As in a subnet that gives no public ones."""
    bare = replace(machine(), private_addresses=(), public_addresses=())
    probed = build.PROBED.model_copy(update={"address": address})
    o = observed(instance=build.instance(status=BOUND, spec={"health": probed}), sight=Sight(machines=(bare,)))
    for now, reason in ((60, Reason.STARTING), (601, Reason.STARTUP_TIMEOUT)):
        stand = plan(replace(o, now=NOW + seconds(now), sight=replace(o.sight, listed=NOW + seconds(now)))).stand
        assert stand.reason is reason
        assert f"it has no {address.lower()} address to probe" in stand.message
