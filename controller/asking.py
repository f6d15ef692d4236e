"""How one process learns that another, which reconciles the state file, has looked at what it wrote: a question and its answer.

The question is an annotation of the Infrastructure (`meta.ASKED`), written after all else; changes reach the other process in their
order. The answer is that it is taken away. Flux does alike by `reconcile.fluxcd.io/requestedAt` (fluxcd.io, "Triggering a
reconcile"), with the answer in status; here nobody reads it afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator

from controller import errors
from controller.api import meta
from controller.engine.engine import Engine
from controller.engine.objects import Objects
from controller.ports import Key, Obj, Store


def question() -> str:
    """One that nobody has asked before."""
    return uuid.uuid4().hex


def asking(question: str) -> Obj:
    """The patch that asks."""
    return {"metadata": {"annotations": {meta.ASKED: question}}}


def asked(objects: Objects, key: Key) -> str:
    """What waits for an answer; empty where nothing does."""
    found = objects.get(key)
    return "" if found is None else _of(found)


async def answer(engine: Engine, objects: Objects, changes: AsyncIterator[None], store: Store) -> None:
    """Answer each question of the objects once the engine has looked at all that was written before it, until cancelled.

    `changes` yields whenever the objects have changed.
    """
    begun: dict[Key, tuple[str, asyncio.Task[None]]] = {}
    try:
        async for _ in changes:
            questions = {key: now for key in objects.keys("Infrastructure") if (now := asked(objects, key))}
            for key in [each for each, (old, _) in begun.items() if questions.get(each) != old]:
                begun.pop(key)[1].cancel()
            for key, now in questions.items():
                if key not in begun:
                    begun[key] = now, asyncio.create_task(_answer(engine, store, key, now))
    finally:
        for _, task in begun.values():
            task.cancel()


async def _answer(engine: Engine, store: Store, key: Key, question: str) -> None:
    await engine.verified(key.name, question)
    with contextlib.suppress(errors.ObjectNotFound):
        while _of(seen := await store.get(key)) == question:
            with contextlib.suppress(errors.Conflict):
                taken: Obj = {"metadata": {"annotations": {meta.ASKED: None}}}
                await store.patch(key, taken, version=seen["metadata"]["resourceVersion"])


def _of(obj: Obj) -> str:
    return obj["metadata"].get("annotations", {}).get(meta.ASKED, "")


__all__ = ["answer", "asked", "asking", "question"]
