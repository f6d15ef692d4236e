"""The stores that the contract suite runs over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from controller.ports import Store
from tests.contract.stores import HOMES, Clock, OnStore, run


@pytest.fixture(params=[pytest.param(home, id=home.name) for home in HOMES])
def on_store(request: pytest.FixtureRequest, tmp_path: Path) -> OnStore:
    """Runs a coroutine function over a fresh store."""

    def go(test: Callable[[Store, Clock], Awaitable[None]]) -> None:
        async def opened() -> None:
            clock = Clock()
            async with request.param.open(tmp_path, clock) as store:
                await test(store, clock)

        run(opened())

    return go
