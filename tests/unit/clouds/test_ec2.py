"""What the ec2 driver asks of EC2, how often, and what it makes of answers late, strange or lost; on the light EC2."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Generator
from dataclasses import replace

import pytest

from controller import errors
from controller.clouds.ec2 import access
from controller.engine import inventory
from controller.ports import CALL_SECONDS, Account, MachineId, MachineState
from tests.simulated.ec2 import Garbage, Hang, Refusal
from tests.simulated.world import NEVER
from tests.unit.clouds.ec2 import KEYS, SPEC, Cloud, launch, request, served

_UNKNOWN = MachineId("i-0123456789abcdef0")


@pytest.fixture
def cloud() -> Generator[Cloud]:
    with served() as each:
        yield each


def _from_call(number: int) -> Callable[[str], bool]:
    """Of a fault: true from that call on."""
    seen = iter(range(1000))
    return lambda token: next(seen) >= number


def _instance(inside: str, state: str = "<code>16</code><name>running</name>") -> Garbage:
    """A list of one instance, which has that inside."""
    item = f"<item><instanceId>i-0123456789abcdef0</instanceId><instanceState>{state}</instanceState>{inside}</item>"
    return Garbage(
        f"<DescribeInstancesResponse><reservationSet><item><instancesSet>{item}</instancesSet></item></reservationSet>"
        "</DescribeInstancesResponse>".encode()
    )


# --- whose machines -------------------------------------------------------------------------------------------------
def test_the_account_is_that_of_the_keys(cloud: Cloud) -> None:
    assert cloud.open().identity() == Account("ec2", "111111111111", "eu-west-1", cloud.endpoint)
    other = cloud.open(secret={**KEYS, "AWS_ACCESS_KEY_ID": "AKIDOTHER"})
    assert other.identity().id == "222222222222"


def test_keys_that_are_not_known_or_have_expired_are_denied(cloud: Cloud) -> None:
    strange = cloud.open(secret={**KEYS, "AWS_ACCESS_KEY_ID": "AKIDSTRANGE"})
    cloud.light.expired.add("AKIDMAIN")
    expired = cloud.open()
    for call in (strange.identity, strange.list, expired.identity, expired.list, lambda: expired.resolve(SPEC)):
        with pytest.raises(errors.Denied) as caught:
            call()
        assert not any(each in str(caught.value) for each in KEYS.values())


def test_an_answer_without_an_account_is_none(cloud: Cloud) -> None:
    cloud.world.fail("GetCallerIdentity", Garbage(), times=2)
    with pytest.raises(errors.Transient):
        cloud.open().identity()


# --- lists ----------------------------------------------------------------------------------------------------------
def test_a_list_is_all_pages(cloud: Cloud) -> None:
    ids = cloud.insert(450)
    cloud.insert(3, "theirs")
    assert [each.id for each in cloud.open().list()] == ids
    assert len(cloud.calls("DescribeInstances")) == 3


@pytest.mark.parametrize("page", [pytest.param(0, id="first"), pytest.param(1, id="second"), pytest.param(2, id="last")])
@pytest.mark.parametrize(
    "error",
    [
        pytest.param(errors.Transient("cut"), id="no answer"),
        pytest.param(Garbage(), id="a page of a web server"),
        pytest.param(Garbage(b'<?xml version="1.0"?><DescribeInstancesResponse><reservationSet>'), id="cut off"),
        pytest.param(Garbage(b""), id="empty"),
        pytest.param(_instance("<amiLaunchIndex>first</amiLaunchIndex>"), id="an index that is no number"),
        pytest.param(_instance("<amiLaunchIndex>0</amiLaunchIndex><launchTime>now</launchTime>"), id="a time that is none"),
        pytest.param(_instance("<amiLaunchIndex>0</amiLaunchIndex>", "<name/>"), id="no state"),
        pytest.param(_instance(""), id="no index"),
        pytest.param(Garbage(b"no such page", 404), id="a web server's error"),
        pytest.param(Refusal("InternalError", status=500), id="EC2's trouble"),
        pytest.param(Refusal("InvalidPaginationToken"), id="a page that EC2 forgot"),
        pytest.param(Refusal("Strange", "never heard of"), id="strange"),
    ],
)
def test_a_list_of_which_a_page_is_missing_is_none(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, error: errors.CloudError, page: int
) -> None:
    monkeypatch.setattr("controller.clouds.ec2.driver._PAGE", 5)
    cloud.insert(12)
    cloud.world.fail("DescribeInstances", error, times=NEVER, where=_from_call(page))
    with pytest.raises(errors.Transient):
        cloud.open().list()


def test_a_list_comes_in_pages_of_as_many_as_the_count_of_calls_takes_it_for(cloud: Cloud) -> None:
    cloud.insert(2 * inventory.PAGE + 1)
    assert len(cloud.open().list()) == 2 * inventory.PAGE + 1
    assert len(cloud.calls("DescribeInstances")) == 3
    assert 100 <= inventory.PAGE <= 200


def test_a_read_is_asked_once_more_and_a_throttled_one_is_not(cloud: Cloud) -> None:
    ids = cloud.insert(2)
    driver = cloud.open()
    cloud.world.fail("DescribeInstances", errors.Transient("cut"))
    assert [each.id for each in driver.list()] == ids
    cloud.world.fail("DescribeInstances", errors.Throttled("slow"))
    with pytest.raises(errors.Throttled):
        driver.list()
    assert [each.outcome for each in cloud.calls("DescribeInstances")] == ["Transient", "ok", "Throttled"]


def test_describe_asks_by_id_in_chunks_and_gives_what_there_is(cloud: Cloud) -> None:
    ids, theirs = cloud.insert(250), cloud.insert(1, "theirs")
    found = cloud.open().describe([*ids, _UNKNOWN, *theirs, MachineId("no id"), ids[0]])
    assert {id: each.ours for id, each in found.items()} == {**dict.fromkeys(ids, True), theirs[0]: False}
    # Two hundred, then fifty, their one and one that EC2 names as unknown; then those without that one.
    assert [each.outcome for each in cloud.calls("DescribeInstances")] == ["ok", "ok", "InvalidInstanceID.NotFound", "ok"]


def test_an_answer_that_lacks_a_machine_asked_for_by_id_proves_nothing(cloud: Cloud) -> None:
    ids = cloud.insert(3)
    driver = cloud.open()
    cloud.world.machines[ids[1]].account = ("another", "eu-west-1")
    with pytest.raises(errors.Transient, match="lacks 1"):
        driver.describe(ids)


def test_every_state_is_told_and_why(cloud: Cloud) -> None:
    ids = cloud.insert(7)
    cloud.clock.seconds += 100
    running, stopping, stopped, ending, ended, spot, strange = ids
    cloud.world.settings.stopping_seconds = 5
    cloud.world.stop(stopping)
    cloud.world.settings.stopping_seconds = 0
    cloud.world.stop(stopped)
    cloud.world.terminate(ending)
    cloud.world.kill(ended)
    cloud.light.interrupt(spot)
    cloud.world.machines[strange].strange_state = "hibernating"
    (pending,) = cloud.insert(1)
    shown = {each.id: each for each in cloud.open().list()}
    assert {id: each.state for id, each in shown.items()} == {
        running: MachineState.RUNNING,
        stopping: MachineState.STOPPING,
        stopped: MachineState.STOPPED,
        ending: MachineState.SHUTTING_DOWN,
        ended: MachineState.TERMINATED,
        spot: MachineState.SHUTTING_DOWN,
        strange: MachineState.UNKNOWN,
        pending: MachineState.PENDING,
    }
    assert shown[strange].state_text == "hibernating"
    assert shown[spot].message.startswith("Server.SpotInstanceTermination")
    assert shown[ended].message.startswith("Client.UserInitiatedShutdown")
    assert shown[running].message == shown[pending].message == ""


# --- launches -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(errors.Transient("cut"), errors.Transient, id="no answer"),
        pytest.param(Garbage(), errors.Transient, id="a page of a web server"),
        pytest.param(Garbage(b"<RunInstancesResponse><instancesSet/></RunInstancesResponse>"), errors.Transient, id="no machines"),
        pytest.param(Garbage(b"forbidden", 403), errors.Transient, id="a proxy's refusal"),
        pytest.param(errors.Throttled("slow"), errors.Throttled, id="throttled"),
        pytest.param(errors.NoCapacity("none"), errors.NoCapacity, id="no capacity"),
        pytest.param(errors.QuotaExceeded("none"), errors.QuotaExceeded, id="quota"),
        pytest.param(errors.Denied("no"), errors.Denied, id="denied"),
        pytest.param(errors.Invalid("x", "y"), errors.Invalid, id="invalid"),
        pytest.param(Refusal("IdempotentParameterMismatch"), errors.TokenSpent, id="mismatch"),
        pytest.param(Refusal("Strange", "never heard of"), errors.Invalid, id="a strange refusal"),
        pytest.param(Refusal("Strange", "never heard of", 500), errors.Transient, id="a strange fault"),
    ],
)
def test_a_launch_is_sent_once_and_its_refusal_told(cloud: Cloud, answer: errors.CloudError, kind: type[errors.CloudError]) -> None:
    driver = cloud.open()
    wanted = request(driver.resolve(SPEC))
    cloud.world.fail("RunInstances", answer)
    (outcome,) = driver.create([wanted])
    assert type(outcome) is kind
    assert len(cloud.calls("RunInstances")) == 1
    assert cloud.world.machines == {}


def test_a_launch_whose_reply_was_lost_is_found_by_the_same_call(cloud: Cloud) -> None:
    driver = cloud.open()
    wanted = request(driver.resolve(SPEC), count=3)
    cloud.world.fail("RunInstances", errors.Transient("cut"), after=True)
    assert isinstance(driver.create([wanted])[0], errors.Transient)
    (outcome,) = cloud.open().create([wanted])
    assert isinstance(outcome, tuple)
    assert {each.id for each in outcome} == set(cloud.world.machines)
    assert [each.identity.index for each in outcome] == [0, 1, 2]


def test_a_call_that_hangs_ends_by_itself(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    assert access.CONNECT_SECONDS + access.READ_SECONDS < CALL_SECONDS
    monkeypatch.setattr(access, "READ_SECONDS", 0.2)
    driver = cloud.open()
    wanted = request(driver.resolve(SPEC))
    hang = Hang()
    cloud.world.fail("RunInstances", hang)
    (outcome,) = driver.create([wanted])
    hang.release()
    assert isinstance(outcome, errors.Transient)


def test_one_call_makes_a_hundred(cloud: Cloud) -> None:
    machines = launch(cloud.open(), count=100)
    assert len({each.id for each in machines}) == 100
    assert {each.name for each in machines} == {"shop-web"}
    assert cloud.world.counts() == {"DescribeImages": 1, "DescribeSubnets": 1, "RunInstances": 1}


def test_nothing_that_is_wrong_in_itself_is_sent(cloud: Cloud) -> None:
    driver = cloud.open()
    outcomes = driver.create([request(SPEC), request(driver.resolve(SPEC), "x" * 65), request(driver.resolve(SPEC), count=101)])
    assert [type(each) for each in outcomes] == [errors.Invalid] * 3
    assert cloud.calls("RunInstances") == []


def test_a_launch_that_waited_too_long_for_its_signature_does_not_leave(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the SDK renews its credentials: whoever asked has stopped waiting for it by then."""
    driver = cloud.open()
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def wait(**_: object) -> None:
        now[0] += CALL_SECONDS + 1

    driver._connected().ec2.meta.events.register("before-sign.ec2.RunInstances", wait)  # pyright: ignore[reportPrivateUsage]
    (outcome,) = driver.create((request(driver.resolve(SPEC)),))
    assert isinstance(outcome, errors.Transient)
    assert "not sent" in str(outcome)
    assert cloud.calls("RunInstances") == []


