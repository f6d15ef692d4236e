"""What a user does in each scenario, and what must hold of the world however often the process dies meanwhile.

A scenario is prepared without faults, then its step runs with them. Every step is repeatable: after a crash the user (or the
`occopus` command started again) does the same once more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from controller import errors
from controller.clouds.ec2 import Ec2Driver
from controller.ports import Identity, Key
from tests.crash.injector import FaultyDriver, FaultyStore, Injector, Mode, threads
from tests.simulated import loop, on_ec2
from tests.simulated.ec2 import LightEc2, serve
from tests.simulated.harness import CONTROLLER, SHOP, System
from tests.simulated.world import Settings, World

Step = Callable[[System], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`prepare` runs without faults; `act` with them, and again after a crash; then `reached` must come to hold.

    `apps` is the most machines that service may have at any instant: as many as wanted at most, and one more while one is replaced.
    """

    name: str
    prepare: Step
    act: Step
    reached: Callable[[System], bool]
    apps: int = 3


async def _nothing(system: System) -> None:
    pass


async def _up(system: System) -> None:
    await system.apply(SHOP)
    await system.wait(system.ready)


async def _apply(system: System) -> None:
    await system.apply(SHOP)


def _settled(system: System, apps: int) -> bool:
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
    await _up(system)
    await _scale(3)(system)
    await system.wait(lambda: _settled(system, 3))


async def _lose_app(system: System) -> None:
    await _up(system)
    system.world.kill(system.instances("app")[0]["status"]["machine"]["id"])


async def _delete(system: System) -> None:
    key = Key("Infrastructure", "default", "shop")
    with contextlib.suppress(errors.ObjectNotFound):
        seen = await system.store.get(key)
        await system.store.delete(key, uid=seen["metadata"]["uid"])


async def _delete_early(system: System) -> None:
    """Deleted while it comes up: its first machine boots."""
    await system.apply(SHOP)
    await system.wait(lambda: bool(system.world.live()))


async def _scale_in_one(system: System) -> None:
    """One named Instance goes and the count goes down with it."""
    key = Key("Instance", "default", "shop-app-0")
    with contextlib.suppress(errors.ObjectNotFound, errors.Conflict):
        seen = await system.store.get(key)
        if not seen["metadata"].get("deletionTimestamp"):
            marked = {"metadata": {"annotations": {"occopus.io/scale-in": "true"}}}
            seen = await system.store.patch(key, marked, version=seen["metadata"]["resourceVersion"])
        await system.store.delete(key, uid=seen["metadata"]["uid"])


SCENARIOS = {
    each.name: each
    for each in (
        Scenario("create", _nothing, _apply, lambda system: _settled(system, 2)),
        Scenario("heal", _lose_app, _nothing, lambda system: _settled(system, 2) and _all_live(system)),
        Scenario("scale-out", _up, _scale(3), lambda system: _settled(system, 3)),
        Scenario("scale-out-many", _up, _scale(5), lambda system: _settled(system, 5), apps=5),
        Scenario("scale-in", _scaled_up, _scale(2), lambda system: _settled(system, 2)),
        Scenario("scale-in-one", _scaled_up, _scale_in_one, lambda system: _settled(system, 2) and not _named(system, "shop-app-0")),
        Scenario("delete", _up, _delete, lambda system: system.gone()),
        Scenario("delete-early", _delete_early, _delete, lambda system: system.gone()),
    )
}


def _all_live(system: System) -> bool:
    live = {each.id for each in system.world.live()}
    return {each["status"]["machine"]["id"] for each in system.instances()} == live


def _named(system: System, name: str) -> bool:
    return any(each["metadata"]["name"] == name for each in system.instances())


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at call number `at` (None: nothing, the calls are counted); with `reads` these are counted too."""

    mode: Mode
    at: int | None = None
    reads: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left: the calls that could be hit, and everything that was wrong."""

    calls: tuple[str, ...]
    hit: str
    wrong: tuple[str, ...]


def run(scenario: Scenario, path: Path, fault: Fault, settings: Settings | None = None, *, ec2: bool = False) -> Outcome:
    """Play the scenario with the process dying (or the call failing) at one call; with `ec2` on the light EC2, by boto3."""
    clock = loop.Clock()
    system = System(path / f"{fault.at}.db", clock, settings)
    settle_seconds = Ec2Driver.settle_seconds if ec2 else system.world.settings.settle_seconds
    with contextlib.ExitStack() as stack:
        if ec2:
            light = LightEc2(World(clock, settings=settings))
            on_ec2.on_ec2(system, light, stack.enter_context(serve(light)))
        return loop.run(_play(scenario, system, Injector(fault.mode, fault.at, fault.reads), settle_seconds), clock=clock)


async def _play(scenario: Scenario, system: System, injector: Injector, settle_seconds: float) -> Outcome:
    armed, injector.at = injector.at, None
    system.wrap_store = lambda store: FaultyStore(store, injector)
    system.wrap_driver = lambda driver: FaultyDriver(driver, injector)
    system.threads = threads
    system.start()
    await scenario.prepare(system)
    injector.calls.clear()
    injector.at = armed
    await scenario.act(system)
    # Boots and health take 3 x 55 s at most; a launch that cannot be repeated its settling time more. Only the backstop would come
    # later.
    deadline = system.clock() + 250 + settle_seconds
    while not scenario.reached(system):
        if injector.died.is_set():
            await system.crash()
            injector.revive()
            injector.at = None
            system.start()
            await scenario.act(system)
        assert system.clock() < deadline, f"{scenario.name}, {injector.mode.name} at {armed}: not reached:\n{system.picture()}"
        assert not system.died
        await asyncio.sleep(1.0)
    # What is still on its way (a late call, a second machine) shows within the settling time of CLOUDS and a resend.
    await asyncio.sleep(60 + settle_seconds)
    hit = injector.calls[armed] if armed is not None and armed < len(injector.calls) else ""
    wrong = _wrong(scenario, system)
    calls = tuple(injector.calls)
    await system.crash()
    return Outcome(calls, hit, tuple(wrong))


def _wrong(scenario: Scenario, system: System) -> list[str]:
    """Everything that the ledger and the store say against the promises."""
    world = system.world
    found = [f"two machines for {identity}" for identity in world.duplicates()]
    known = {Identity(each["spec"]["batch"]["id"], each["spec"]["batch"]["index"]) for each in system.instances()}
    found += [f"leaked: {leak}" for leak in world.leaks(known, CONTROLLER)]
    if not scenario.reached(system):
        found.append(f"it did not stay so:\n{system.picture()}")
    allowed = {"db": 1, "app": scenario.apps, "web": 1}
    found += [
        f"{service} had {most} machines at once" for (_, service), most in world.most_live_of_service().items() if most > allowed[service]
    ]
    return found + _out_of_order(system)


def _out_of_order(system: System) -> list[str]:
    """No machine was made before one of each service it depends on was healthy."""
    found: list[str] = []
    machines = list(system.world.machines.values())
    for service, needs in (("app", "db"), ("web", "app")):
        first = min((each.created for each in machines if each.tags["occopus.io/service"] == service), default=None)
        healthy = min((each.healthy for each in machines if each.tags["occopus.io/service"] == needs), default=None)
        if first is not None and (healthy is None or first < healthy):
            found.append(f"{service} was made at {first}, before {needs} was healthy at {healthy}")
    return found
