"""State files as tests make, move and open them."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller import errors
from controller.stores.sqlite import SqliteStore
from tests.api import samples
from tests.contract.stores import RULES, Clock, run


def open_store(path: Path, *, lock: bool = True, moved: bool = False) -> SqliteStore:
    return SqliteStore.open(path, RULES, lock=lock, moved=moved, now=Clock())


def made(path: Path) -> str:
    """A state file with one Cloud in it, closed; returns its controller id."""

    async def make() -> str:
        store = open_store(path)
        await store.create(samples.cloud())
        await store.close()
        return store.controller_id

    return run(make())


def unusable(path: Path, *words: str, lock: bool = True, moved: bool = False) -> None:
    """Look that it is refused, in these words."""
    with pytest.raises(errors.StoreUnusable) as refusal:
        open_store(path, lock=lock, moved=moved)
    for word in (str(path), *words):
        assert word in str(refusal.value)


def move(path: Path) -> Path:
    return path.rename(path.with_name("moved.db"))


async def names(store: SqliteStore) -> list[str]:
    return [each["metadata"]["name"] for each in await store.list("Cloud")]