def test_spot_machines_are_made_singly() -> None:
    """Nothing is known of their launch indexes, by which the machines of one call are told apart."""
    with served() as cloud:
        driver = cloud.open()
        assert driver.most_per_call({"spot": {}}) == 1
        assert driver.most_per_call({}) == 100


# --- console --------------------------------------------------------------------------------------------------------
def test_the_console_of_a_machine_that_is_not_on_nitro(cloud: Cloud) -> None:
    (id,) = cloud.insert(1)
    cloud.clock.seconds += 100
    cloud.world.fail("GetConsoleOutput", Refusal("UnsupportedOperation", "This instance type does not support retrieving the latest"))
    assert "booted" in cloud.open().console(id)
    assert [each.outcome for each in cloud.calls("GetConsoleOutput")] == ["UnsupportedOperation", "ok"]


def test_of_a_long_console_the_tail_is_shown(cloud: Cloud) -> None:
    (id,) = cloud.insert(1)
    cloud.clock.seconds += 100
    cloud.world.machines[id].name = "é" * 64 * 1024
    text = cloud.open().console(id)
    assert len(text.encode()) <= 64 * 1024
    assert text.endswith("user data\n")


# --- secrets --------------------------------------------------------------------------------------------------------
def test_neither_keys_nor_user_data_are_logged(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    secret = {**KEYS, "AWS_SESSION_TOKEN": "t0k3n-c4n4ry"}
    driver = cloud.open(secret=secret)
    caplog.set_level(logging.DEBUG)
    wanted = replace(request(driver.resolve(SPEC)), user_data=b"p455w0rd")
    driver.create([wanted])
    assert caplog.records, "urllib3 says at least that it connects"
    for each in ("c4n4ry", "p455w0rd", base64.b64encode(b"p455w0rd").decode()):
        assert each not in caplog.text
