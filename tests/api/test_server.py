"""Asks the table of good and bad objects of a real API server: it gives the same verdict on the same fields as the file home."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from controller import errors
from controller.api import kinds
from controller.ports import Obj
from controller.stores import access, resources
from controller.stores.answers import Asked, refusal
from tests.api import samples, table, test_objects
from tests.cluster.fixtures import Answer, Cluster

_AT_ONCE = 16
_DRY = {"dryRun": "All", "fieldValidation": "Strict"}


@dataclass(frozen=True, slots=True)
class Judge:
    """The API server, asked in a namespace that is empty."""

    cluster: Cluster
    session: aiohttp.ClientSession
    namespace: str

    async def created(self, new: Obj) -> frozenset[str]:
        """The fields that a refusal to make it names."""
        try:
            body = resources.new(new, self.namespace)
        except errors.Rejected as error:
            return _fields(error)
        body["metadata"]["namespace"] = self.namespace
        resource = resources.resource(body["kind"])
        answer = await self._ask("POST", resource.path(self.namespace), body)
        return _refused(Asked("create", resource, self.namespace, body["metadata"]["name"]), answer)

    async def updated(self, old: Obj, new: Obj) -> frozenset[str]:
        """The fields that a refusal to make `new` of `old` names. A change of status is asked of the status alone."""
        standing = await self.standing(old)
        resource, name = resources.resource(old["kind"]), old["metadata"]["name"]
        part = "status" if resource.status and new.get("status") != old.get("status") else ""
        body = {**new, "metadata": {**standing["metadata"], **new["metadata"], "namespace": self.namespace}}
        answer = await self._ask("PUT", resource.path(self.namespace, name, part), body)
        return _refused(Asked("patch", resource, self.namespace, name, part), answer)

    async def restated(self, standing: Obj, new: Obj) -> frozenset[str]:
        """The fields that a refusal of the status of `new` for an object that stands names."""
        resource, name = resources.resource(standing["kind"]), standing["metadata"]["name"]
        body = {**standing, "status": new.get("status")}
        answer = await self._ask("PUT", resource.path(self.namespace, name, "status"), body)
        return _refused(Asked("patch", resource, self.namespace, name, "status"), answer)

    async def standing(self, old: Obj) -> Obj:
        """The object, made for real."""
        resource = resources.resource(old["kind"])
        body = resources.new(old, self.namespace)
        body["metadata"] |= {"namespace": self.namespace}
        path = resource.path(self.namespace)
        made = await self.cluster.ask(self.session, "POST", path, body)
        assert made.code == 201, made
        if resource.status and "status" in old:
            whole = {**made.body, "status": old["status"]}
            made = await self.cluster.ask(self.session, "PUT", f"{path}/{body['metadata']['name']}/status", whole)
            assert made.code == 200, made
        return made.body

    async def _ask(self, method: str, path: str, body: Obj) -> Answer:
        return await self.cluster.ask(self.session, method, path, body, params=_DRY)


def _fields(error: errors.Rejected) -> frozenset[str]:
    return frozenset(cause.field for cause in error.causes)


def _refused(asked: Asked, answer: Answer) -> frozenset[str]:
    if answer.code < 300:
        return frozenset()
    error = refusal(asked, answer.code, answer.raw)
    assert isinstance(error, errors.Rejected), error
    return _fields(error)


Judged = Callable[[Callable[[Judge], Awaitable[frozenset[str]]]], frozenset[str]]


@pytest.fixture
def judged(cluster: Cluster) -> Judged:
    """Runs a question in a namespace of its own."""

    def go(question: Callable[[Judge], Awaitable[frozenset[str]]]) -> frozenset[str]:
        async def asked() -> frozenset[str]:
            async with access.session(cluster.access) as session:
                return await question(Judge(cluster, session, await cluster.namespace(session)))

        return asyncio.run(asked())

    return go


async def _odd(judge: Judge, elsewhere: Judge, kind: str) -> None:
    """Every field of a kind at odd values, null, missing, and with an unknown one beside it; of status, the status alone."""
    standing = await elsewhere.standing(samples.GOOD[kind]())
    questions: list[tuple[test_objects.Path, Any]] = []
    for of, path, place in test_objects.every_field():
        if of == kind:
            # kube-apiserver 1.36 takes an empty list for a time.
            odd = (value for value in test_objects.odd_values(place) if "format" not in place or value != [])
            questions += ((path, value) for value in (*odd, None, table.REMOVED))
            if place["type"] == "object" and not place.get("x-kubernetes-preserve-unknown-fields"):
                questions.append(((*path, "strange"), 1))
    room = asyncio.Semaphore(_AT_ONCE)

    async def ask(path: test_objects.Path, value: Any) -> None:
        new = test_objects.changed(kind, path, value)
        async with room:
            theirs = await (elsewhere.restated(standing, new) if path[0] == "status" else judge.created(new))
        old = samples.GOOD[kind]() if path[0] == "status" else None
        ours = test_objects.refused(test_objects.changed(kind, path, value), old)
        # A value that breaks its own bounds may break a rule above it too: then the server names both places.
        assert bool(ours) == bool(theirs), (path, value, ours, theirs)
        assert ours <= theirs, (path, value, ours, theirs)

    await asyncio.gather(*(ask(path, value) for path, value in questions))


@pytest.mark.parametrize("kind", [each.kind for each in kinds.KINDS])
def test_every_field_at_odd_values(cluster: Cluster, kind: str) -> None:
    async def asked() -> None:
        async with access.session(cluster.access) as session:
            one, other = await cluster.namespace(session), await cluster.namespace(session)
            await _odd(Judge(cluster, session, one), Judge(cluster, session, other), kind)

    asyncio.run(asked())


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in table.CREATES])
def test_creation(judged: Judged, row: table.Row) -> None:
    assert judged(lambda judge: judge.created(row.new())) == row.refused_by_server


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in table.UPDATES])
def test_update(judged: Judged, row: table.Row) -> None:
    assert judged(lambda judge: judge.updated(row.old(), row.new())) == row.refused_by_server
