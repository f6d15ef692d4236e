"""What we rely on in kopf, through our adapter: which faults of a watch it survives, which end it, and that it never writes.

To be run at every bump of kopf. A proxy before a real API server plays the faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

import kopf
import pytest
from aiohttp import web

from controller import errors, operator
from controller.api import kinds
from controller.ports import Gone, Obj, Snapshot
from controller.stores import access, resources, watching
from controller.stores.kubernetes import KubernetesStore
from tests.cluster.fixtures import Cluster
from tests.cluster.operator import MERGE_PATCH
from tests.cluster.proxy import Proxy, proxied, status, stream_error

#: The process ends within 10 s of a fault that it cannot survive (reference of kopf, section 6).
END_SECONDS = 10.0
WAIT_SECONDS = 20.0
WATCHED = [("occopus.io", "v1alpha1", each.plural) for each in kinds.KINDS]
KIND, PLURAL = "Infrastructure", "infrastructures"


@dataclass(slots=True)
class Watched:
    """A source through a proxy, and what the store's watch tells of it: the version of each Infrastructure, and each end."""

    cluster: Cluster
    proxy: Proxy
    namespace: str
    source: asyncio.Task[None]
    seen: dict[str, str] = field(default_factory=dict[str, str])
    gone: list[Obj] = field(default_factory=list[Obj])

    async def write(self, name: str, method: str = "POST") -> str:
        """Make or change one, past the proxy; its version."""
        path = resources.resource(KIND).path(self.namespace)
        body: Obj = {"apiVersion": "occopus.io/v1alpha1", "kind": KIND, "metadata": {"name": name}}
        async with access.session(self.cluster.access) as session:
            if method == "POST":
                answer = await self.cluster.ask(session, "POST", path, body | {"spec": {"services": [SERVICE]}})
            elif method == "PATCH":
                label = {"metadata": {"labels": {"changed": str(time.monotonic_ns())}}}
                answer = await self.cluster.ask(session, "PATCH", f"{path}/{name}", label, headers=dict(MERGE_PATCH))
            else:
                answer = await self.cluster.ask(session, "DELETE", f"{path}/{name}")
        assert answer.code in (200, 201), answer
        return answer.body["metadata"].get("resourceVersion", "")

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until it holds; the source must live."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not holds():
            assert not self.source.done(), self.source
            assert time.monotonic() < deadline, (what, self.seen, self.gone)
            await asyncio.sleep(0.02)

    async def tells_of(self, name: str, method: str) -> None:
        """Write one, and see it told."""
        version = await self.write(name, method)
        await self.until(lambda: self.seen.get(name) == version, f"{name} at {version}")

    async def ends(self) -> errors.Unavailable:
        """The source ends by itself within the time."""
        async with asyncio.timeout(END_SECONDS):
            with pytest.raises(errors.Unavailable) as raised:
                await self.source
        return raised.value


SERVICE = {"name": "only", "templateRef": {"name": "plain"}}


@contextlib.asynccontextmanager
async def watched(cluster: Cluster) -> AsyncGenerator[Watched]:
    async with proxied(cluster) as proxy, access.session(cluster.access) as own:
        namespace = await cluster.namespace(own)
        store = KubernetesStore(cluster.access, own, namespaces=(namespace,))
        source = operator.Source(proxy.access(), WATCHED, (namespace,), store.observe)
        found = Watched(cluster, proxy, namespace, asyncio.create_task(source.run()))
        told = asyncio.create_task(follow(store, found))
        try:
            yield found
        finally:
            await cancelled(found.source, told)
        assert {method for method, _ in proxy.requests} == {"GET"}


async def follow(store: KubernetesStore, found: Watched) -> None:
    async for change in store.watch():
        for obj in change.objects if isinstance(change, Snapshot) else (change.object,):
            if obj["kind"] == KIND and isinstance(change, Gone):
                found.seen.pop(obj["metadata"]["name"], None)
                found.gone.append(obj)
            elif obj["kind"] == KIND:
                found.seen[obj["metadata"]["name"]] = obj["metadata"]["resourceVersion"]


