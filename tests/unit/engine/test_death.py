"""What an engine dies of is raised as it is: whoever runs it has a sentence and an exit code for each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller import errors
from controller.engine.engine import Engine, Options, Ports
from controller.ports import Change
from controller.reconcilers.wakes import wakes
from controller.stores.sqlite import SqliteStore
from tests.simulated import loop
from tests.simulated.checker import SimulatedChecker
from tests.simulated.harness import inline
from tests.simulated.renderer import InlineRenderer
from tests.unit.engine.rig import Rig, run


class Breaking:
    """A store whose watch breaks after the first look."""

    def __init__(self, store: SqliteStore, error: Exception) -> None:
        self._store, self._error = store, error

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def watch(self) -> AsyncIterator[Change]:
        async for change in self._store.watch():
            yield change
            raise self._error


@pytest.mark.parametrize("error", [pytest.param(each("broken"), id=each.__name__) for each in (errors.StoreUnusable, errors.Unavailable)])
def test_the_error_of_a_part_is_the_engines(tmp_path: Path, error: errors.StoreError) -> None:
    async def scenario(rig: Rig) -> None:
        store = Breaking(rig.store, error)
        ports = Ports(store, (rig.plugin,), InlineRenderer(), SimulatedChecker(rig.world), inline, loop.now)  # pyright: ignore[reportArgumentType] -- __getattr__ has the rest
        engine = Engine(ports, Options("id", ""), {}, wakes)
        with pytest.raises(errors.StoreError) as died:
            await engine.run()
        assert died.value is error
        await engine.close()

    run(tmp_path, scenario)
