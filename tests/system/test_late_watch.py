"""A watch that is late: what was taken from its owner meanwhile (`--cascade=orphan`) is not deleted with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.ports import Change, Changed, Store
from tests.crash.injector import FaultyStore, Injector
from tests.system.documents import alone
from tests.system.rig import Rig, ids, play


class _Late(FaultyStore):
    """A store whose watch tells of changes of one kind only once it may."""

    def __init__(self, store: Store, kind: str, may: asyncio.Event) -> None:
        super().__init__(store, Injector())
        self._kind, self._may = kind, may

    async def watch(self) -> AsyncIterator[Change]:
        kept: list[Change] = []
        async for change in super().watch():
            if isinstance(change, Changed) and change.object["kind"] == self._kind and not self._may.is_set():
                kept.append(change)
                continue
            while kept and self._may.is_set():
                yield kept.pop(0)
            yield change


@pytest.mark.parametrize(
    ("owner", "owned", "name"),
    [
        pytest.param("Infrastructure", "InstanceGroup", "shop-app", id="a group of an Infrastructure"),
        pytest.param("InstanceGroup", "Instance", "shop-app-0", id="an Instance of a group"),
    ],
)
def test_what_was_taken_from_its_owner_is_not_deleted_with_it(tmp_path: Path, owner: str, owned: str, name: str) -> None:
    async def main(rig: Rig) -> None:
        may = asyncio.Event()
        may.set()
        rig.wrap_store = lambda store: _Late(store, owned, may)
        await rig.restart()
        await rig.up(*alone(1))
        live = ids(rig.world.live())
        rig.left |= live
        may.clear()
        # As the garbage collector does: what is owned first.
        await rig.patch(owned, name, {"metadata": {"ownerReferences": None}})
        await rig.delete(owner, "shop" if owner == "Infrastructure" else "shop-app")
        await rig.let_pass(20)
        assert ids(rig.world.live()) == live
        assert all("deletionTimestamp" not in each["metadata"] for each in await rig.store.list(owned))

    play(tmp_path, main)
