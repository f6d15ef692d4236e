"""A stale API server: its watches stand still while others write. No machine is made twice, none under an owner that goes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.cluster.fixtures import Cluster
from tests.cluster.operator import Place, Story, at_a_place
from tests.cluster.proxy import Proxy, proxied
from tests.e2e.descriptions import CLOUD, infrastructure, service, template

PAIR = CLOUD + template() + infrastructure("pair", service("first"), service("second", "first", more=", replicas: 2"))
EACH = {"first": 1, "second": 2}


async def _up(place: Place, proxy: Proxy) -> None:
    await place.lead(kubeconfig=proxy.kubeconfig(place.desk.directory / "by-proxy"))
    await place.apply(PAIR)
    await place.settled("pair", EACH)


def _freeze(proxy: Proxy) -> None:
    for each in proxy.streams:
        each.silent = True


def _thaw(proxy: Proxy) -> None:
    """The watches are cut, and begin again where they last heard something."""
    for each in list(proxy.streams):
        each.end()


def _kill(place: Place, name: str) -> str:
    (machine,) = [each["id"] for each in place.live() if each["name"] == name]
    place.desk.kill(machine)
    return machine


async def unseen_deletion_of_an_instance(place: Place, proxy: Proxy) -> None:
    """The operator replaces one Instance while it knows nothing of another's deletion."""
    await _up(place, proxy)
    _freeze(proxy)
    await place.delete("Instance", "pair-second-0")
    killed = _kill(place, "pair-second-1")
    await place.until(lambda: killed not in {each["id"] for each in place.live()} and len(place.live()) >= 2, "the loss is seen")
    _thaw(proxy)
    await place.whole("pair", EACH)
    assert place.most_live() == EACH
    await place.delete_all()


async def unseen_deletion_of_all(place: Place, proxy: Proxy) -> None:
    """Under an owner that goes nothing is made, though the operator has not heard of it."""
    await _up(place, proxy)
    made = len(place.machines())
    _freeze(proxy)
    await place.delete("Infrastructure", "pair")
    await place.delete("InstanceGroup", "pair-second")
    killed = _kill(place, "pair-second-1")

    async def let_go() -> bool:
        """It has seen the loss and acted on it: the Instance is deleted, or marked."""
        named = [each for each in await place.objects("Instance") if each["metadata"]["name"] == "pair-second-1"]
        return not named or "deletionTimestamp" in named[0]["metadata"] or named[0]["status"]["machine"]["id"] != killed

    await place.until(let_go, "the loss is acted on")
    assert len(place.machines()) == made, "nothing was made under an owner that goes"
    _thaw(proxy)
    await place.until(lambda: _gone(place), "all gone", 120)
    assert len(place.machines()) == made
    assert place.live() == []


async def _gone(place: Place) -> bool:
    return not any([await place.objects(kind) for kind in ("Infrastructure", "InstanceGroup", "Instance")])


def test_a_stale_api_server(cluster: Cluster, tmp_path: Path) -> None:
    def through(story: Callable[[Place, Proxy], Awaitable[None]]) -> Story:
        async def told(place: Place) -> None:
            async with proxied(cluster) as proxy:
                await story(place, proxy)

        return told

    at_a_place(cluster, tmp_path, through(unseen_deletion_of_an_instance), through(unseen_deletion_of_all))
