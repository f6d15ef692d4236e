"""The stores that the contract suite runs over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from controller.ports import Store
from tests.contract.stores import FILE_HOMES, HOMES, Clock, Home, OnStore, Place, run


@pytest.fixture(params=[pytest.param(home, id=home.name) for home in HOMES])
def on_store(request: pytest.FixtureRequest, tmp_path: Path) -> OnStore:
    """Runs a coroutine function over a fresh store of each home."""
    return _runner(request, tmp_path)


@pytest.fixture(params=[pytest.param(home, id=home.name) for home in FILE_HOMES])
def on_file(request: pytest.FixtureRequest, tmp_path: Path) -> OnStore:
    """Runs a coroutine function over a fresh state file."""
    return _runner(request, tmp_path)


def _runner(request: pytest.FixtureRequest, directory: Path) -> OnStore:
    home: Home = request.param
    clock = Clock()
    cluster = request.getfixturevalue("cluster") if home.on_cluster else None

    def go(test: Callable[[Store, Clock], Awaitable[None]]) -> None:
        async def opened() -> None:
            async with home.open(Place(directory, clock, cluster)) as store:
                await test(store, clock)

        run(opened())

    return go