async def cancelled(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def is_watch(request: web.Request) -> bool:
    return request.path.endswith(f"/{PLURAL}") and request.query.get("watch") == "true"


def is_list(request: web.Request) -> bool:
    return request.path.endswith(f"/{PLURAL}") and "watch" not in request.query


Story = Callable[[Watched], Awaitable[None]]


def watching_kopf(cluster: Cluster, *stories: Story) -> None:
    """Tell the stories at once, each with a kopf of its own that has seen one change."""

    async def run(story: Story) -> None:
        async with watched(cluster) as found:
            await found.proxy.stream(PLURAL)
            await found.tells_of("first", "POST")
            await story(found)

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            for story in stories:
                group.create_task(run(story))

    asyncio.run(together())


# --- what ends it ---------------------------------------------------------------------------------------------------
async def stream_says_500(found: Watched) -> None:
    (await found.proxy.stream(PLURAL)).end(stream_error(500))
    await found.ends()


def watch_is_answered(code: int) -> Story:
    async def story(found: Watched) -> None:
        found.proxy.rule = lambda request: status(code) if is_watch(request) else None
        (await found.proxy.stream(PLURAL)).end()
        await found.ends()

    return story


def test_faults_that_end_it_end_it_soon_and_a_fresh_one_goes_on(cluster: Cluster) -> None:
    async def and_again(found: Watched, story: Story) -> None:
        await story(found)
        found.proxy.rule = lambda request: None
        version = await found.write("first", "PATCH")
        await fresh(found, version)

    async def fresh(found: Watched, version: str) -> None:
        async with access.session(cluster.access) as session:
            store = KubernetesStore(cluster.access, session, namespaces=(found.namespace,))
            again = Watched(cluster, found.proxy, found.namespace, found.source)
            source = operator.Source(found.proxy.access(), WATCHED, (found.namespace,), store.observe)
            again.source, told = asyncio.create_task(source.run()), asyncio.create_task(follow(store, again))
            try:
                await again.until(lambda: again.seen.get("first") == version, "what it has missed")
                await again.proxy.stream(PLURAL)
                await again.tells_of("first", "PATCH")
            finally:
                await cancelled(again.source, told)

    def with_a_fresh_one(story: Story) -> Story:
        return lambda found: and_again(found, story)

    watching_kopf(cluster, *map(with_a_fresh_one, (stream_says_500, watch_is_answered(404), watch_is_answered(410))))


def test_a_refusal_at_the_start_ends_it_soon_and_kills_nobody(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is still on its way: kopf itself waits for that without end, and kills the process after ten minutes of it; here at once."""
    killed: list[int] = []

    def note(thread: int, number: int) -> None:
        killed.append(number)

    monkeypatch.setattr(signal, "pthread_kill", note)
    monkeypatch.setattr(type(kopf.OperatorSettings().process).__init__, "__defaults__", (0.0,))

    async def story() -> None:
        async with proxied(cluster) as proxy:
            late: asyncio.Future[web.Response | None] = asyncio.get_running_loop().create_future()

            def rule(request: web.Request) -> asyncio.Future[web.Response | None] | web.Response | None:
                return status(415) if request.path == "/api" else late if request.path == "/apis" else None

            proxy.rule = rule
            source = operator.Source(proxy.access(), WATCHED, ("default",), lambda change: None)
            async with asyncio.timeout(END_SECONDS):
                with pytest.raises(errors.Unavailable):
                    await source.run()
            late.cancel()

    asyncio.run(story())
    assert killed == []


@pytest.mark.parametrize(
    ("hidden", "told"),
    [
        pytest.param("/apis/occopus.io/v1alpha1", {each.plural for each in kinds.KINDS}, id="a version that is not served yet"),
        pytest.param("/apis/occopus.io/v1alpha1/namespaces/default/clouds", {"clouds"}, id="one kind"),
    ],
)
def test_what_it_does_not_begin_to_watch_ends_it(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, hidden: str, told: set[str]) -> None:
    """kopf says nothing of kinds that are not served as it starts, and never looks again."""
    monkeypatch.setattr(operator, "_BEGUN_SECONDS", 3.0)

    async def story() -> None:
        async with proxied(cluster) as proxy:
            never: asyncio.Future[web.Response | None] = asyncio.get_running_loop().create_future()

            def rule(request: web.Request) -> asyncio.Future[web.Response | None] | web.Response | None:
                if request.path != hidden:
                    return None
                return never if "namespaces" in hidden else status(404)

            proxy.rule = rule
            source = operator.Source(proxy.access(), WATCHED, ("default",), lambda change: None)
            async with asyncio.timeout(END_SECONDS):
                with pytest.raises(errors.Unavailable) as raised:
                    await source.run()
            never.cancel()
        assert {plural for plural in (each.plural for each in kinds.KINDS) if f"/{plural}" in str(raised.value)} == told

    asyncio.run(story())


# --- what it survives -----------------------------------------------------------------------------------------------
def watch_is_answered_for_a_while(code: int, times: int) -> Story:
    async def story(found: Watched) -> None:
        refused: list[int] = []

        def rule(request: web.Request) -> web.Response | None:
            if not is_watch(request) or len(refused) == times:
                return None
            refused.append(code)
            return status(code, retry_after="1")

        found.proxy.rule = rule
        (await found.proxy.stream(PLURAL)).end()
        await found.tells_of("first", "PATCH")
        assert len(refused) == times

    return story


async def watch_is_cut(found: Watched) -> None:
    for _ in range(3):
        (await found.proxy.stream(PLURAL)).end()
        await found.tells_of("first", "PATCH")


async def watch_is_silent(found: Watched) -> None:
    stream = await found.proxy.stream(PLURAL)
    stream.silent = True
    await found.tells_of("first", "PATCH")
    assert stream is not await found.proxy.stream(PLURAL)


async def server_is_away(found: Watched) -> None:
    found.proxy.go_away()
    version = await found.write("first", "PATCH")
    await asyncio.sleep(2)
    found.proxy.come_back()
    await found.until(lambda: found.seen.get("first") == version, "what it has missed")


def test_faults_that_it_survives(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = operator._settings  # pyright: ignore[reportPrivateUsage]

    def impatient() -> object:
        settings = ours()
        settings.watching.inactivity_timeout = 3.0
        return settings

    monkeypatch.setattr(operator, "_settings", impatient)
    stories = (watch_is_answered_for_a_while(429, 2), watch_is_answered_for_a_while(500, 2), watch_is_cut, watch_is_silent, server_is_away)
    watching_kopf(cluster, *stories)


# --- what it does not tell ------------------------------------------------------------------------------------------
async def deleted_in_a_gap(found: Watched) -> None:
    """After an in-stream 410 kopf lists anew and says nothing of what it lacks: the list of metadata does."""
    await found.tells_of("second", "POST")
    listed, deleted = asyncio.Event(), asyncio.get_running_loop().create_future()

    def rule(request: web.Request) -> asyncio.Future[web.Response | None] | None:
        if not is_list(request):
            return None
        listed.set()
        return deleted

    found.proxy.rule = rule
    (await found.proxy.stream(PLURAL)).end(stream_error(410))
    await asyncio.wait_for(listed.wait(), WAIT_SECONDS)
    await found.write("second", "DELETE")
    deleted.set_result(None)
    await found.until(lambda: "second" not in found.seen, "the end of what was deleted")
    (gone,) = found.gone
    assert "resourceVersion" not in gone["metadata"]  # as the eviction tells it
    assert "first" in found.seen
    await found.tells_of("first", "PATCH")


async def deleted_during_a_relist(found: Watched) -> None:
    """One is deleted between two pages, of which the second shows it still."""
    await found.tells_of("second", "POST")
    paged, deleted = asyncio.Event(), asyncio.get_running_loop().create_future()

    def rule(request: web.Request) -> asyncio.Future[web.Response | None] | None:
        if not is_list(request) or "continue" not in request.query:
            return None
        paged.set()
        return deleted

    found.proxy.rule = rule
    (await found.proxy.stream(PLURAL)).end(stream_error(410))
    await asyncio.wait_for(paged.wait(), WAIT_SECONDS)
    await found.write("second", "DELETE")
    deleted.set_result(None)
    await found.until(lambda: "second" not in found.seen, "the end of what was deleted")
    await found.tells_of("second", "POST")
    await found.tells_of("first", "PATCH")


def test_what_was_deleted_unseen_is_told(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "EVICT_SECONDS", 1.0)
    monkeypatch.setattr(operator, "_CHUNK", 1)
    watching_kopf(cluster, deleted_in_a_gap, deleted_during_a_relist)
