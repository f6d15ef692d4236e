"""What the desktop says of objects that are being deleted: applied then, they would go all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from controller import desktop, errors
from controller.desktop import Settings
from controller.ports import Key, Obj
from controller.stores.rules import Rules
from controller.stores.sqlite import SqliteStore
from tests.api import samples

CLOUD, SECRET, SHOP = samples.cloud(), samples.secret(), samples.infrastructure()


def key(obj: Obj) -> Key:
    return Key(obj["kind"], "default", obj["metadata"]["name"])


def document(obj: Obj) -> Obj:
    return {**obj, "metadata": {"name": obj["metadata"]["name"]}}


@pytest.mark.parametrize(
    ("marked", "going"),
    [
        pytest.param((), (), id="nothing"),
        pytest.param((SHOP,), (SHOP,), id="an-infrastructure"),
        pytest.param((SECRET,), (), id="a-secret-that-its-cloud-keeps"),
        pytest.param((CLOUD, SECRET), (CLOUD, SECRET), id="a-secret-that-goes-with-its-cloud"),
    ],
)
def test_what_goes_is_told_and_not_applied(marked: tuple[Obj, ...], going: tuple[Obj, ...], tmp_path: Path) -> None:
    settings = Settings(tmp_path / "state.db", plugins=samples.PLUGINS)

    async def play() -> None:
        store = SqliteStore.open(settings.path, Rules(samples.PLUGINS), lock=True, inline=True)
        for each in (CLOUD, SECRET, SHOP):
            made = await store.create(each)
            if each in marked:
                await store.delete(key(each), uid=made["metadata"]["uid"])
        await store.close()
        documents = [document(each) for each in (CLOUD, SECRET, SHOP)]
        async with desktop.open(settings) as opened:
            assert opened.going(documents) == [key(each) for each in going]
            before = await opened.store.get(key(SHOP))
            if going:
                with pytest.raises(errors.UsageError):
                    await opened.apply(documents)
                assert await opened.store.get(key(SHOP)) == before
            else:
                await opened.apply(documents)
                assert await opened.store.get(key(SHOP)) != before

    asyncio.run(play())
