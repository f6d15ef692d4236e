"""Lists of a large account: most leave out what runs, and nothing is missed by it, nor proved by it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from controller import errors
from controller.engine import inventory as engine_inventory
from controller.engine.inventory import PAGE
from controller.ports import Identity, Machine, MachineId, MachineState
from tests.simulated import loop
from tests.simulated.cloud import SimulatedCloud, SimulatedCloudFields
from tests.simulated.harness import CONTROLLER
from tests.simulated.world import Settings, World
from tests.unit.engine.test_inventory import KEY, Watched, watched


class _Noting(SimulatedCloud):
    """Notes what each list was asked for: "whole" or "changes"."""

    def __init__(self, world: World) -> None:
        super().__init__(world, SimulatedCloudFields(account="a1", region="r1"), CONTROLLER)
        self.asked: list[str] = []
        #: Ids that a question by id does not find.
        self.blind: set[MachineId] = set()

    def list(self, *, running: bool = True) -> Sequence[Machine]:
        self.asked.append("whole" if running else "changes")
        return super().list(running=running)

    def describe(self, ids: Sequence[MachineId]) -> dict[MachineId, Machine]:
        return super().describe([each for each in ids if each not in self.blind])


def _noting(w: Watched) -> _Noting:
    driver = _Noting(w.world)
    w.inventory.driver = driver
    return driver


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines are many."""
    monkeypatch.setattr(engine_inventory, "_WORTH_LEAVING_OUT", 1)


def _state(w: Watched, batch: str) -> MachineState | None:
    return next((each.state for each in w.inventory.sight(Identity(batch, 0), None).machines), None)


def test_what_runs_is_left_out_and_still_known() -> None:
    async def main() -> None:
        w = watched()
        driver = _noting(w)
        for batch in ("a", "b", "c"):
            w.make(batch)
        for _ in range(3):
            await w.inventory.poll()
        assert driver.asked == ["whole", "changes", "changes"]
        assert len(w.inventory.machines) == 3
        assert (sorted(w.woken), w.moved) == (["a", "b", "c"], 1), "nothing moved"
        assert w.world.counts()["describe"] == 0

    loop.run(main())


def test_a_small_account_is_listed_whole() -> None:
    async def main() -> None:
        w = watched()
        driver = _noting(w)
        w.make("a")
        for _ in range(5):
            await w.inventory.poll()
        assert driver.asked == ["whole"] * 5
        assert PAGE >= 100, "what is listed by one call is not worth a second"

    loop.run(main())


def test_one_that_ends_stops_or_starts_is_seen_by_the_next_list() -> None:
    async def main() -> None:
        w = watched(Settings(boot_seconds=lambda rng: 5.0))
        driver = _noting(w)
        ids = {batch: w.make(batch) for batch in ("a", "b", "c", "d")}
        await asyncio.sleep(6)
        await w.inventory.poll()
        w.make("new")
        w.world.kill(ids["a"])
        w.world.stop(ids["b"])
        w.woken.clear()
        await w.inventory.poll()
        assert sorted(w.woken) == ["a", "b", "new"]
        assert (_state(w, "a"), _state(w, "b"), _state(w, "new")) == (MachineState.TERMINATED, MachineState.STOPPED, MachineState.PENDING)
        w.woken.clear()
        await asyncio.sleep(6)
        await w.inventory.poll()
        assert (w.woken, _state(w, "new")) == (["new"], MachineState.RUNNING), "it is asked for by id, as nobody has recorded it"
        assert driver.asked == ["whole", "changes", "changes"]

    loop.run(main())


def test_one_answer_that_lacks_what_has_started_is_no_proof() -> None:
    async def main() -> None:
        w = watched(Settings(boot_seconds=lambda rng: 5.0))
        driver = _noting(w)
        for batch in ("a", "b", "c"):
            w.make(batch)
        await asyncio.sleep(6)
        await w.inventory.poll()
        new = w.make("new")
        await w.inventory.poll()
        await asyncio.sleep(6)
        driver.blind.add(new)
        await w.inventory.poll()
        assert _state(w, "new") is MachineState.PENDING, "it is neither shown nor gone"
        await w.inventory.poll()
        assert _state(w, "new") is MachineState.RUNNING
        assert driver.asked == ["whole", "changes", "changes", "whole"]
        w.world.forget(w.make("short"))
        await w.inventory.poll()
        assert _state(w, "short") is None

    loop.run(main())


def test_only_a_whole_list_is_proof_and_who_waits_for_it_gets_one() -> None:
    async def main() -> None:
        w = watched()
        driver = _noting(w)
        for batch in ("a", "b", "c"):
            w.make(batch)
        await w.inventory.poll()
        listed = w.inventory.listed
        assert listed is not None
        await asyncio.sleep(1)
        w.inventory.wake_after_answer(KEY)
        await w.inventory.poll()
        assert (w.keys, w.inventory.listed) == ([KEY], listed)
        w.inventory.wake_after_list(KEY)
        await w.inventory.poll()
        assert w.inventory.listed is not None
        assert w.inventory.listed > listed
        assert driver.asked == ["whole", "changes", "whole"]

    loop.run(main())


def test_after_trouble_and_with_new_credentials_the_list_is_whole() -> None:
    async def main() -> None:
        w = watched()
        driver = _noting(w)
        for batch in ("a", "b", "c"):
            w.make(batch)
        await w.inventory.poll()
        w.world.fail("list", errors.Transient("no answer"))
        for _ in range(3):
            await w.inventory.poll()
        assert driver.asked == ["whole", "changes", "whole", "changes"]
        w.inventory.use(driver)
        await w.inventory.poll()
        assert driver.asked[4:] == ["whole"]

    loop.run(main())


@pytest.mark.parametrize("took", [pytest.param(each, id=f"lists take {each} s") for each in (0.0, 1.0, 3.0)])
def test_a_machine_that_is_absent_is_gone_within_a_minute_however_quiet_it_was(took: float) -> None:
    async def main() -> None:
        w = watched()
        w.took = took
        driver = _noting(w)
        ids = {batch: w.make(batch, recorded=True) for batch in ("a", "b", "c")}
        task = asyncio.create_task(w.inventory.run())
        for after in (900.0, 17.0, 23.0):
            await asyncio.sleep(after)
            batch, id = ids.popitem()
            w.world.forget(id)
            begun = loop.clock()
            while not w.gone(batch, id):
                await asyncio.sleep(0.5)
                assert loop.clock() - begun <= 58 + 2 * took
            del w.recorded[id]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert "changes" in driver.asked

    loop.run(main())


@pytest.mark.parametrize("took", [pytest.param(each, id=f"lists take {each} s") for each in (0.0, 1.0)])
def test_while_it_is_quiet_every_second_list_is_whole(took: float) -> None:
    async def main() -> list[str]:
        w = watched()
        w.took = took
        for batch in ("a", "b", "c"):
            w.make(batch)
        driver = _noting(w)
        task = asyncio.create_task(w.inventory.run())
        await asyncio.sleep(900)
        driver.asked.clear()
        await asyncio.sleep(3600)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return driver.asked

    asked = loop.run(main())
    assert len(asked) <= 300
    assert asked.count("whole") <= len(asked) / 2 + 1
