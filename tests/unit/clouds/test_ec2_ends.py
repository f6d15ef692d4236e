"""How the ec2 driver ends machines: by hundreds, ours alone, and those that are refused keep no others; on the light EC2."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from controller import errors
from controller.ports import CONTROLLER_TAG, MachineId
from tests.simulated.ec2 import Refusal
from tests.simulated.world import NEVER
from tests.unit.clouds.ec2 import Cloud, served

_UNKNOWN = MachineId("i-0123456789abcdef0")


@pytest.fixture
def cloud() -> Generator[Cloud]:
    with served() as each:
        yield each


def _going(cloud: Cloud) -> set[MachineId]:
    return {each.id for each in cloud.world.machines.values() if each.ending <= cloud.clock()}


def test_machines_are_ended_by_hundreds(cloud: Cloud) -> None:
    ids = cloud.insert(250)
    driver = cloud.open()
    driver.list()
    assert driver.delete(ids) == [None] * 250
    assert _going(cloud) == set(ids)
    assert [len(each.ids) for each in cloud.calls("TerminateInstances")] == [100, 100, 50]
    assert len(cloud.calls("DescribeInstances")) == 2


def test_what_was_not_listed_lately_is_looked_at_before_it_is_ended(cloud: Cloud) -> None:
    ids, theirs = cloud.insert(2), cloud.insert(1, "theirs")
    assert cloud.open().delete([*ids, *theirs, _UNKNOWN]) == [None] * 4
    assert _going(cloud) == set(ids)


def test_a_machine_whose_tag_was_taken_away_is_not_ended(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    (id,) = cloud.insert(1)
    driver = cloud.open()
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    driver.list()
    del cloud.world.machines[id].tags[CONTROLLER_TAG]
    now[0] += 61
    assert driver.delete([id]) == [None]
    assert _going(cloud) == set()


@pytest.mark.parametrize("gone", [pytest.param(1, id="one"), pytest.param(40, id="forty"), pytest.param(100, id="all")])
def test_those_that_are_gone_do_not_keep_the_others(cloud: Cloud, gone: int) -> None:
    ids = cloud.insert(100)
    driver = cloud.open()
    driver.list()
    for each in ids[::-1][:gone]:
        cloud.world.forget(each)
    assert driver.delete(ids) == [None] * 100
    assert _going(cloud) == set(ids)
    assert len(cloud.calls("TerminateInstances")) <= 2


@pytest.mark.parametrize(
    ("refusal", "kind", "most"),
    [
        pytest.param(Refusal("OperationNotPermitted", "The instance '{}' may not be terminated."), errors.Denied, 2, id="named"),
        pytest.param(Refusal("UnauthorizedOperation", "You are not authorized.", 403), errors.Denied, 20, id="denied, not named"),
        pytest.param(Refusal("IncorrectInstanceState", "Some instance cannot."), errors.Invalid, 20, id="not named"),
    ],
)
def test_one_that_is_refused_does_not_keep_the_others(cloud: Cloud, refusal: Refusal, kind: type[errors.CloudError], most: int) -> None:
    ids = cloud.insert(100)
    kept = ids[70]
    driver = cloud.open()
    driver.list()
    worded = Refusal(refusal.code, refusal.message.format(kept), refusal.status)
    cloud.world.fail("TerminateInstances", worded, times=NEVER, where=lambda named: kept in named)
    outcomes = dict(zip(ids, driver.delete(ids), strict=True))
    assert type(outcomes.pop(kept)) is kind
    assert set(outcomes.values()) == {None}
    assert _going(cloud) == set(ids) - {kept}
    assert len(cloud.calls("TerminateInstances")) <= most


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        pytest.param(errors.Throttled("slow"), errors.Throttled, id="throttled"),
        pytest.param(errors.Transient("cut"), errors.Transient, id="no answer"),
    ],
)
def test_what_is_refused_as_a_whole_is_not_asked_again(cloud: Cloud, error: errors.CloudError, kind: type[errors.CloudError]) -> None:
    ids = cloud.insert(50)
    driver = cloud.open()
    driver.list()
    cloud.world.fail("TerminateInstances", error)
    assert {type(each) for each in driver.delete(ids)} == {kind}
    assert len(cloud.calls("TerminateInstances")) == 1
    assert driver.delete(ids) == [None] * 50


@pytest.mark.parametrize("named", [pytest.param(True, id="named"), pytest.param(False, id="not named")])
def test_a_right_that_lacks_for_all_is_asked_for_twice_and_said_alike_of_each(cloud: Cloud, named: bool) -> None:
    """EC2's present words name one of the machines, whichever it looked at first."""
    ids = cloud.insert(100)
    driver = cloud.open()
    driver.list()
    which = (
        f" on resource: arn:aws:ec2:eu-west-1:111111111111:instance/{ids[3]} because no identity-based policy allows it" if named else ""
    )
    said = f"You are not authorized to perform this operation. User: x is not authorized to perform: ec2:TerminateInstances{which}"
    fault = cloud.world.fail("TerminateInstances", Refusal("UnauthorizedOperation", said, 403), times=NEVER)
    outcomes = driver.delete(ids)
    assert {type(each) for each in outcomes} == {errors.Denied}
    assert len({str(each) for each in outcomes}) == 1
    assert "i-0" not in str(outcomes[0])
    assert len(cloud.calls("TerminateInstances")) == 2
    cloud.world.clear(fault)
    assert driver.delete(ids) == [None] * 100


def test_many_that_are_refused_one_by_one_keep_the_others_no_longer_than_one_time(cloud: Cloud) -> None:
    ids = cloud.insert(100)
    protected = ids[::4]
    driver = cloud.open()
    driver.list()
    for each in protected:
        words = Refusal("OperationNotPermitted", f"The instance '{each}' may not be terminated.")
        cloud.world.fail("TerminateInstances", words, times=NEVER, where=lambda named, each=each: each in named)
    assert _going(cloud) == set()
    driver.delete(ids)
    outcomes = dict(zip(ids, driver.delete(ids), strict=True))
    assert _going(cloud) == set(ids) - set(protected)
    assert {type(outcomes[each]) for each in protected} <= {errors.Denied, errors.Transient}


def test_too_many_refusals_are_left_for_the_next_time(cloud: Cloud) -> None:
    ids = cloud.insert(100)
    driver = cloud.open()
    driver.list()
    cloud.world.fail("TerminateInstances", Refusal("IncorrectInstanceState", "Some instance cannot."), times=NEVER)
    outcomes = driver.delete(ids)
    assert {type(each) for each in outcomes} == {errors.Invalid, errors.Transient}
    assert len(cloud.calls("TerminateInstances")) == 20
