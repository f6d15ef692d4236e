"""The inventory: what one list tells, whom it wakes, how often it asks, and when a machine counts as gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from controller import errors
from controller.engine.inventory import Inventory, Surroundings
from controller.ports import CONTROLLER_TAG, Account, CloudDriver, Identity, Key, MachineId, T
from tests.simulated import loop
from tests.simulated.cloud import SimulatedCloud, SimulatedCloudFields
from tests.simulated.harness import CONTROLLER, inline
from tests.simulated.world import Settings, World
from tests.unit.engine.rig import ACCOUNT, CLOUD, Rig, run

KEY = Key("Instance", "default", "one")


@dataclass
class Watched:
    """An inventory of a world, and what it said to whom. Each call takes `took` seconds."""

    world: World
    recorded: dict[MachineId, Identity] = field(default_factory=dict[MachineId, Identity])
    launched: set[Identity] = field(default_factory=set[Identity])
    woken: list[str] = field(default_factory=list[str])
    keys: list[Key] = field(default_factory=list[Key])
    moved: int = 0
    everybody: int = 0
    took: float = 0.0
    #: By how much the clock was set back.
    back: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        driver: CloudDriver = SimulatedCloud(self.world, SimulatedCloudFields(account="a1", region="r1"), CONTROLLER)
        around = Surroundings(
            self._thread,
            lambda: loop.now() - self.back,
            lambda account: self.recorded,
            lambda identity, id: any(each == identity and other == id for other, each in self.recorded.items()),
            lambda account: self.launched,
            lambda account, driver: (driver,),
            lambda driver: None,
            lambda identity: self.woken.append(identity.batch_id),
            self.keys.append,
            self._move,
        )
        self.inventory = Inventory(ACCOUNT, driver, around)

    async def _thread(self, call: Callable[[], T], lane: str, /) -> T:
        if self.took:
            await asyncio.sleep(self.took)
        return await inline(call, lane)

    def _move(self, account: Account, everybody: bool) -> None:
        self.moved += 1
        self.everybody += everybody

    def make(self, batch: str, *, recorded: bool = False) -> MachineId:
        id = self.world.insert(("a1", "r1"), Identity(batch, 0), {CONTROLLER_TAG: CONTROLLER}, {"image": "image-1"})
        if recorded:
            self.recorded[id] = Identity(batch, 0)
        return id

    def gone(self, batch: str, id: MachineId) -> bool:
        return self.inventory.sight(Identity(batch, 0), id).gone


def watched(settings: Settings | None = None) -> Watched:
    return Watched(World(loop.clock, settings=settings or Settings(boot_seconds=lambda rng: 0.0)))


def test_a_list_wakes_those_whose_machine_changed_and_no_others() -> None:
    async def main() -> None:
        w = watched()
        ids = {batch: w.make(batch) for batch in ("a", "b", "c")}
        await w.inventory.poll()
        assert sorted(w.woken) == ["a", "b", "c"]
        w.woken.clear()
        await w.inventory.poll()
        assert (w.woken, w.moved) == ([], 1), "nothing moved"
        w.world.stop(ids["b"])
        w.world.forget(ids["c"])
        await w.inventory.poll()
        assert sorted(w.woken) == ["b", "c"]
        assert w.inventory.sight(Identity("a", 0), None).machines[0].id == ids["a"]

    loop.run(main())


def test_a_clock_that_is_set_back_makes_no_old_list_a_proof() -> None:
    async def main() -> None:
        w = watched()
        id = w.make("a", recorded=True)
        await w.inventory.poll()
        w.world.forget(id)
        await w.inventory.poll()
        w.back = timedelta(hours=1)
        w.world.fail("list", errors.Transient("no answer"), times=1)
        await w.inventory.poll()
        assert w.inventory.sight(Identity("a", 0), id).listed is None
        for _ in range(4):
            await asyncio.sleep(10)
            await w.inventory.poll()
        listed = w.inventory.listed
        assert listed is not None
        assert loop.now() - timedelta(hours=1, seconds=1) < listed <= loop.now() - timedelta(hours=1)
        assert not w.gone("a", id), "one answer since is less than 30 s older than the other"
        await asyncio.sleep(10)
        await w.inventory.poll()
        assert w.gone("a", id)

    loop.run(main())


def test_trouble_keeps_the_last_list_and_is_said_once() -> None:
    async def main() -> None:
        w = watched()
        w.make("a")
        await w.inventory.poll()
        listed = w.inventory.listed
        w.world.fail("list", errors.Transient("no answer"), times=3)
        for _ in range(3):
            await asyncio.sleep(1)
            await w.inventory.poll()
        sight = w.inventory.sight(Identity("a", 0), None)
        assert (sight.listed, sight.trouble, len(sight.machines)) == (listed, "no answer", 1)
        assert (w.moved, w.woken) == (2, ["a"]), "the first list, and the trouble once"
        await w.inventory.poll()
        assert w.inventory.sight(Identity("a", 0), None).trouble == ""
        assert (w.moved, w.everybody) == (3, 2), "who waits for a good list is told of the first, and of the first after trouble"

    loop.run(main())


def test_a_driver_that_breaks_is_trouble_and_no_end() -> None:
    async def main() -> None:
        w = watched()
        w.world.falsify(lambda machines: [each for each in machines if 1 / 0])
        w.make("a")
        await w.inventory.poll()
        assert isinstance(w.inventory.trouble, errors.Transient)
        assert w.inventory.listed is None

    loop.run(main())


def test_a_machine_that_an_empty_list_lacks_is_asked_for_by_id() -> None:
    async def main() -> None:
        w = watched()
        id = w.make("a", recorded=True)
        await w.inventory.poll()
        w.woken.clear()
        for _ in range(50):
            w.world.falsify(lambda machines: [])
            await w.inventory.poll()
            await asyncio.sleep(1)
            assert not w.gone("a", id)
            assert len(w.inventory.sight(Identity("a", 0), id).machines) == 1
        assert w.woken == []

    loop.run(main())


def test_gone_is_two_not_founds_thirty_seconds_apart() -> None:
    async def main() -> None:
        w = watched()
        id = w.make("a", recorded=True)
        await w.inventory.poll()
        w.world.forget(id)
        begun = loop.clock()
        while not w.gone("a", id):
            await w.inventory.poll()
            await asyncio.sleep(1)
            assert loop.clock() - begun < 40
        assert loop.clock() - begun >= 30
        assert not w.gone("a", MachineId("m-of-nobody"))

    loop.run(main())


def test_one_sight_of_it_begins_the_confirmation_anew() -> None:
    async def main() -> None:
        w = watched(Settings(boot_seconds=lambda rng: 0.0))
        id = w.make("a", recorded=True)
        machine = w.world.machines[id]
        await w.inventory.poll()
        for _ in range(4):
            machine.forgotten = loop.clock()
            for _ in range(20):
                await w.inventory.poll()
                await asyncio.sleep(1)
            assert not w.gone("a", id)
            machine.forgotten = float("inf")
            await w.inventory.poll()

    loop.run(main())


def test_a_launch_without_a_machine_is_believed_of_the_same_account_only() -> None:
    async def main() -> None:
        w = watched()
        w.world.settings.answers_for["a1"] = "a2"
        await w.inventory.poll()
        assert w.inventory.listed is not None, "nothing is awaited: nothing follows from the list"
        w.launched.add(Identity("a", 0))
        before = w.inventory.listed
        await asyncio.sleep(1)
        await w.inventory.poll()
        assert w.inventory.listed == before
        assert isinstance(w.inventory.trouble, errors.Denied)
        del w.world.settings.answers_for["a1"]
        w.make("a")
        asked = w.world.counts()["identity"]
        await w.inventory.poll()
        assert w.inventory.listed > before
        assert w.world.counts()["identity"] == asked, "all that was launched is there"

    loop.run(main())


def test_failed_lists_confirm_nothing() -> None:
    async def main() -> None:
        w = watched()
        id = w.make("a", recorded=True)
        await w.inventory.poll()
        w.world.forget(id)
        await w.inventory.poll()
        w.world.fail("list", errors.Transient("no answer"), times=60)
        for _ in range(60):
            await asyncio.sleep(1)
            await w.inventory.poll()
            assert not w.gone("a", id)

    loop.run(main())


def test_lists_that_fail_while_a_machine_is_missing_come_at_their_usual_pace() -> None:
    async def main() -> None:
        w = watched()
        id = w.make("a", recorded=True)
        task = asyncio.create_task(w.inventory.run())
        await asyncio.sleep(5)
        w.world.forget(id)
        await asyncio.sleep(15)
        fault = w.world.fail("list", errors.Transient("no answer"), times=float("inf"))
        await asyncio.sleep(60)
        before = w.world.counts()["list"]
        await asyncio.sleep(60)
        assert w.world.counts()["list"] - before <= 61
        w.world.clear(fault)
        await asyncio.sleep(10)
        assert w.gone("a", id)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    loop.run(main())


def test_a_machine_that_stays_missing_keeps_nobody_awake() -> None:
    async def main() -> int:
        w = watched()
        id = w.make("a", recorded=True)
        task = asyncio.create_task(w.inventory.run())
        await asyncio.sleep(5)
        w.world.forget(id)
        await asyncio.sleep(900)
        assert w.gone("a", id)
        before = w.world.counts()["list"]
        await asyncio.sleep(3600)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return w.world.counts()["list"] - before

    assert loop.run(main()) <= 300


def test_who_waits_for_the_next_list_is_woken_by_it_once() -> None:
    async def main() -> None:
        w = watched()
        await w.inventory.poll()
        w.inventory.wake_after_list(KEY)
        w.world.fail("list", errors.Transient("no answer"))
        await w.inventory.poll()
        assert w.keys == [], "no list came"
        await w.inventory.poll()
        await w.inventory.poll()
        assert w.keys == [KEY]

    loop.run(main())


def test_two_live_machines_of_one_identity_are_duplicates_until_one_ends() -> None:
    async def main() -> None:
        w = watched()
        w.make("a")
        second, _ = w.make("b"), w.make("b")
        await w.inventory.poll()
        assert w.inventory.duplicates() == {Identity("b", 0)}
        w.world.kill(second)
        await w.inventory.poll()
        assert w.inventory.duplicates() == frozenset()

    loop.run(main())


def _lists(w: Watched, seconds: float, pending: bool) -> int:
    async def main() -> int:
        w.__post_init__()
        task = asyncio.create_task(w.inventory.run())
        if pending:
            w.make("a")
        else:
            await asyncio.sleep(900)
        before = w.world.counts()["list"]
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return w.world.counts()["list"] - before

    return loop.run(main())


def _world(boot: float) -> Watched:
    async def made() -> Watched:
        return watched(Settings(boot_seconds=lambda rng: boot))

    return loop.run(made())


def test_a_quiet_account_is_listed_at_most_300_times_an_hour() -> None:
    assert 200 <= _lists(_world(0.0), 3600, pending=False) <= 300


def test_while_a_machine_boots_the_list_comes_every_second_and_then_every_two() -> None:
    assert 28 <= _lists(_world(1000.0), 60, pending=True) <= 40


def test_hurrying_makes_no_more_than_about_one_list_a_second() -> None:
    async def main() -> int:
        w = watched()
        task = asyncio.create_task(w.inventory.run())
        for _ in range(600):
            w.inventory.hurry()
            await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return w.world.counts()["list"]

    assert loop.run(main()) <= 75


def test_a_list_that_is_no_list_stops_nobody_else() -> None:
    """Garbage is found where it is used, which is not to end the process."""

    async def main() -> None:
        w = watched()
        w.world.falsify(lambda machines: None)  # pyright: ignore[reportArgumentType, reportReturnType] -- the garbage is the point
        await w.inventory.poll()
        assert isinstance(w.inventory.trouble, errors.Transient)

    loop.run(main())


def test_two_clouds_of_one_account_share_one_list(tmp_path: Path) -> None:
    other = Key("Cloud", "default", "other")

    async def scenario(rig: Rig) -> None:
        rig.bind()
        rig.bind(other)
        await asyncio.sleep(60)
        assert len(rig.clouds.inventories()) == 1
        assert rig.world.counts()["list"] <= 75
        rig.clouds.unbind(CLOUD)
        before = rig.world.counts()["list"]
        await asyncio.sleep(60)
        assert rig.world.counts()["list"] > before, "the other Cloud still needs it"
        rig.clouds.unbind(other)
        before = rig.world.counts()["list"]
        await asyncio.sleep(60)
        assert rig.world.counts()["list"] == before
        assert not rig.clouds.inventories()

    run(tmp_path, scenario)
