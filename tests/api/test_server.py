"""Asks the table of good and bad objects of a real API server: it gives the same verdict on the same fields as the file home."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import pytest

from controller import errors
from controller.ports import Obj
from controller.stores import access, resources
from controller.stores.answers import Asked, refusal
from tests.api import table
from tests.cluster.fixtures import Answer, Cluster

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
        standing = await self._standing(old)
        resource, name = resources.resource(old["kind"]), old["metadata"]["name"]
        part = "status" if resource.status and new.get("status") != old.get("status") else ""
        body = {**new, "metadata": {**standing["metadata"], **new["metadata"], "namespace": self.namespace}}
        answer = await self._ask("PUT", resource.path(self.namespace, name, part), body)
        return _refused(Asked("patch", resource, self.namespace, name, part), answer)

    async def _standing(self, old: Obj) -> Obj:
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


@pytest.fixture
def judged(cluster: Cluster) -> Callable[[Callable[[Judge], Awaitable[frozenset[str]]]], frozenset[str]]:
    """Runs a question in a namespace of its own."""

    def go(question: Callable[[Judge], Awaitable[frozenset[str]]]) -> frozenset[str]:
        async def asked() -> frozenset[str]:
            async with access.session(cluster.access) as session:
                return await question(Judge(cluster, session, await cluster.namespace(session)))

        return asyncio.run(asked())

    return go


Judged = Callable[[Callable[[Judge], Awaitable[frozenset[str]]]], frozenset[str]]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in table.CREATES])
def test_creation(judged: Judged, row: table.Row) -> None:
    assert judged(lambda judge: judge.created(row.new())) == row.refused


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in table.UPDATES])
def test_update(judged: Judged, row: table.Row) -> None:
    assert judged(lambda judge: judge.updated(row.old(), row.new())) == row.refused
