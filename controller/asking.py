"""How one process learns that another, which reconciles the state file, has looked at what it wrote: a question and its answer.

The question is an annotation of the Infrastructure (`meta.ASKED`), written after all else; changes reach the other process in their
order. The answer is that it is taken away. Flux does alike by `reconcile.fluxcd.io/requestedAt` (fluxcd.io, "Triggering a
reconcile"), with the answer in status; here nobody reads it afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator

from controller import errors
from controller.api import meta
from controller.engine.engine import Engine
from controller.engine.objects import Objects
from controller.ports import Key, Obj, Store

log = logging.getLogger(__name__)

#: An answer that the store does not take is given again so much later.
_AGAIN_SECONDS = 1.0


def question() -> Obj:
    """The patch that asks, as nobody has asked before."""
    return {"metadata": {"annotations": {meta.ASKED: uuid.uuid4().hex}}}


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
    taken: Obj = {"metadata": {"annotations": {meta.ASKED: None}}}
    while True:
        try:
            seen = await store.get(key)
            if _of(seen) == question:
                await store.patch(key, taken, version=seen["metadata"]["resourceVersion"])
            return
        except errors.Conflict:
            continue
        except errors.ObjectNotFound:
            return
        except errors.StoreError as error:
            log.warning("What was asked of %s cannot be answered yet, and is tried again: %s", key, error)
            await asyncio.sleep(_AGAIN_SECONDS)


def _of(obj: Obj) -> str:
    return obj["metadata"].get("annotations", {}).get(meta.ASKED, "")


__all__ = ["answer", "asked", "question"]
