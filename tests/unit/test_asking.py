"""Whoever reconciles answers what other processes ask, each question once its infrastructure was looked at, and no other's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from controller import asking, desktop, errors
from controller.api import meta
from controller.desktop import Desktop, Settings
from controller.engine.engine import Engine
from controller.ports import Key, Obj
from controller.stores.rules import Rules
from controller.stores.sqlite import SqliteStore
from tests.api import samples

SHOP, OTHER = Key("Infrastructure", "default", "shop"), Key("Infrastructure", "default", "other")


class _Looks:
    """An engine as far as questions need one: it has looked once told so, by infrastructure and question."""

    def __init__(self) -> None:
        self._looked: dict[tuple[str, str], asyncio.Event] = {}

    def looked(self, name: str, question: str) -> asyncio.Event:
        return self._looked.setdefault((name, question), asyncio.Event())

    async def verified(self, name: str, asked: str = "") -> None:
        await self.looked(name, asked).wait()


def _infrastructure(name: str) -> Obj:
    return {"apiVersion": meta.API_VERSION, "kind": "Infrastructure", "metadata": {"name": name}, "spec": {"services": []}}


def _play(tmp_path: Path, main: Callable[[Desktop, _Looks], Awaitable[None]]) -> None:
    """Two Infrastructures, and one who answers."""

    async def play() -> None:
        settings = Settings(tmp_path / "state.db", plugins=samples.PLUGINS)
        await SqliteStore.open(settings.path, Rules(samples.PLUGINS), lock=True, inline=True).close()
        async with desktop.open(settings) as opened:
            await opened.apply(_infrastructure(key.name) for key in (SHOP, OTHER))
            engine = _Looks()
            answering = asyncio.create_task(asking.answer(cast(Engine, engine), opened.objects, opened.changes(), opened.store))
            try:
                await main(opened, engine)
            finally:
                answering.cancel()

    asyncio.run(play())


async def _until(opened: Desktop, holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        async for _ in opened.changes():
            if holds():
                return


async def _ask(opened: Desktop, key: Key, question: str) -> None:
    await opened.change(key, {"metadata": {"annotations": {meta.ASKED: question}}})
    await _until(opened, lambda: asking.asked(opened.objects, key) == question)


def test_a_question_is_answered_once_all_was_looked_at(tmp_path: Path) -> None:
    async def main(opened: Desktop, engine: _Looks) -> None:
        await opened.change(SHOP, {"metadata": {"annotations": {"example.org/mine": "stays"}}})
        await _ask(opened, SHOP, "one")
        engine.looked("shop", "").set()
        engine.looked("other", "one").set()
        await _ask(opened, OTHER, "two")
        assert asking.asked(opened.objects, SHOP) == "one"
        engine.looked("shop", "one").set()
        await _until(opened, lambda: asking.asked(opened.objects, SHOP) == "")
        found = opened.objects.get(SHOP)
        assert found is not None
        assert found["metadata"]["annotations"] == {"example.org/mine": "stays"}

    _play(tmp_path, main)


def test_one_that_cannot_be_looked_at_holds_up_no_other(tmp_path: Path) -> None:
    async def main(opened: Desktop, engine: _Looks) -> None:
        await _ask(opened, OTHER, "never")
        await _ask(opened, SHOP, "one")
        engine.looked("shop", "one").set()
        await _until(opened, lambda: asking.asked(opened.objects, SHOP) == "")
        assert asking.asked(opened.objects, OTHER) == "never"

    _play(tmp_path, main)


def test_a_later_question_is_not_answered_by_the_look_for_an_earlier_one(tmp_path: Path) -> None:
    async def main(opened: Desktop, engine: _Looks) -> None:
        await _ask(opened, SHOP, "one")
        await _ask(opened, SHOP, "two")
        engine.looked("shop", "one").set()
        await _ask(opened, OTHER, "three")
        engine.looked("other", "three").set()
        await _until(opened, lambda: asking.asked(opened.objects, OTHER) == "")
        assert asking.asked(opened.objects, SHOP) == "two"
        engine.looked("shop", "two").set()
        await _until(opened, lambda: meta.ASKED not in str(opened.objects.get(SHOP)))

    _play(tmp_path, main)


def test_an_answer_that_the_store_does_not_take_is_given_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(opened: Desktop, engine: _Looks) -> None:
        patch, refusals = opened.store.patch, [errors.Unavailable("the disk is full"), errors.Conflict("read again")]

        async def refused(*arguments: Any, **named: Any) -> Obj:
            if refusals:
                raise refusals.pop(0)
            return await patch(*arguments, **named)

        await _ask(opened, SHOP, "one")
        monkeypatch.setattr(opened.store, "patch", refused)
        monkeypatch.setattr("controller.asking._AGAIN_SECONDS", 0.0)
        engine.looked("shop", "one").set()
        await _until(opened, lambda: asking.asked(opened.objects, SHOP) == "")
        assert refusals == []

    _play(tmp_path, main)


def test_what_was_deleted_needs_no_answer(tmp_path: Path) -> None:
    async def main(opened: Desktop, engine: _Looks) -> None:
        await _ask(opened, SHOP, "one")
        await opened.delete(SHOP)
        engine.looked("shop", "one").set()
        await _until(opened, lambda: opened.objects.get(SHOP) is None)
        await _ask(opened, OTHER, "two")
        engine.looked("other", "two").set()
        await _until(opened, lambda: asking.asked(opened.objects, OTHER) == "")

    _play(tmp_path, main)
