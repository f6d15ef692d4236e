"""What a user does in each scenario, and what must hold of the world however often the process dies meanwhile.

A scenario is prepared without faults, then its step runs with them. Every step is repeatable: after a crash the user (or the
`occopus` command started again) does the same once more.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import yaml

from controller import errors
from controller.ports import Key
from tests.simulated.harness import SHOP, System, put

Step = Callable[[System], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`prepare` runs without faults; `act` with them, and again after a crash; then `reached` must come to hold.

    `apps` and `webs` are the most machines that those services may have at any instant: as many as wanted, and one more where
    one is replaced. With `leaves` machines stay that no Instance has.
    """

    name: str
    prepare: Step
    act: Step
    reached: Callable[[System], bool]
    apps: int = 2
    webs: int = 1
    leaves: bool = False


async def nothing(system: System) -> None:
    pass


@functools.cache
def _parsed(text: str) -> str:
    return json.dumps(list(yaml.safe_load_all(text)))


async def put_all(system: System, text: str) -> None:
    """Make the documents so. They are parsed once: it is a tenth of what a run costs."""
    for document in system.documents(json.loads(_parsed(text))):
        await put(system.store, document)


async def up(system: System) -> None:
    await put_all(system, SHOP)
    await system.wait(system.ready)


async def apply(system: System) -> None:
    await put_all(system, SHOP)


def settled(system: System, apps: int) -> bool:
    live = [each for each in system.instances("app") if not each["metadata"].get("deletionTimestamp")]
    return system.ready() and len(live) == apps and len(system.instances()) == apps + 2


def _scale(number: int) -> Step:
    async def act(system: System) -> None:
        key = Key("InstanceGroup", "default", "shop-app")
        while True:
            seen = await system.store.get(key)
            with contextlib.suppress(errors.Conflict):
                await system.store.patch(key, {"spec": {"replicas": number}}, version=seen["metadata"]["resourceVersion"])
                return

    return act


async def _scaled_up(system: System) -> None:
    await up(system)
    await _scale(3)(system)
    await system.wait(lambda: settled(system, 3))


async def _lose_app(system: System) -> None:
    await up(system)
    system.world.kill(system.instances("app")[0]["status"]["machine"]["id"])


async def _delete(system: System) -> None:
    key = Key("Infrastructure", "default", "shop")
    with contextlib.suppress(errors.ObjectNotFound):
        seen = await system.store.get(key)
        await system.store.delete(key, uid=seen["metadata"]["uid"])


async def _delete_early(system: System) -> None:
    """Deleted while it comes up: its first machine boots."""
    await put_all(system, SHOP)
    await system.wait(lambda: bool(system.world.live()))


async def scale_in_one(system: System) -> None:
    """One named Instance goes and the count goes down with it."""
    key = Key("Instance", "default", "shop-app-0")
    with contextlib.suppress(errors.ObjectNotFound):
        while True:
            seen = await system.store.get(key)
            with contextlib.suppress(errors.Conflict):
                if not seen["metadata"].get("deletionTimestamp"):
                    marked = {"metadata": {"annotations": {"occopus.io/scale-in": "true"}}}
                    seen = await system.store.patch(key, marked, version=seen["metadata"]["resourceVersion"])
                await system.store.delete(key, uid=seen["metadata"]["uid"])
                return


def all_live(system: System) -> bool:
    live = {each.id for each in system.world.live()}
    return {each["status"].get("machine", {}).get("id") for each in system.instances()} == live


def _one_gone(system: System) -> bool:
    return settled(system, 2) and not any(each["metadata"]["name"] == "shop-app-0" for each in system.instances())


SCENARIOS = {
    each.name: each
    for each in (
        Scenario("create", nothing, apply, lambda system: settled(system, 2)),
        Scenario("heal", _lose_app, nothing, lambda system: settled(system, 2) and all_live(system)),
        Scenario("scale-out", up, _scale(3), lambda system: settled(system, 3), apps=3),
        Scenario("scale-out-many", up, _scale(5), lambda system: settled(system, 5), apps=5),
        Scenario("scale-in", _scaled_up, _scale(2), lambda system: settled(system, 2), apps=3),
        Scenario("scale-in-one", _scaled_up, scale_in_one, _one_gone, apps=3),
        Scenario("delete", up, _delete, lambda system: system.gone()),
        Scenario("delete-early", _delete_early, _delete, lambda system: system.gone()),
    )
}
