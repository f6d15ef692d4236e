"""What is written to the status of an Instance, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.api.instance import Instance, InstanceStatus, MachineStatus
from controller.api.reasons import Reason
from controller.ports import MachineState
from controller.reconcilers.instance import status
from controller.reconcilers.instance.observed import Attempt, CloudView, Health, Owner, Sent, Sight
from controller.reconcilers.instance.plan import plan
from tests.properties import build
from tests.properties.build import NOW, launched, machine, seconds
from tests.unit.reconcilers.instances import BOUND, observed, said, sees


def test_the_addresses_of_an_ended_machine_stay_readable() -> None:
    before = launched(machine="m-0").model_copy(
        update={"machine": MachineStatus(id="m-0", state="running", private_addresses=("10.0.0.9",))}
    )
    ended = replace(machine("m-0", MachineState.TERMINATED), private_addresses=())
    o = observed(before, sight=Sight(listed=NOW, machines=(ended,)))
    shown = status.report(o.instance, plan(o).stand, o.now).machine
    assert shown == MachineStatus(id="m-0", state="terminated", private_addresses=("10.0.0.9",))


def test_of_many_addresses_the_first_ones_are_kept() -> None:
    many = tuple(f"10.0.0.{number}" for number in range(40))
    seen = replace(machine("m-0"), private_addresses=many, public_addresses=many)
    o = observed(BOUND, sight=Sight(listed=NOW, machines=(seen,)))
    written = status.report(o.instance, plan(o).stand, o.now)
    assert written.machine is not None
    assert (written.address, written.machine.private_addresses, written.machine.public_addresses) == (many[0], many[:16], many[:16])


@pytest.mark.parametrize(
    ("fleet", "recorded", "probed_for", "told"),
    [
        pytest.param(False, True, 1.0, True, id="one of a few"),
        pytest.param(True, True, 14.0, False, id="may serve in a moment"),
        pytest.param(True, True, 15.0, True, id="has not served for long enough"),
        pytest.param(True, True, None, True, id="not probed by this process yet"),
        pytest.param(True, False, 1.0, True, id="its id is to be recorded"),
    ],
)
def test_that_a_machine_of_a_fleet_starts_is_told_when_it_takes_long(
    fleet: bool, recorded: bool, probed_for: float | None, told: bool
) -> None:
    o = observed(
        BOUND if recorded else launched(),
        owner=Owner(fleet=fleet),
        sight=sees(MachineState.RUNNING),
        health=Health(None, "page: refused"),
        now=NOW + seconds(60),
        probed_since=None if probed_for is None else NOW + seconds(60 - probed_for),
    )
    todo = plan(o)
    assert (todo.stand.reason, todo.stand.untold) == (Reason.STARTING, not told)
    assert todo.again == NOW + seconds(300 if told else 61)


@pytest.mark.parametrize("reason", [pytest.param(each, id=each.value) for each in (Reason.MACHINE_STOPPED, Reason.MACHINE_UNKNOWN)])
def test_that_a_machine_of_a_fleet_is_well_again_is_told_at_once(reason: Reason) -> None:
    said_before = BOUND.model_copy(update={"conditions": (build.said("Ready", False, reason),)})
    o = observed(
        said_before,
        owner=Owner(fleet=True),
        sight=sees(MachineState.RUNNING),
        health=Health(None, "page: refused"),
        probed_since=NOW + seconds(59),
    )
    assert (plan(o).stand.reason, plan(o).stand.untold) == (Reason.STARTING, False)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        pytest.param(Reason.DENIED, True, id="it was denied before, and is no more"),
        pytest.param(Reason.PAUSED, True, id="it was paused"),
        pytest.param(Reason.LAUNCHING, False, id="it comes up"),
    ],
)
def test_what_is_so_no_more_is_not_left_standing_while_a_turn_is_awaited(reason: Reason, told: bool) -> None:
    said_before = InstanceStatus(conditions=(build.said("Ready", False, reason), build.said("Launched", False, reason)))
    o = observed(said_before, owner=Owner(fleet=True), attempt=Attempt(Sent.PACED, at=NOW + seconds(59), after=seconds(60)))
    assert plan(o).stand.untold is not told
    assert not told or said(o) == Reason.WAITING_FOR_LAUNCH.value


@pytest.mark.parametrize("fleet", [pytest.param(each, id=f"fleet: {each}") for each in (True, False)])
@pytest.mark.parametrize("recorded", [pytest.param(each, id=f"recorded: {each}") for each in (True, False)])
def test_the_id_of_a_machine_that_runs_is_recorded_before_its_first_probe(fleet: bool, recorded: bool) -> None:
    o = observed(BOUND if recorded else launched(), owner=Owner(fleet=fleet), sight=sees(MachineState.RUNNING), now=NOW + seconds(9999))
    assert (plan(o).stand.reason, plan(o).stand.untold) == (Reason.STARTING, recorded)
    shown = status.report(o.instance, plan(o).stand, o.now).machine
    assert shown is not None
    assert shown.id == "m-0"


def test_a_fleet_says_nothing_while_its_cloud_was_not_asked_yet() -> None:
    assert plan(observed(owner=Owner(fleet=True), cloud=CloudView(exists=True, unasked=True))).stand.untold


def test_a_machine_that_starts_untold_is_looked_at_by_its_deadline() -> None:
    o = observed(
        BOUND,
        owner=Owner(fleet=True),
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
