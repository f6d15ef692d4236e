"""The simulated cloud does what tests command, and its oracles see what happened. The contract is tested in its suite."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from controller import errors
from controller.ports import CONTROLLER_TAG, CloudConfig, CloudDriver, Identity, LaunchRequest, Machine, MachineId, MachineState
from tests.simulated.checker import SimulatedChecker
from tests.simulated.cloud import plugin
from tests.simulated.loop import Clock
from tests.simulated.plugin import PLUGIN
from tests.simulated.world import Settings, World

_TAGS = {CONTROLLER_TAG: "ours", "occopus.io/infrastructure-id": "shop", "occopus.io/service": "web"}
_LOST = errors.Transient("the reply was lost")


@dataclass
class Simulation:
    """A world whose machines boot in 30 s and are healthy 10 s later, and a driver of it."""

    clock: Clock
    world: World
    driver: CloudDriver

    def open(self, account: str = "main") -> CloudDriver:
        return plugin(self.world).open(CloudConfig({"account": account}, {}, "ours", "", False, False))

    def launch(self, batch_id: str, count: int = 1, size: str = "small") -> tuple[Machine, ...] | errors.CloudError:
        names = tuple(f"web-{index}" for index in range(count))
        return self.driver.create([LaunchRequest(batch_id, names, _TAGS, {"image": "debian", "size": size}, b"")])[0]

    def made(self, batch_id: str, count: int = 1) -> tuple[Machine, ...]:
        outcome = self.launch(batch_id, count)
        assert isinstance(outcome, tuple)
        return outcome

    def states(self) -> list[MachineState]:
        return [each.state for each in self.driver.list()]

    def healthy(self, address: str) -> bool:
        return asyncio.run(SimulatedChecker(self.world).check({}, address, loopback=False)).passed is True


def _simulation(**settings: object) -> Simulation:
    clock = Clock()
    fixed = Settings(boot_seconds=lambda _: 30, health_seconds=lambda _: 10)
    for name, value in settings.items():
        setattr(fixed, name, value)
    world = World(clock, settings=fixed)
    return Simulation(clock, world, plugin(world).open(CloudConfig({}, {}, "ours", "", False, False)))


# --- time -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("at", "state", "healthy"),
    [
        pytest.param(29, MachineState.PENDING, False, id="booting"),
        pytest.param(31, MachineState.RUNNING, False, id="not yet healthy"),
        pytest.param(40, MachineState.RUNNING, True, id="healthy"),
    ],
)
def test_a_machine_comes_up(at: float, state: MachineState, healthy: bool) -> None:
    s = _simulation()
    (machine,) = s.made("a")
    s.clock.seconds = at
    assert s.states() == [state]
    assert s.healthy(machine.private_addresses[0]) is healthy
    assert s.healthy(machine.public_addresses[0]) is healthy


def test_a_machine_ends_in_time_and_is_shown_for_a_while() -> None:
    s = _simulation(terminating_seconds=10, shown_seconds=100)
    (machine,) = s.made("a")
    s.driver.delete([machine.id])
    assert s.states() == [MachineState.SHUTTING_DOWN]
    s.clock.seconds = 10
    assert s.states() == [MachineState.TERMINATED]
    s.clock.seconds = 110
    assert s.states() == []
    assert s.driver.describe([machine.id]) == {}
    assert isinstance(s.launch("a"), errors.TokenSpent)


def test_list_and_describe_lag() -> None:
    s = _simulation(lag_seconds=20)
    (machine,) = s.made("a")
    s.clock.seconds = 19
    assert (s.driver.list(), s.driver.describe([machine.id])) == ([], {})
    s.clock.seconds = 49
    assert s.states() == [MachineState.PENDING]
    s.clock.seconds = 50
    assert s.states() == [MachineState.RUNNING]


def test_a_world_in_real_time_says_the_real_time() -> None:
    driver = PLUGIN.open(CloudConfig({}, {}, "ours", "", False, False))
    (made,) = driver.create([LaunchRequest("real", ("x",), _TAGS, {}, b"")])
    assert isinstance(made, tuple)
    assert made[0].created is not None
    assert abs(datetime.now(UTC) - made[0].created) < timedelta(minutes=1)


def test_equal_seeds_draw_equal_times() -> None:
    def drawn(seed: int) -> list[float]:
        world = World(Clock(), seed=seed)
        driver = plugin(world).open(CloudConfig({}, {}, "ours", "", False, False))
        driver.create([LaunchRequest("a", ("x", "y"), _TAGS, {}, b"")])
        return [each.healthy for each in world.machines.values()]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert len(set(drawn(1))) == 2


# --- acts of God ----------------------------------------------------------------------------------------------------
def test_acts_of_god_are_seen() -> None:
    s = _simulation()
    machines = s.made("a", 6)
    addresses = [each.private_addresses[0] for each in machines]
    s.clock.seconds = 50
    assert all(map(s.healthy, addresses))
    s.world.kill(machines[0].id)
    s.world.stop(machines[1].id)
    s.world.break_down(machines[2].id, "no host")
    s.world.make_unhealthy(machines[3].id)
    s.world.forget(machines[4].id)
    expected = [MachineState.TERMINATED, MachineState.STOPPED, MachineState.ERROR, MachineState.RUNNING, MachineState.RUNNING]
    assert s.states() == expected
    assert [s.healthy(address) for address in addresses] == [False] * 5 + [True]
    assert s.driver.list()[2].message == "no host"
    s.world.make_healthy(machines[3].id)
    assert s.healthy(addresses[3])


def test_some_are_never_healthy() -> None:
    s = _simulation()
    s.world.never_healthy = lambda machine: machine.name == "web-0"
    machines = s.made("a", 2)
    s.clock.seconds = 1e6
    assert [s.healthy(each.private_addresses[0]) for each in machines] == [False, True]


def test_a_strange_state_is_unknown() -> None:
    s = _simulation()
    (machine,) = s.made("a")
    s.world.machines[machine.id].strange_state = "hibernating"
    assert [(each.state, each.state_text) for each in s.driver.list()] == [(MachineState.UNKNOWN, "hibernating")]


def test_an_inserted_machine_is_shown_to_whom_its_tags_name() -> None:
    s = _simulation()
    s.world.insert(("main", "here"), Identity("x", 0), {CONTROLLER_TAG: "theirs"})
    s.world.insert(("other", "here"), Identity("x", 0), _TAGS)
    ours = s.world.insert(("main", "here"), Identity("x", 0), _TAGS)
    assert [each.id for each in s.driver.list()] == [ours]
    assert len(s.open("other").list()) == 1


def test_credentials_can_answer_for_another_account() -> None:
    s = _simulation()
    s.made("a")
    assert s.driver.identity().id == "main"
    s.world.settings.answers_for["main"] = "other"
    assert s.driver.identity().id == "other"
    assert s.driver.list() == []


# --- commanded faults -----------------------------------------------------------------------------------------------
def test_a_fault_before_does_nothing_and_is_used_up() -> None:
    s = _simulation()
    s.world.fail("create", errors.NoCapacity("full"))
    assert isinstance(s.launch("a"), errors.NoCapacity)
    assert not s.world.machines
    assert isinstance(s.launch("a"), tuple)


def test_a_lost_reply_does_it_all_the_same() -> None:
    s = _simulation()
    s.world.fail("create", _LOST, after=True)
    assert s.launch("a") is _LOST
    assert [each.identity for each in s.driver.list()] == [Identity("a", 0)]
    assert s.made("a")[0].id == s.driver.list()[0].id


def test_a_fault_of_the_whole_call_is_raised() -> None:
    s = _simulation()
    s.world.fail("create", errors.Denied("expired"), whole=True)
    with pytest.raises(errors.Denied):
        s.launch("a")
    s.world.fail("create", _LOST, whole=True, after=True)
    with pytest.raises(errors.Transient):
        s.launch("a")
    assert len(s.driver.list()) == 1


def test_a_fault_chooses_its_requests_and_lasts_until_cleared() -> None:
    s = _simulation()
    fault = s.world.fail("create", errors.QuotaExceeded("full"), times=float("inf"), where=lambda token: token == "a")
    assert [isinstance(s.launch(batch), tuple) for batch in ("a", "b", "a")] == [False, True, False]
    s.world.clear(fault)
    assert isinstance(s.launch("a"), tuple)


@pytest.mark.parametrize("action", ["identity", "list", "resolve", "describe", "console", "close"])
def test_every_single_call_can_fail(action: str) -> None:
    s = _simulation()
    id = s.made("a")[0].id
    calls = {
        "identity": s.driver.identity,
        "list": s.driver.list,
        "resolve": lambda: s.driver.resolve({}),
        "describe": lambda: s.driver.describe([id]),
        "console": lambda: s.driver.console(id),
        "close": lambda: s.driver.close("b", ""),
    }
    s.world.fail(action, errors.Throttled("slow down", 5))
    with pytest.raises(errors.Throttled):
        calls[action]()
    again = calls[action]()
    assert action == "close" or again is not None


def test_a_lost_reply_of_delete_and_close() -> None:
    s = _simulation()
    (machine,) = s.made("a")
    s.world.fail("delete", _LOST, after=True)
    assert s.driver.delete([machine.id]) == [_LOST]
    assert s.states() == [MachineState.SHUTTING_DOWN]
    s.world.fail("close", _LOST, after=True)
    with pytest.raises(errors.Transient):
        s.driver.close("b", "")
    assert isinstance(s.launch("b"), errors.TokenSpent)


def test_a_list_can_lie_once() -> None:
    s = _simulation()
    s.made("a", 3)
    s.world.falsify(lambda machines: machines[:1])
    s.world.falsify(lambda _: [])
    assert [len(s.driver.list()) for _ in range(3)] == [1, 0, 3]


def test_capacity_and_quota() -> None:
    s = _simulation(capacity={"large": 1}, quota=3)
    assert isinstance(s.launch("a", 2, "large"), errors.NoCapacity)
    assert isinstance(s.launch("b", 1, "large"), tuple)
    assert isinstance(s.launch("c", 3), errors.QuotaExceeded)
    assert isinstance(s.launch("c", 2), tuple)
    assert isinstance(s.launch("d"), errors.QuotaExceeded)


# --- oracles --------------------------------------------------------------------------------------------------------
def test_the_ledger_has_every_request_and_counts_calls() -> None:
    s = _simulation()
    s.clock.seconds = 7
    names = ("x",)
    s.driver.create([LaunchRequest("a", names, _TAGS, {}, b""), LaunchRequest("b", names, _TAGS, {"image": 5}, b"")])
    s.driver.list()
    assert [(each.action, each.token, each.outcome, each.time) for each in s.world.ledger] == [
        ("create", "a", "ok", 7),
        ("create", "b", "Invalid", 7),
        ("list", "", "ok", 7),
    ]
    assert s.world.ledger[0].ids == s.world.ledger[2].ids == ("m-000002",)
    assert s.world.counts() == {"create": 1, "list": 1}


def test_two_at_one_instant_are_seen_for_ever() -> None:
    s = _simulation(terminating_seconds=10)
    identity = Identity("a", 0)
    (machine,) = s.made("a")
    assert s.world.duplicates() == []
    s.driver.delete([machine.id])
    s.clock.seconds = 10
    second = s.world.insert(("main", "here"), identity, _TAGS)
    assert s.world.duplicates() == []
    assert s.world.most_live_of_service() == {("shop", "web"): 1}
    third = s.world.insert(("main", "here"), identity, _TAGS)
    s.world.kill(second)
    s.world.kill(third)
    s.clock.seconds = 1e6
    assert s.world.most_live()[identity] == 1
    s.world.insert(("main", "here"), identity, _TAGS)
    s.clock.seconds += 1
    s.world.insert(("main", "here"), identity, _TAGS)
    assert s.world.duplicates() == [identity]
    assert s.world.most_live_of_service() == {("shop", "web"): 2}
    assert len(s.world.live(identity)) == len(s.world.live()) == 2


def test_leaks() -> None:
    s = _simulation(terminating_seconds=10)
    a, b = s.made("a")[0], s.made("b")[0]
    s.world.insert(("main", "here"), Identity("theirs", 0), {CONTROLLER_TAG: "theirs"})
    assert s.world.leaks([a.identity], "ours") == [b.id]
    s.driver.delete([b.id])
    assert s.world.leaks([a.identity], "ours") == [b.id]
    s.clock.seconds = 10
    assert s.world.leaks([a.identity], "ours") == []


def test_a_fence_outlives_its_machine_and_leaks_until_closed() -> None:
    s = _simulation(fences=True)
    assert isinstance(s.launch("a"), errors.TokenSpent)
    request = LaunchRequest("a", ("x",), _TAGS, {}, b"")
    (fence,) = s.driver.prepare([request])
    assert isinstance(fence, str)
    assert s.world.leaks([], "ours") == [fence]
    (made,) = s.driver.create([LaunchRequest("a", ("x",), _TAGS, {}, b"", fence)])
    assert isinstance(made, tuple)
    s.world.kill(made[0].id)
    assert s.world.leaks([], "ours") == [fence]
    s.driver.close("a", fence)
    assert s.world.leaks([], "ours") == []
    assert isinstance(s.driver.prepare([request])[0], errors.TokenSpent)


def test_unknown_machines_cannot_be_acted_on() -> None:
    with pytest.raises(KeyError):
        _simulation().world.kill(MachineId("m-1"))
