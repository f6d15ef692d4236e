"""A Kubernetes API server as the home of the objects, for the commands that look, scale and check.

`controller.cli.home` opens it, `validate` uses what it has beside that face. It decides how often is looked, and in which words a
cluster that cannot be used is refused. Requests and their refusals are the Kubernetes store's matter; nothing is reconciled here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import cast

import aiohttp
import click

from controller import errors
from controller.cli import kubeconfig, target
from controller.clouds import plugins
from controller.engine.objects import Objects
from controller.ports import CloudPlugin, Key, Obj, Snapshot
from controller.stores import answers, merge, resources
from controller.stores.answers import Asked
from controller.stores.kubernetes import KubernetesStore
from controller.stores.requests import Requests

#: What `status` shows.
_SHOWN = ("Infrastructure", "InstanceGroup", "Instance")
#: The pause between two looks, or so many times as long as the last look took: whoever waits must not be a load.
_LOOK_SECONDS, _LOOK_RATIO = 1.0, 4.0
_WRITE = {"fieldManager": "occopus-command", "fieldValidation": "Strict"}
_DRY_RUN = {**_WRITE, "dryRun": "All"}


class Cluster:
    """Satisfies `controller.cli.home.Home`, for one namespace."""

    state_directory: Path | None = None

    def __init__(self, login: kubeconfig.Login, session: aiohttp.ClientSession, opened: target.ApiServer) -> None:
        self.namespace = opened.namespace or login.access.namespace
        self.store = KubernetesStore(login.access, session, namespaces=(self.namespace,))
        self.plugins: tuple[CloudPlugin, ...] = plugins.installed()
        self.objects = Objects(self.store)
        self._opened = opened
        self._requests = Requests(login.access, session)

    async def synced(self) -> None:
        await self._look()

    async def changes(self) -> AsyncIterator[None]:
        """Looks again and again. Who waits for hours outlives a restart of the API server: one that gives no answer is asked again."""
        pause, said = _LOOK_SECONDS, ""
        while True:
            yield
            await asyncio.sleep(pause)
            try:
                pause = await self._look()
            except errors.Unavailable as error:
                if str(error) != said:
                    said = str(error)
                    click.echo(f"warning: {said}; trying again", err=True)

    async def _look(self) -> float:
        """Take in all that is shown; the pause before the next look, in seconds."""
        started = time.monotonic()
        found = [obj for kind in _SHOWN for obj in await self.store.list(kind, self.namespace)]
        self.objects.take(Snapshot(tuple(found)))
        return max(_LOOK_SECONDS, _LOOK_RATIO * (time.monotonic() - started))

    async def scale(self, group: str, replicas: int) -> None:
        """By the scale subresource, as `kubectl scale` does: who may do that need not be allowed to write the group itself."""
        asked = Asked("patch", resources.resource("InstanceGroup"), self.namespace, group, "scale")
        await self._requests.send(asked, {"spec": {"replicas": replicas}}, query=_WRITE)

    async def check(self, document: Obj) -> Obj:
        """The document as it would be stored, asked of the server without storing it. Raises Rejected."""
        body = resources.new(document, self.namespace)
        place = body["metadata"]["namespace"]
        subject = f'{body["kind"]} "{body["metadata"]["name"]}"'
        if self._opened.namespace is not None and place != self._opened.namespace:
            cause = errors.Cause("metadata.namespace", f"is {place}, and -n says {self._opened.namespace}")
            raise errors.Rejected(subject, (cause,))
        resource = resources.resource(body["kind"])
        body.pop("status", None)
        with contextlib.suppress(errors.AlreadyExists):
            made = await self._requests.send(Asked("create", resource, place, body["metadata"]["name"]), body, query=_DRY_RUN)
            return resources.shown(made, resource)
        return await self._check_update(body, resource)

    async def _check_update(self, body: Obj, resource: resources.Resource) -> Obj:
        """Of an object that exists: what may never change is asked too."""
        metadata = body["metadata"]
        asked = Asked("patch", resource, metadata["namespace"], metadata["name"])
        seen = await self.store.get(Key(resource.kind, metadata["namespace"], metadata["name"]))
        parts = _without_null({name: value for name, value in body.items() if name not in ("apiVersion", "kind", "metadata")})
        before = {name: seen[name] for name in ("spec", "data", "stringData") if name in seen}
        changed = await self._requests.send(asked, merge.difference(before, parts), query=_DRY_RUN)
        return resources.shown(changed, resource)


def _without_null(value: Obj) -> Obj:
    """A null in a document is a field that is not set."""
    return {name: _without_null(cast(Obj, each)) if isinstance(each, dict) else each for name, each in value.items() if each is not None}


@contextlib.asynccontextmanager
async def open(opened: target.ApiServer) -> AsyncGenerator[Cluster]:
    """Log in; nothing is asked yet. Raises UsageError; in the block, StoreUnusable for what the server does not answer or allow."""
    login = await asyncio.to_thread(kubeconfig.read, opened.kubeconfig, opened.context)
    try:
        async with kubeconfig.session(login) as session:
            yield Cluster(login, session, opened)
    except answers.NotServed as error:
        raise errors.StoreUnusable(f"{error}: `{opened.kubectl('apply', '-f', 'crds/')}` applies them") from error
    except (errors.Unavailable, errors.Forbidden) as error:
        raise errors.StoreUnusable(str(error)) from error


__all__ = ["Cluster", "open"]
