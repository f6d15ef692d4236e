"""The contract of `controller.ports.CloudDriver`, over every driver there is (`tests.contract.clouds`)."""

from __future__ import annotations

import select
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from controller import errors
from controller.ports import CONTROLLER_TAG, CloudDriver, Identity, Launched, MachineId, MachineState
from tests.contract.clouds import KINDS, WITHOUT_TOKENS, CloudUnderTest

_STRANGE_ID = MachineId("no-such-machine-0")


def _breathe() -> None:
    """Gives real processes 20 ms; the loop around it waits for a state, not for time."""
    select.select([], [], [], 0.02)


#: For what a launch's token promises, where there is one.
_with_tokens = pytest.mark.parametrize(
    "cloud", [pytest.param(make, id=name) for name, make in KINDS.items() if name not in WITHOUT_TOKENS], indirect=True
)


@pytest.fixture(params=[pytest.param(make, id=name) for name, make in KINDS.items()])
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[CloudUnderTest]:
    each: CloudUnderTest = request.param(tmp_path / "cloud", _breathe)
    yield each
    each.end_all()


@pytest.fixture
def driver(cloud: CloudUnderTest) -> CloudDriver:
    return cloud.open()


# --- making ---------------------------------------------------------------------------------------------------------
def test_a_machine_is_what_was_asked_for(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    machines = cloud.launch(driver, count=cloud.batch)
    assert [each.identity for each in machines] == [Identity("batch-1", index) for index in range(cloud.batch)]
    assert [each.name for each in machines] == ["web" if cloud.shares_tags else f"web-{index}" for index in range(cloud.batch)]
    assert all(each.tags[CONTROLLER_TAG] == "ours" and each.tags["color"] == "red" for each in machines)
    assert all(each.created is not None and each.created.tzinfo is not None for each in machines)


def test_a_machine_is_pending_then_running_and_listed_with_an_address_of_its_own(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    machines = cloud.launch(driver, "batch-1") + cloud.launch(driver, "batch-2")
    assert {each.state for each in machines} == {MachineState.PENDING}
    cloud.wait_for(driver, [each.id for each in machines], MachineState.RUNNING)
    addresses = [each.private_addresses for each in driver.list()]
    assert all(addresses)
    assert len(set(addresses)) == 2


@_with_tokens
def test_the_same_request_again_names_the_same_machines(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    request = cloud.request(driver, count=cloud.batch)
    first, second = driver.create([request]), driver.create([request, request])
    assert isinstance(first[0], tuple)
    assert {each.id for outcome in [*first, *second] if isinstance(outcome, tuple) for each in outcome} == {each.id for each in first[0]}
    assert len(driver.list()) == cloud.batch


@_with_tokens
def test_the_same_request_after_a_restart_names_the_same_machine(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    (machine,) = cloud.launch(driver)
    (again,) = cloud.launch(cloud.open())
    assert again.id == machine.id


@_with_tokens
def test_the_same_request_from_eight_threads_makes_one(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    request = cloud.request(driver, count=cloud.batch)
    drivers = [driver, *(cloud.open() for _ in range(7))]

    def create(each: CloudDriver) -> Launched | errors.CloudError:
        return each.create([request])[0]

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(create, drivers))
    ids = {tuple(machine.id for machine in outcome) for outcome in outcomes if isinstance(outcome, tuple)}
    assert all(isinstance(outcome, tuple) for outcome in outcomes)
    assert len(ids) == 1
    assert len(driver.list()) == cloud.batch


@_with_tokens
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"user_data": b"#!/bin/sh\n"}, id="user data"),
        pytest.param({"tags": {CONTROLLER_TAG: "ours", "color": "blue"}}, id="tags"),
        pytest.param({"names": ("other",)}, id="name"),
    ],
)
def test_a_token_with_other_parameters_is_spent(cloud: CloudUnderTest, driver: CloudDriver, change: dict[str, object]) -> None:
    request = cloud.request(driver)
    driver.create([request])
    (outcome,) = driver.create([replace(request, **change)])  # pyright: ignore[reportArgumentType] -- fields by name
    assert isinstance(outcome, errors.TokenSpent)
    assert len(driver.list()) == 1


