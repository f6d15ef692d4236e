"""`occopus delete` where another object gets the name of what was deleted: it is not waited for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

from controller.cli import commands, follow
from controller.desktop import Desktop
from controller.ports import Key
from controller.stores.sqlite import SqliteStore
from tests.contract.stores import RULES
from tests.unit.cli.looks import PATIENCE_SECONDS, Looks, infrastructure


def test_what_was_made_anew_under_the_name_is_another_one(tmp_path: Path) -> None:
    first, second = infrastructure("shop", ready=True), infrastructure("shop", ready=False, uid="second")

    async def wait() -> bool:
        store = SqliteStore.open(tmp_path / "state.db", RULES, lock=True, inline=True)
        desk = cast(Desktop, Looks(store, ((first,), (second,))))
        uids = {Key("Infrastructure", "default", "shop"): first["metadata"]["uid"]}
        try:
            return await commands._gone(desk, uids, follow.Limit(PATIENCE_SECONDS / 2), quiet=True)  # pyright: ignore[reportPrivateUsage]
        finally:
            await store.close()

    assert asyncio.run(wait())
