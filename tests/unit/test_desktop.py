"""What the desktop says of objects that are being deleted, which would go whatever is applied; and how it waits until all is Ready."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from controller import asking, desktop, errors
from controller.api import meta
from controller.desktop import Desktop, Settings
from controller.engine.engine import Engine
from controller.engine.objects import Objects
from controller.ports import Key, Obj
from controller.stores.rules import Rules
from controller.stores.sqlite import SqliteStore
from tests.api import samples

AT = "2026-01-01T00:00:00Z"
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


class _Looks:
    """An engine as far as `ready` asks it: it has verified once told so."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.told = asyncio.Event()

    async def verified(self, name: str) -> None:
        assert name == SHOP["metadata"]["name"]
        await self.told.wait()


async def _say(opened: Desktop, *, ready: bool) -> None:
    """What an earlier process, or another one, has said of the newest description."""
    seen = await opened.store.get(key(SHOP))
    status: Obj = {
        "observedGeneration": seen["metadata"]["generation"],
        "conditions": [
            {"type": "Ready", "status": str(ready), "reason": "Ready" if ready else "Reconciling", "message": "", "lastTransitionTime": AT}
        ],
    }
    said = await opened.store.patch(key(SHOP), {"status": status}, version=seen["metadata"]["resourceVersion"], subresource="status")
    await _until(opened, lambda: opened.objects.get(key(SHOP)) == said)


async def _until(opened: Desktop, holds: Callable[[], bool]) -> None:
    async for _ in opened.changes():
        if holds():
            return


def _ready(tmp_path: Path, play: Callable[[Desktop, asyncio.Task[None]], Awaitable[None]]) -> None:
    """Let somebody wait for an Infrastructure without services, of which nothing is said yet."""

    async def main() -> None:
        await SqliteStore.open(tmp_path / "state.db", Rules(samples.PLUGINS), lock=True, inline=True).close()
        async with desktop.open(Settings(tmp_path / "state.db", plugins=samples.PLUGINS)) as opened:
            await opened.apply([document(SHOP) | {"spec": {"services": []}}])
            waiting = asyncio.create_task(opened.ready(SHOP["metadata"]["name"]))
            await _until(opened, lambda: asking.asked(opened.objects, key(SHOP)) != "")
            try:
                await play(opened, waiting)
            finally:
                waiting.cancel()

    asyncio.run(main())


async def _rest() -> None:
    """Let everything go on that can without an answer from elsewhere."""
    for _ in range(20):
        await asyncio.sleep(0)


async def _answer(opened: Desktop) -> None:
    """As the process that reconciles does: what was asked is taken away, once all has been looked at."""
    assert asking.asked(opened.objects, key(SHOP))
    await opened.change(key(SHOP), {"metadata": {"annotations": {meta.ASKED: None}}})


@pytest.mark.parametrize("ready", [True, False])
def test_another_process_is_believed_once_it_has_looked(tmp_path: Path, ready: bool) -> None:
    async def play(opened: Desktop, waiting: asyncio.Task[None]) -> None:
        await _say(opened, ready=not ready)
        await _rest()
        assert not waiting.done()
        await _say(opened, ready=ready)
        assert not waiting.done()
        await _answer(opened)
        await (waiting if ready else _rest())
        assert waiting.done() == ready

    _ready(tmp_path, play)


def test_what_answers_a_later_question_answers_this_one(tmp_path: Path) -> None:
    async def play(opened: Desktop, waiting: asyncio.Task[None]) -> None:
        await _say(opened, ready=True)
        await opened.change(key(SHOP), asking.question())
        await _rest()
        assert not waiting.done()
        await _answer(opened)
        await waiting

    _ready(tmp_path, play)


def test_who_has_taken_over_looks_before_it_believes_what_was_left(tmp_path: Path) -> None:
    async def play(opened: Desktop, waiting: asyncio.Task[None]) -> None:
        await _say(opened, ready=False)
        engine = _Looks(opened.objects)
        opened.engine = cast(Engine, engine)
        await _say(opened, ready=True)
        await _rest()
        assert not waiting.done()
        engine.told.set()
        await waiting

    _ready(tmp_path, play)


@pytest.mark.parametrize("how", ["deleted", "paused"])
def test_what_cannot_become_ready_is_not_waited_for(tmp_path: Path, how: str) -> None:
    async def play(opened: Desktop, waiting: asyncio.Task[None]) -> None:
        await _say(opened, ready=False)
        await _rest()
        assert not waiting.done()
        if how == "deleted":
            await opened.delete(key(SHOP))
        else:
            await opened.change(key(SHOP), {"spec": {"paused": True}})
            await _say(opened, ready=False)
            await _answer(opened)
        with pytest.raises(errors.Stalled, match=how):
            await waiting

    _ready(tmp_path, play)