def test_requests_of_one_call_have_outcomes_of_their_own(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    good = cloud.request(driver, "batch-1")
    bad = replace(cloud.request(driver, "batch-2"), user_data=b"x" * (driver.user_data_limit_bytes + 1))
    refused, made = driver.create([bad, good])
    assert isinstance(refused, errors.Invalid)
    assert isinstance(made, tuple)
    assert [each.identity for each in driver.list()] == [Identity("batch-1", 0)]


def test_a_machine_that_would_not_be_ours_is_not_made(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    (outcome,) = driver.create([replace(cloud.request(driver), tags={CONTROLLER_TAG: "theirs"})])
    assert isinstance(outcome, errors.Invalid)
    assert not cloud.open("theirs").list()


def test_the_most_user_data_is_taken(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    comment = b"#cloud-config\n#"
    request = replace(cloud.request(driver), user_data=comment + b"x" * (driver.user_data_limit_bytes - len(comment)))
    assert isinstance(driver.create([request])[0], tuple)


# --- reading --------------------------------------------------------------------------------------------------------
def test_a_restarted_controller_finds_all(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    ids = {each.id for batch in ("batch-1", "batch-2") for each in cloud.launch(driver, batch, cloud.batch)}
    other = cloud.open()
    assert {each.id for each in other.list()} == ids
    assert other.identity() == driver.identity()


def test_another_controllers_machine_is_not_listed_or_touched_and_by_id_not_ours(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    theirs = cloud.open("theirs")
    (machine,) = cloud.launch(theirs, controller_id="theirs")
    cloud.wait_for(theirs, [machine.id], MachineState.RUNNING)
    assert driver.list() == []
    assert [(each.id, each.ours) for each in driver.describe([machine.id]).values()] == [(machine.id, False)]
    assert driver.delete([machine.id]) == [None]
    driver.close("batch-1", "")
    with pytest.raises(errors.MachineNotFound):
        driver.console(machine.id)
    assert [(each.id, each.state) for each in theirs.list()] == [(machine.id, MachineState.RUNNING)]


def test_describe_knows_what_exists(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    (machine,) = cloud.launch(driver)
    assert driver.describe([]) == {}
    found = driver.describe([_STRANGE_ID, machine.id])
    assert {id: (each.identity, each.ours) for id, each in found.items()} == {machine.id: (machine.identity, True)}


def test_console(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    (machine,) = cloud.launch(driver)
    cloud.wait_for(driver, [machine.id], MachineState.RUNNING)
    assert isinstance(driver.console(machine.id), str)
    with pytest.raises(errors.MachineNotFound):
        driver.console(_STRANGE_ID)


def test_resolve_is_stable_and_refuses_what_cannot_be(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    resolved = driver.resolve(cloud.spec)
    assert driver.resolve(resolved) == resolved
    with pytest.raises(errors.Invalid) as caught:
        driver.resolve(cloud.bad_spec)
    assert caught.value.field in cloud.bad_spec


# --- ending ---------------------------------------------------------------------------------------------------------
def test_delete_ends_the_machine_and_no_other(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    (first,), (second,) = cloud.launch(driver, "batch-1"), cloud.launch(driver, "batch-2")
    cloud.wait_for(driver, [first.id, second.id], MachineState.RUNNING)
    assert driver.delete([first.id]) == [None]
    assert driver.describe([first.id])[first.id].state in (MachineState.SHUTTING_DOWN, MachineState.TERMINATED)
    cloud.wait_for(driver, [first.id], MachineState.TERMINATED)
    assert driver.describe([second.id])[second.id].state is MachineState.RUNNING


def test_delete_at_once_after_create(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    (machine,) = cloud.launch(driver)
    driver.delete([machine.id])
    cloud.wait_for(driver, [machine.id], MachineState.TERMINATED)


@pytest.mark.parametrize(
    "id",
    [
        pytest.param(_STRANGE_ID, id="unknown"),
        pytest.param(MachineId("../../elsewhere-0"), id="a path"),
        pytest.param(MachineId(""), id="empty"),
    ],
)
def test_delete_of_what_is_not_there_is_no_error(driver: CloudDriver, id: MachineId) -> None:
    assert driver.delete([id]) == [None]
    assert driver.list() == []


def test_delete_again_is_no_error(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    (machine,) = cloud.launch(driver)
    assert driver.delete([machine.id, machine.id]) == [None, None]
    cloud.wait_for(driver, [machine.id], MachineState.TERMINATED)
    assert driver.delete([machine.id]) == [None]
    assert [each.state for each in driver.list()] == [MachineState.TERMINATED]


def test_a_list_without_what_runs_lacks_nothing_else(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    (running,), (ended,) = cloud.launch(driver, "batch-1"), cloud.launch(driver, "batch-2")
    cloud.wait_for(driver, [running.id, ended.id], MachineState.RUNNING)
    driver.delete([ended.id])
    cloud.wait_for(driver, [ended.id], MachineState.TERMINATED)
    cloud.launch(driver, "batch-3")
    shown = {each.id: each for each in driver.list(running=False)}
    # What does not run now did not run before.
    listed = driver.list()
    assert {each.id for each in listed if each.state is not MachineState.RUNNING} <= shown.keys() <= {each.id for each in listed}
    assert shown[ended.id].state is MachineState.TERMINATED


@_with_tokens
def test_the_token_of_an_ended_machine_is_spent(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    request = cloud.request(driver)
    driver.create([request])
    driver.delete([each.id for each in driver.list()])
    (outcome,) = cloud.open().create([request])
    assert isinstance(outcome, errors.TokenSpent)
    assert len(driver.list()) == 1


@_with_tokens
def test_a_batch_of_which_one_has_ended_makes_no_more(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    request = cloud.request(driver, count=cloud.batch)
    (machines,) = driver.create([request])
    assert isinstance(machines, tuple)
    driver.delete([machines[-1].id])
    assert isinstance(driver.create([request])[0], errors.TokenSpent)
    assert len(driver.list()) == cloud.batch


def test_after_close_a_late_create_makes_nothing(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    request = cloud.request(driver, batch_id := str(uuid4()), cloud.batch)
    driver.close(batch_id, request.fence)
    driver.close(batch_id, request.fence)
    (outcome,) = cloud.open().create([request])
    assert isinstance(outcome, errors.TokenSpent) is cloud.closes
    assert len(driver.list()) == (0 if cloud.closes else cloud.batch)


def test_close_ends_no_machine(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    request = cloud.request(driver, count=cloud.batch)
    (machines,) = driver.create([request])
    assert isinstance(machines, tuple)
    cloud.wait_for(driver, [each.id for each in machines], MachineState.RUNNING)
    driver.close("batch-1", request.fence)
    assert [each.state for each in driver.list()] == [MachineState.RUNNING] * cloud.batch


def test_close_of_what_was_never_prepared(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    driver.close("batch-9", "")
    assert driver.list() == []


def test_prepare_again_names_the_same_fence(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    assert cloud.request(driver).fence == cloud.request(cloud.open()).fence


@_with_tokens
def test_create_and_close_at_once_leave_all_or_nothing_known(cloud: CloudUnderTest, driver: CloudDriver) -> None:
    """Whoever is first: what create says it made is listed, and where it says that the token is spent it ended there."""
    request = cloud.request(driver, count=cloud.batch)
    with ThreadPoolExecutor(2) as pool:
        creating = pool.submit(driver.create, [request])
        closing = pool.submit(driver.close, "batch-1", request.fence)
        (outcome,) = creating.result()
        closing.result()
    listed = {each.id for each in driver.list()}
    (again,) = driver.create([request])
    if isinstance(outcome, tuple):
        assert listed == {each.id for each in outcome}
    assert {each.id for each in driver.list()} == listed
    assert isinstance(again, tuple | errors.TokenSpent)
