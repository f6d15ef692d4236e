"""Golden traces: a whole system in virtual time, and a readable log of what happened, kept in tests/golden.

A change of behaviour shows as a change of these files. OCCOPUS_UPDATE_GOLDEN=1 writes them anew. Times are coarse, and
chance is taken out: boots last equally long and jitter is at its middle.
"""

from __future__ import annotations

import asyncio
import functools
import os
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from controller.api import meta
from controller.ports import Key, Obj
from tests.simulated import loop
from tests.simulated.harness import SHOP, System, reason
from tests.simulated.world import Settings

GOLDEN = Path(__file__).parent.parent / "golden"
#: Times are rounded to so many seconds: what a list or a probe shows a second later is the same to a reader.
ROUND_SECONDS = 5
_LENGTH = {"Infrastructure": 0, "InstanceGroup": 1, "Instance": 2}


class Trace:
    """Who said what, when: of each moment the last word of each object, in the order of the tree."""

    def __init__(self, system: System) -> None:
        self._said: dict[str, str] = {}
        self._moments: dict[int, dict[tuple[int, str], str]] = {}
        self._clock = system.clock
        system.engine.objects.listen(self._take)

    def _take(self, old: Obj | None, new: Obj | None) -> None:
        obj = new or old
        if obj is None or obj["kind"] not in _LENGTH:
            return
        name = f"{obj['kind']} {obj['metadata']['name']}"
        self._put((_LENGTH[obj["kind"]], name), "gone" if new is None else _words(new))

    def _put(self, place: tuple[int, str], words: str) -> None:
        if words and self._said.get(place[1]) != words:
            self._said[place[1]] = words
            self._moments.setdefault(self.moment(), {})[place] = words

    def moment(self) -> int:
        return round(self._clock() / ROUND_SECONDS) * ROUND_SECONDS

    def note(self, text: str) -> None:
        """What the scenario does now."""
        self._moments.setdefault(self.moment(), {})[-1, f"# {text}"] = ""

    def text(self) -> str:
        lines = [
            f"{at // 60:>3}:{at % 60:02}  {'  ' * max(0, depth)}{name:<{34 - 2 * max(0, depth)}}{words}".rstrip()
            for at, said in self._moments.items()
            for (depth, name), words in sorted(said.items())
        ]
        return "\n".join(lines) + "\n"


def _words(obj: Obj) -> str:
    status = obj.get("status", {})
    going = "deleting: " if obj["metadata"].get("deletionTimestamp") else ""
    match obj["kind"]:
        case "Infrastructure":
            why = f" ({status['why'].split(': ')[0]}: {status['why'].split(': ')[1]})" if ": " in status.get("why", "") else ""
            return f"{going}{status.get('phase', '')} {status.get('ready', '')}{why}".strip()
        case "InstanceGroup":
            count = f" {status['readyReplicas']}/{obj['spec']['replicas']}" if "readyReplicas" in status else ""
            return f"{going}{status.get('reason', '')}{count}".strip()
        case _:
            return f"{going}{status.get('phase', '')} {reason(obj)}".strip()


Scenario = Callable[[System, Trace], Awaitable[None]]


def _middle(low: float, high: float) -> float:
    return (low + high) / 2


async def bring_up(system: System, trace: Trace) -> None:
    trace.note("apply db → app x2 → web")
    await system.apply(SHOP)
    await system.wait(system.ready)


async def heal(system: System, trace: Trace) -> None:
    await bring_up(system, trace)
    await asyncio.sleep(12)
    killed = next(each for each in system.world.live() if each.name == "shop-app-1")
    trace.note("kill the machine of shop-app-1")
    system.world.kill(killed.id)
    await system.wait(lambda: not system.ready())
    await system.wait(system.ready)
    await asyncio.sleep(12)
    trace.note("the machine of shop-web-0 fails its probes")
    system.world.make_unhealthy(next(each for each in system.world.live() if each.name == "shop-web-0").id)
    await system.wait(lambda: not system.ready())
    await system.wait(system.ready)
    await asyncio.sleep(30)


async def _scale(system: System, number: int) -> None:
    key = Key("InstanceGroup", "default", "shop-app")
    seen = await system.store.get(key)
    await system.store.patch(key, {"spec": {"replicas": number}}, version=seen["metadata"]["resourceVersion"])


def _ready_replicas(system: System, number: int) -> bool:
    live = [each for each in system.instances("app") if not each["metadata"].get("deletionTimestamp")]
    return len(live) == len(system.instances("app")) == number and all(reason(each) == "Ready" for each in live)


async def scale(system: System, trace: Trace) -> None:
    await bring_up(system, trace)
    for number in (5, 1):
        await asyncio.sleep(12)
        trace.note(f"scale app to {number}" + (" (scaling.min is 2)" if number < 2 else ""))
        await _scale(system, number)
        await system.wait(functools.partial(_ready_replicas, system, max(number, 2)))
    await system.wait(system.ready)


async def bad_template(system: System, trace: Trace) -> None:
    await bring_up(system, trace)
    await asyncio.sleep(12)
    trace.note("a template that cannot be parsed is applied")
    await system.apply(SHOP.replace("services.db.address }}", "services.db.address "))
    await asyncio.sleep(12)
    trace.note("Instance shop-app-0 is deleted")
    key = Key("Instance", "default", "shop-app-0")
    await system.store.delete(key, uid=(await system.store.get(key))["metadata"]["uid"])
    await asyncio.sleep(60)
    assert len(system.world.live()) == 3, "nothing is made of a wrong template, and what runs stays"
    trace.note("the template is rolled back")
    await system.apply(SHOP)
    await system.wait(system.ready)


async def never_healthy(system: System, trace: Trace) -> None:
    await bring_up(system, trace)
    await asyncio.sleep(12)
    trace.note("machines of web never become healthy from now on; its machine is killed")
    system.world.never_healthy = lambda machine: machine.name.startswith("shop-web")
    system.world.kill(next(each for each in system.world.live() if each.name == "shop-web-0").id)
    await asyncio.sleep(1700)
    trace.note("they become healthy again")
    system.world.never_healthy = lambda machine: False
    await system.wait(system.ready)


async def deletion(system: System, trace: Trace) -> None:
    await bring_up(system, trace)
    await asyncio.sleep(12)
    trace.note("delete the Infrastructure")
    key = Key("Infrastructure", "default", "shop")
    seen = await system.store.get(key)
    assert meta.FINALIZER in seen["metadata"]["finalizers"]
    await system.store.delete(key, uid=seen["metadata"]["uid"])
    await system.wait(system.gone)
    assert system.world.live() == []


@pytest.mark.parametrize(
    "scenario", [pytest.param(each, id=each.__name__) for each in (bring_up, heal, scale, bad_template, never_healthy, deletion)]
)
def test_golden(scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(1, 1_000_000))
    monkeypatch.setattr("random.uniform", _middle)
    monkeypatch.setattr("uuid.uuid4", lambda: uuid.UUID(int=next(numbers)))
    clock = loop.Clock()
    system = System(tmp_path / "state.db", clock, Settings(boot_seconds=lambda _: 30.0, health_seconds=lambda _: 10.0))

    async def main() -> str:
        system.start()
        await system.engine.synced.wait()
        trace = Trace(system)
        await scenario(system, trace)
        assert system.world.duplicates() == []
        await system.crash()
        return trace.text()

    text = loop.run(main(), clock=clock)
    path = GOLDEN / f"{scenario.__name__}.log"
    if os.environ.get("OCCOPUS_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), f"{path.name} says otherwise; look at the difference, then OCCOPUS_UPDATE_GOLDEN=1"
