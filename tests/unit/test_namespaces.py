"""Which namespaces are served, and when the process has to end for others to be."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from controller import errors
from controller.engine import metrics
from controller.namespaces import ASK_SECONDS, Namespaces, allowed
from tests.simulated import loop

#: Within so long it is asked again.
AGAIN_SECONDS = ASK_SECONDS * 1.2
NO = "list clouds.occopus.io: no"


@pytest.mark.parametrize(
    ("named", "forbidden", "found"),
    [
        pytest.param((), (), (), id="the whole cluster"),
        pytest.param(("one", "two"), (), ("one", "two"), id="all of them"),
        pytest.param(("one", "two", "three"), ("two",), ("one", "three"), id="those that may be listed"),
    ],
)
def test_those_are_served_that_may_be_listed(named: tuple[str, ...], forbidden: tuple[str, ...], found: tuple[str, ...]) -> None:
    assert allowed(named, dict.fromkeys(forbidden, NO)) == found


@pytest.mark.parametrize("named", [pytest.param(("one",), id="of one"), pytest.param(("one", "two"), id="of two")])
def test_none_of_them_is_not_taken_for_all_there_are(named: tuple[str, ...]) -> None:
    with pytest.raises(errors.Forbidden):
        allowed(named, dict.fromkeys(named, NO))


class Server:
    """What may not be listed; `trouble` is answered instead."""

    def __init__(self, *forbidden: str) -> None:
        self.forbidden, self.asked = forbidden, 0
        self.trouble: errors.StoreError | None = None

    async def ask(self) -> Mapping[str, str]:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        return dict.fromkeys(self.forbidden, NO)


async def _goes_on(watching: asyncio.Task[None]) -> None:
    await asyncio.sleep(2 * AGAIN_SECONDS)
    assert not watching.done(), watching


async def _ends(watching: asyncio.Task[None]) -> None:
    with pytest.raises(errors.NamespacesChanged):
        await asyncio.wait_for(watching, AGAIN_SECONDS)


async def _watched(server: Server, *served: str) -> asyncio.Task[None]:
    namespaces = Namespaces(("one", "two"), server.ask)
    assert await namespaces.allowed() == served
    return asyncio.create_task(namespaces.until_others_are(served))


def test_it_ends_when_one_more_may_be_served() -> None:
    async def story() -> None:
        server = Server("two")
        watching = await _watched(server, "one")
        await _goes_on(watching)
        server.forbidden = ()
        await _ends(watching)

    loop.run(story())


def test_it_ends_when_one_may_not_be_served_any_more() -> None:
    async def story() -> None:
        server = Server()
        watching = await _watched(server, "one", "two")
        await _goes_on(watching)
        server.forbidden = ("one",)
        await _ends(watching)

    loop.run(story())


@pytest.mark.parametrize("trouble", [pytest.param(None, id="none may be served"), pytest.param(errors.Unavailable("away"), id="in doubt")])
def test_it_goes_on_where_its_end_helps_nobody(trouble: errors.StoreError | None) -> None:
    async def story() -> None:
        server = Server("two")
        watching = await _watched(server, "one")
        server.forbidden, server.trouble = ("one", "two"), trouble
        await _goes_on(watching)
        server.forbidden, server.trouble = ("two",), None
        await _goes_on(watching)
        server.forbidden = ("one",)
        await _ends(watching)

    loop.run(story())


def test_of_the_whole_cluster_nothing_is_asked_again() -> None:
    async def story() -> None:
        server = Server()
        namespaces = Namespaces((), server.ask)
        assert await namespaces.allowed() == ()
        await namespaces.until_others_are(())
        assert server.asked == 1

    loop.run(story())


def test_what_is_not_served_is_said_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        server = Server("two")
        namespaces = Namespaces(("one", "two"), server.ask)
        for _ in range(3):
            await namespaces.allowed()
        assert [NO in each.getMessage() and " two " in each.getMessage() for each in caplog.records] == [True]
        assert (_served("one"), _served("two")) == (1, 0)
        server.forbidden = ()
        await namespaces.allowed()
        assert (_served("one"), _served("two")) == (1, 1)

    loop.run(story())


def _served(namespace: str) -> float | None:
    return metrics.REGISTRY.get_sample_value("occopus_namespace_served", {"namespace": namespace})
