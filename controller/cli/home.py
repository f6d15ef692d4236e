"""The one face that state file and cluster have for the commands which look and scale; and which of them is opened.

A `Desktop` satisfies it as it is, `controller.cli.cluster` is made for it. Commands know this face alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Protocol

from controller import errors
from controller.cli.target import ApiServer, StateFile, Target
from controller.engine.objects import Objects
from controller.ports import CloudPlugin, Key, Obj, Store


class Home(Protocol):
    """Where the objects are. Raises StoreUnusable where nobody answers or what is asked is forbidden."""

    @property
    def namespace(self) -> str:
        """The one that the commands speak of."""
        ...

    @property
    def store(self) -> Store: ...

    @property
    def plugins(self) -> tuple[CloudPlugin, ...]: ...

    @property
    def objects(self) -> Objects:
        """Infrastructures, groups and Instances, read by `synced` and kept current by `changes`."""
        ...

    async def synced(self) -> None:
        """Returns when everything was read once."""
        ...

    def changes(self) -> AsyncIterator[None]:
        """Yields at once, and again when something may have changed."""
        ...

    async def scale(self, group: str, replicas: int) -> None:
        """Raises ObjectNotFound, Rejected."""
        ...

    @property
    def state_directory(self) -> Path | None:
        """Where the machines of local clouds live; None where that is not known."""
        ...


@contextlib.asynccontextmanager
async def open(target: Target) -> AsyncGenerator[Home]:
    """What the options name, to look at and to edit. Raises StoreUnusable, UsageError."""
    match target:
        case StateFile(path, moved):
            from controller import desktop

            async with desktop.open(desktop.Settings(path, moved)) as desk:
                yield desk
        case ApiServer():
            from controller.cli import cluster

            async with cluster.open(target) as found:
                yield found


async def find(home: Home, kind: str, name: str) -> Obj:
    """One object, read live. Raises UsageError where there is none."""
    try:
        return await home.store.get(Key(kind, home.namespace, name))
    except errors.ObjectNotFound:
        raise errors.UsageError(f"there is no {kind} {name}") from None


__all__ = ["Home", "find", "open"]
