"""Plays a scenario with the process dying, or a call failing, at one call, and says what of the promises did not hold."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from controller.clouds.ec2.driver import Ec2Driver
from controller.ports import Identity, Key, Obj, Store
from tests.cluster.fixtures import Cluster
from tests.crash import ends, sites
from tests.crash.ends import End
from tests.crash.injector import FaultyDriver, FaultyStore, Injector, Mode, threads
from tests.crash.scenarios import Scenario
from tests.crash.sites import Trace
from tests.simulated import loop, on_ec2, on_kubernetes
from tests.simulated.ec2 import LightEc2, serve
from tests.simulated.harness import CONTROLLER, System
from tests.simulated.world import NEVER, Settings, SimulatedMachine, World


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at call number `at` (None: nothing, the calls are counted); with `reads` these are counted too, with `only` no call
    of another name."""

    mode: Mode
    at: int | None = None
    reads: bool = False
    only: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left: the calls that could be hit, when they came, and how many of them were roll-ups; how it ended; and everything
    that was wrong."""

    calls: tuple[str, ...]
    times: tuple[float, ...]
    roll_ups: int
    hit: str
    end: End
    wrong: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run takes place: the directory of its state file, or the API server with its objects; and the cloud, which with `ec2` is
    the light EC2, by boto3."""

    path: Path
    settings: Settings
    ec2: bool = False
    cluster: Cluster | None = None


def run(scenario: Scenario, place: Place, fault: Fault, trace: Trace | None = None) -> Outcome:
    """Play the scenario with the process dying (or the call failing) at one call; a `trace` is told where each call came from."""
    clock, settings, ec2 = loop.Clock(), place.settings, place.ec2
    system = System(place.path / f"{fault.at}.db", clock, settings)
    if place.cluster is not None:
        on_kubernetes.on_kubernetes(system, place.cluster)
    settle_seconds = Ec2Driver.settle_seconds if ec2 else settings.settle_seconds
    with contextlib.ExitStack() as stack:
        if ec2:
            light = LightEc2(World(clock, settings=settings))
            on_ec2.on_ec2(system, light, stack.enter_context(serve(light)))
        injector = Injector(fault.mode, fault.at, fault.reads, fault.only, trace)
        return loop.run(_play(scenario, system, injector, settle_seconds), clock=clock)


async def _play(scenario: Scenario, system: System, injector: Injector, settle_seconds: float) -> Outcome:
    if injector.trace is not None:
        asyncio.get_running_loop().set_task_factory(sites.traced)
    counted = _RollUps(injector)
    system.wrap_store = lambda store: _Counted(store, injector, counted)
    system.wrap_driver = lambda driver: FaultyDriver(driver, injector)
    system.threads = threads
    system.start()
    await scenario.prepare(system)
    injector.arm()
    await scenario.act(system)
    await _reach(scenario, system, injector, settle_seconds)
    at = injector.at
    hit = injector.calls[at] if at is not None and at < len(injector.calls) else ""
    if injector.died.is_set() or (at is not None and hit and system.clock() - injector.times[at] < _HEALS_SECONDS):
        # At one of the last calls, which come later than what was waited for.
        await _reach(scenario, system, injector, settle_seconds)
    wrong = tuple(_wrong(scenario, system))
    outcome = Outcome(tuple(injector.calls), tuple(injector.times), counted.roll_ups, hit, ends.end(system), wrong)
    await system.crash()
    return outcome


#: After a call that failed what was said of it is said for so long at most: until the next list of the cloud.
_HEALS_SECONDS = 30.0


@dataclass(slots=True)
class _RollUps:
    """How many of the calls that could be hit wrote what a group or an Infrastructure makes of other statuses."""

    injector: Injector
    roll_ups: int = 0

    def count(self, kind: str, subresource: str) -> None:
        if self.injector.armed and not self.injector.dead:
            self.roll_ups += subresource == "status" and kind in ("InstanceGroup", "Infrastructure")


class _Counted(FaultyStore):
    """A store whose roll-ups are counted."""

    def __init__(self, store: Store, injector: Injector, counted: _RollUps) -> None:
        super().__init__(store, injector)
        self._counted = counted

    async def patch(self, key: Key, patch: Obj, *, version: str, subresource: Literal["", "status"] = "") -> Obj:
        self._counted.count(key.kind, subresource)
        return await super().patch(key, patch, version=version, subresource=subresource)


async def _reach(scenario: Scenario, system: System, injector: Injector, settle_seconds: float) -> None:
    """Wait until the end is reached, and then for what may come after it; where the process dies before, there is another."""
    # Boots and health take 3 x 55 s at most; a launch that cannot be repeated its settling time more. Only the backstop would come
    # later.
    deadline = system.clock() + 250 + settle_seconds
    while injector.died.is_set() or not scenario.reached(system):
        if injector.died.is_set():
            await system.crash()
            injector.revive()
            system.start()
            await scenario.act(system)
        assert system.clock() < deadline, f"{scenario.name}, {injector.mode.name} at {injector.at}: not reached:\n{system.picture()}"
        assert not system.died
        await asyncio.sleep(1.0)
    # What is still on its way (a late call, a second machine) shows within the settling time of CLOUDS and a resend.
    await asyncio.sleep(60 + settle_seconds)


def _wrong(scenario: Scenario, system: System) -> list[str]:
    """Everything that the ledger and the store say against the promises."""
    world = system.world
    found = [f"two machines for {identity}" for identity in world.duplicates()]
    known = {Identity(each["spec"]["batch"]["id"], each["spec"]["batch"]["index"]) for each in system.instances()}
    if not scenario.leaves:
        found += [f"leaked: {leak}" for leak in world.leaks(known, CONTROLLER)]
    if not scenario.reached(system):
        found.append(f"it did not stay so:\n{system.picture()}")
    allowed = {"db": 1, "app": scenario.apps, "web": scenario.webs, "ghost": 1}
    found += [
        f"{service} had {most} machines at once" for (_, service), most in world.most_live_of_service().items() if most > allowed[service]
    ]
    return found + _out_of_order(system)


def _out_of_order(system: System) -> list[str]:
    """No machine was made before one of each service it depends on was healthy; where all have gone, none before its dependents."""
    found: list[str] = []
    gone = not system.world.live()
    for service, needs in (("app", "db"), ("web", "app")):
        dependents, needed = _machines(system, service), _machines(system, needs)
        first = min((each.created for each in dependents), default=None)
        healthy = min((each.healthy for each in needed), default=None)
        if first is not None and (healthy is None or first < healthy):
            found.append(f"{service} was made at {first}, before {needs} was healthy at {healthy}")
        last, ending = max((each.ended for each in dependents), default=0.0), min((each.ending for each in needed), default=NEVER)
        if gone and last > ending:
            found.append(f"{needs} began to end at {ending}, before {service} had ended at {last}")
    return found


def _machines(system: System, service: str) -> list[SimulatedMachine]:
    return [each for each in system.world.machines.values() if each.tags["occopus.io/service"] == service]
