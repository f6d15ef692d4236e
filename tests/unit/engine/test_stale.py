"""A pass that met a conflict: the object is read again and the pass repeated soon, however often, and whatever the reading meets."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from controller import errors
from controller.engine.engine import Engine, Options, Ports
from controller.ports import Key, Obj
from controller.reconcilers.wakes import wakes
from controller.stores.sqlite import SqliteStore
from tests.simulated import loop
from tests.simulated.checker import SimulatedChecker
from tests.simulated.harness import inline
from tests.simulated.renderer import InlineRenderer
from tests.unit.engine.rig import Rig, run

KEY = Key("Cloud", "default", "sim")
CLOUD: Obj = {"metadata": {"name": "sim"}, "spec": {"simulated": {}}}


class Away:
    """A store whose single reads fail while `away` says so."""

    def __init__(self, store: SqliteStore, away: Callable[[], bool]) -> None:
        self._store, self._away = store, away

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def get(self, key: Key) -> Obj:
        if self._away():
            raise errors.Unavailable("away")
        return await self._store.get(key)


def passes(path: Path, error: Exception, times: int, away: Callable[[], bool] = lambda: False) -> list[float]:
    """When the passes over one Cloud were made, of which the first `times` raise the error."""
    made: list[float] = []

    async def reconcile(engine: Engine, key: Key) -> None:
        del engine
        assert key == KEY
        made.append(loop.clock())
        if len(made) <= times:
            raise error

    async def scenario(rig: Rig) -> None:
        await rig.put("Cloud", CLOUD)
        store = Away(rig.store, away)
        ports = Ports(store, (rig.plugin,), InlineRenderer(), SimulatedChecker(rig.world), inline, loop.now)  # pyright: ignore[reportArgumentType] -- __getattr__ has the rest
        engine = Engine(ports, Options("id", ""), {"Cloud": reconcile}, wakes)
        running = asyncio.create_task(engine.run())
        while len(made) <= times:
            await asyncio.sleep(0.1)
            assert not running.done(), running
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await engine.close()

    run(path, scenario)
    return made


def test_conflicts_are_tried_again_soon_however_many_there_were(tmp_path: Path) -> None:
    made = passes(tmp_path, errors.Conflict("somebody was faster"), 30)
    assert all(0 < later - earlier <= 2.0 for earlier, later in itertools.pairwise(made))


@pytest.mark.parametrize(
    "error", [pytest.param(each("said"), id=each.__name__) for each in (errors.Conflict, errors.ObjectNotFound, errors.AlreadyExists)]
)
def test_a_store_that_cannot_be_read_after_a_conflict_ends_nothing(tmp_path: Path, error: Exception) -> None:
    made = passes(tmp_path, error, 3, away=lambda: loop.clock() < 1e9)
    assert len(made) == 4
