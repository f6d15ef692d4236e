"""`occopus status --wait` where what it waits for is deleted: nobody is told that it is Ready."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from controller.cli import home, inspect
from controller.cli.inspect import StatusOptions
from controller.cli.target import StateFile, Target
from controller.ports import Obj
from controller.stores.sqlite import SqliteStore
from tests.contract.stores import RULES
from tests.unit.cli.looks import PATIENCE_SECONDS, Looks, infrastructure

SHOP, SHOP_LATE, BLOG = infrastructure("shop", ready=True), infrastructure("shop", ready=False), infrastructure("blog", ready=True)


@pytest.mark.parametrize(
    ("looks", "names", "code"),
    [
        pytest.param(((SHOP_LATE,), (SHOP,)), ("shop",), 0, id="comes-up"),
        pytest.param(((SHOP_LATE,), ()), ("shop",), 1, id="goes"),
        pytest.param(((SHOP_LATE,), ()), (), 1, id="goes-the-only-one"),
        pytest.param(((SHOP_LATE, BLOG), (BLOG,)), (), 1, id="one-of-all-goes"),
        pytest.param(((SHOP_LATE, BLOG), (SHOP_LATE,)), ("blog", "shop"), 1, id="one-goes-and-the-other-is-late"),
        pytest.param(((BLOG, SHOP_LATE), (BLOG, SHOP)), ("shop",), 0, id="another-is-not-asked-of"),
        pytest.param(((BLOG, SHOP_LATE), (SHOP,)), ("shop",), 0, id="another-goes"),
    ],
)
def test_what_goes_is_no_success(
    looks: tuple[tuple[Obj, ...], ...],
    names: tuple[str, ...],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @contextlib.asynccontextmanager
    async def opened(_: Target) -> AsyncGenerator[Looks]:
        store = SqliteStore.open(tmp_path / "state.db", RULES, lock=True, inline=True)
        yield Looks(store, looks)
        await store.close()

    monkeypatch.setattr(home, "open", opened)
    options = StatusOptions(output="text", wait=True, timeout=PATIENCE_SECONDS)
    assert asyncio.run(asyncio.wait_for(inspect.status(StateFile(tmp_path), names, options), PATIENCE_SECONDS / 2)) == code
    assert ("was deleted" in capsys.readouterr().err) is (code == 1)
