"""The Kubernetes home of the store port: custom resources on an API server, over one aiohttp session.

The operator and whoever else has an `Access` opens it. It decides what is done about a mutation whose answer was lost (a live
read decides) and what callers see of an object; paths, refusals, requests, watches and events are its neighbours' matters. It
watches nothing itself: `observe` is told what the process' event source saw.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Any, Literal, cast

import aiohttp

from controller import errors
from controller.ports import Change, Changed, Event, Gone, Key, Now, Obj
from controller.stores import merge, resources
from controller.stores.access import Access
from controller.stores.answers import Asked, Lost, NotServed
from controller.stores.events import Recorder
from controller.stores.requests import JSON, METADATA, Listed, Requests
from controller.stores.watching import Watch

#: Who wrote a field, in `managedFields`, and that an unknown field is an error and not dropped.
_WRITE = {"fieldManager": "occopus", "fieldValidation": "Strict"}


def _utc_now() -> datetime:
    return datetime.now(UTC)


class KubernetesStore:
    """The store port over a Kubernetes API server. Belongs to the event loop of its session, which its opener closes."""

    def __init__(
        self,
        access: Access,
        session: aiohttp.ClientSession,
        *,
        namespaces: tuple[str, ...] = (),
        holds: Callable[[], bool] = lambda: True,
        now: Now = _utc_now,
    ) -> None:
        """`namespaces` are all that is listed; none means the whole cluster. `holds` says whether our lease does."""
        self._requests = Requests(access, session)
        self._namespace = access.namespace
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self._holds = holds
        self._recorder = Recorder(self._requests, now)
        self._watches: set[Watch] = set()

    @property
    def events_forbidden(self) -> Mapping[str, int]:
        """How many events we were not allowed to record, by namespace."""
        return self._recorder.forbidden

    # --- reading
    async def get(self, key: Key) -> Obj:
        resource = resources.resource(key.kind)
        found = await self._requests.send(Asked("get", resource, key.namespace, key.name))
        return self._returned(found, resource)

    async def list(self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> list[Obj]:
        """Secrets are read by their names alone: asking for all of them raises Forbidden, whatever the server would say."""
        resource = resources.resource(kind)
        if kind == "Secret":
            raise errors.Forbidden("list secrets: Secrets are read one by one, by name")
        selector = ",".join(f"{name}={value}" for name, value in (labels or {}).items())
        places = self._namespaces if namespace is None else (namespace,)
        return [obj for place in places for obj in (await self._requests.all(resource, place, selector)).objects]

    async def forbidden(self) -> dict[str, str]:
        """Those of our namespaces of which we may not list all that is watched, and what the server says. Of the whole cluster: none.

        A namespace that is deleted takes the RoleBinding in it along at once, and its objects stay until somebody ends them. What the
        server does not serve is not forbidden: that is no matter of one namespace.
        """
        found: dict[str, str] = {}
        for place in filter(None, self._namespaces):
            try:
                for resource in resources.WATCHED:
                    with suppress(NotServed):
                        await self._requests.send(Asked("list", resource, place), query={"limit": "1"})
            except errors.Forbidden as error:
                found[place] = str(error)
        return found

    # --- writing
    async def create(self, obj: Obj) -> Obj:
        body = resources.new(obj, self._namespace)
        resource, metadata = resources.resource(body["kind"]), body["metadata"]
        asked = Asked("create", resource, metadata["namespace"], metadata["name"])
        try:
            made = await self._requests.send(asked, body, query=_WRITE)
        except Lost as lost:
            made = await self._made(resources.key(body), body, lost)
        return self._returned(made, resource)

    async def _made(self, key: Key, body: Obj, lost: Lost) -> Obj:
        """What a creation without an answer has made, if that can be told.

        An object there that holds all that was sent is as good as made by us: had it been there before, it would be the same to
        the caller. No object may come yet, and another one may be what became of ours: both are for a later, fresh look.
        """
        try:
            found = await self.get(key)
        except errors.StoreError:
            raise lost from None
        sent = {name: value for name, value in body.items() if name != "status" or not resources.resource(key.kind).status}
        if "deletionTimestamp" in found["metadata"] or not merge.same(merge.apply(found, sent), found):
            raise lost
        return found

    async def patch(self, key: Key, patch: Obj, *, version: str, subresource: Literal["", "status"] = "") -> Obj:
        resource = resources.resource(key.kind)
        if subresource and not resource.status:
            raise errors.ObjectNotFound(f"{key} has no status")
        asked = Asked("patch", resource, key.namespace, key.name, subresource)
        body = _at_version(key, patch, version)
        try:
            answer = await self._patch(asked, body)
        except Lost as lost:
            try:
                answer = await self._patched(asked, key, body)
            except errors.Forbidden:
                raise lost from None
        return self._returned({"metadata": answer["metadata"]} if key.kind == "Secret" else answer, resource)

    async def _patched(self, asked: Asked, key: Key, body: Obj) -> Obj:
        """What a patch without an answer came to: at one version it is done once at most, so at that version it is sent again.

        Raises Conflict where the object has moved on and the patch is not in it: then it never will be.
        """
        found = await self.get(key)
        if found["metadata"]["resourceVersion"] == body["metadata"]["resourceVersion"]:
            try:
                return await self._patch(asked, body)
            except errors.Conflict:
                found = await self.get(key)
        wanted = {name: value for name, value in body.items() if (name == "status") is (asked.subresource == "status")}
        if "metadata" in wanted:
            wanted = merge.apply(wanted, {"metadata": {"resourceVersion": None}})
        if not merge.same(merge.apply(found, wanted), found):
            raise errors.Conflict(f"{asked}: it has changed since version {body['metadata']['resourceVersion']}")
        return found

    async def _patch(self, asked: Asked, body: Obj) -> Obj:
        accept = METADATA if asked.resource.kind == "Secret" else JSON
        return await self._requests.send(asked, body, query=_WRITE, accept=accept)

    async def delete(self, key: Key, *, uid: str, version: str | None = None) -> Obj | None:
        """See the port. No propagation policy is named: our kinds fall to background deletion by themselves, and to name it would
        take from an object that its user deletes with `--cascade=orphan` or `foreground` the finalizer of that."""
        asked = Asked("delete", resources.resource(key.kind), key.namespace, key.name)
        preconditions = {"uid": uid} if version is None else {"uid": uid, "resourceVersion": version}
        options: Obj = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        try:
            answer = await self._deleted(asked, options)
        except errors.Conflict:
            # At a version: what moved the object on may be this deletion, sent twice (by us, or by aiohttp, which repeats a DELETE
            # on a connection that was kept and broke).
            if version is None or not await self._marked(key, uid):
                raise
            return None
        # Of an object that went at once it is a Status.
        return answer if answer is not None and answer.get("metadata", {}).get("uid") == uid else None

    async def _deleted(self, asked: Asked, options: Obj) -> Obj | None:
        """Delete, and again where the answer was lost: the UID makes that harmless."""
        try:
            return await self._requests.send(asked, options)
        except Lost:
            with suppress(errors.ObjectNotFound):
                return await self._requests.send(asked, options)
        return None

    async def _marked(self, key: Key, uid: str) -> bool:
        metadata = (await self.get(key))["metadata"]
        return metadata["uid"] == uid and "deletionTimestamp" in metadata

    # --- the watch, events, the lease
    async def watch(self) -> AsyncIterator[Change]:
        """A Snapshot of our kinds and of revisions with our label; then what `observe` was told and is news, in that order.

        Every ten minutes what has gone unseen is told too. While the first lists fail nothing is told.
        """
        watch = Watch(self._lists)
        self._watches.add(watch)
        try:
            async with aclosing(watch.changes()) as changes:
                async for change in changes:
                    yield change
        finally:
            self._watches.discard(watch)

    def observe(self, change: Changed | Gone) -> None:
        """What a watch of the API server reported. Never waits; kinds that no watch tells of are dropped."""
        if not resources.watched(change.object):
            return
        obj = resources.shown(change.object, resources.resource(change.object["kind"]))
        for watch in self._watches:
            watch.offer(Changed(obj) if isinstance(change, Changed) else Gone(obj))

    async def record(self, event: Event) -> None:
        await self._recorder.record(event)

    async def holds(self) -> bool:
        return self._holds()

    # --- parts
    async def _lists(self, resource: resources.Resource, metadata_only: bool) -> Sequence[tuple[str | None, Listed]]:
        return [
            (place, await self._requests.all(resource, place, resource.labels, metadata_only=metadata_only)) for place in self._namespaces
        ]

    def _returned(self, obj: Obj, resource: resources.Resource) -> Obj:
        shown = resources.shown(obj, resource)
        if resources.watched(shown):
            for watch in self._watches:
                watch.note(shown)
        return shown


def _at_version(key: Key, patch: Obj, version: str) -> Obj:
    """The patch as it is sent, at the version seen. Raises Rejected for one that removes what names the object, which the server
    answers with 500."""
    for field in ("apiVersion", "kind", "metadata"):
        if field in patch and patch[field] is None:
            raise errors.Rejected(f'{key.kind} "{key.name}"', (errors.Cause(field, "Required value"),))
    metadata: Any = patch.get("metadata", {})
    if not isinstance(metadata, dict):
        raise errors.Rejected(f'{key.kind} "{key.name}"', (errors.Cause("metadata", "Invalid value: must be of type object"),))
    return {**patch, "metadata": {**cast(Obj, metadata), "resourceVersion": version}}


__all__ = ["KubernetesStore"]
