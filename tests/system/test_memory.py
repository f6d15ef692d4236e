"""A controller that runs for months: of what has come and gone nothing is kept, whatever became of it meanwhile."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import BaseModel

from controller import errors
from controller.api import meta
from controller.engine import denials, objects, turns
from controller.ports import Identity, Key
from tests.simulated.harness import CONTROLLER
from tests.system.documents import OWN, alone, cloud, implementation, infrastructure, secret, service, template
from tests.system.rig import Rig, play, steady

INF = float("inf")
#: Each round brings objects, a Cloud, an account and a revision that no other round has; what keeps one of each grows by as many.
ROUNDS = 3
#: Of these the last so many are remembered: fewer here than one half of the test brings.
BOUNDS = ((objects, "_GONE_REMEMBERED"), (turns, "_REMEMBERED"), (denials, "_REMEMBERED"))


def _parts(owner: object) -> Iterator[tuple[str, object]]:
    """What the object has, by the name of its class and of the attribute."""
    names = {name for each in type(owner).__mro__ for name in cast("tuple[str, ...]", getattr(each, "__slots__", ()))}
    for name in sorted(names | getattr(owner, "__dict__", {}).keys()):
        if name != "__dict__" and hasattr(owner, name):
            yield f"{type(owner).__qualname__}.{name}", getattr(owner, name)


def sizes(root: object) -> Counter[str]:
    """How many entries all containers have that can be reached from there, by whose they are. What objects say is not looked into."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    todo: list[tuple[str, object]] = [("", root)]
    while todo:
        name, each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, dict | list | tuple | set | frozenset | deque):
            held = cast("dict[Any, object] | list[object]", each)
            # What stands in a container as a tuple is one entry of it.
            found[name] += len(held) if not (name.endswith("[]") and isinstance(each, tuple)) else 0
            if not (isinstance(held, dict) and "metadata" in held):
                todo += [(f"{name}[]", inner) for inner in (held.values() if isinstance(held, dict) else held)]
        elif type(each).__module__.startswith("controller.") and not isinstance(each, BaseModel):
            todo += _parts(each)
    return found


async def _least(rig: Rig) -> Counter[str]:
    """The sizes when nothing is under way: what was to be done by some time is in a heap until then, at most for as long as a machine
    has to start."""
    found = sizes(rig.engine)
    for _ in range(8):
        await rig.let_pass(100)
        found &= sizes(rig.engine)
    return found


async def _come_and_go(rig: Rig, name: str) -> None:
    """An Infrastructure on an account of its own: denied, without room, at its limit, of two revisions; and a machine nobody claims."""
    denied = rig.world.fail("create", errors.Denied("not allowed"), times=INF)
    await rig.make(
        secret(name, password="right"),
        cloud(name, name, secret=name, maxInstances=3),
        template(name, OWN, on=name),
        infrastructure(service(name, scaling={"min": 3}), name=name),
    )
    await rig.until("Instance", f"{name}-{name}-2", "Denied")
    rig.world.clear(denied)
    await rig.wait(lambda: rig.ready(name))
    stray = rig.world.insert((name, "r1"), Identity(f"stray-{name}", 0), {"occopus.io/controller": CONTROLLER})
    rig.left.add(stray)
    await rig.let_pass(250)
    assert await rig.told("Unclaimed", name) == 1
    rig.world.kill(stray)
    rig.world.fail("create", errors.NoCapacity("full"))
    await rig.make(template(name, OWN, implementations=[implementation(on=name, size="large")]))
    await rig.make(infrastructure(service(name, scaling={"min": 5}), name=name))
    await rig.wait(lambda: "LimitReached" in rig.picture())
    await rig.patch("Instance", f"{name}-{name}-1", {"metadata": {"finalizers": [meta.FINALIZER, "example.org/keep"]}})
    await rig.delete("Infrastructure", name)
    await rig.wait(lambda: len(rig.instances(name)) == 1 and rig.instances(name)[0]["metadata"]["finalizers"] == ["example.org/keep"])
    await rig.patch("Instance", f"{name}-{name}-1", {"metadata": {"finalizers": None}})
    await rig.wait(lambda: rig.find("Infrastructure", name) is None)
    await rig.delete("InstanceTemplate", name)
    await rig.delete("Cloud", name)
    await rig.wait(lambda: rig.find("Cloud", name) is None)
    await rig.delete("Secret", name)
    # Whoever still thinks of it wakes what has gone.
    rig.engine.wake(Key("InstanceGroup", "default", f"{name}-{name}"))


async def _change(rig: Rig, name: str) -> None:
    """Two more revisions of what stays, of which launches are denied; those of the second are allowed later."""
    denied = rig.world.fail("create", errors.Denied("not allowed"), times=INF)
    for size in (f"{name}-first", f"{name}-second"):
        await rig.make(template("app", OWN, implementations=[implementation(size=size)]))
        going = {each["metadata"]["uid"] for each in rig.instances("app")}
        await rig.delete("Instance", *(each["metadata"]["name"] for each in rig.instances("app")))
        await rig.wait(lambda going=going: not going & {each["metadata"]["uid"] for each in rig.instances("app")})
        await rig.wait(lambda: "Denied" in rig.picture())
    rig.world.clear(denied)
    await rig.wait(rig.ready)


@pytest.mark.usefixtures("bounded")
def test_of_what_has_gone_nothing_is_kept(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        kept: list[Counter[str]] = []
        for half in ("old", "new"):
            for number in range(ROUNDS):
                await _come_and_go(rig, f"{half}{number}")
                await _change(rig, f"{half}{number}")
            kept.append(await _least(rig))
        grown = {name: number for name, number in (kept[1] - kept[0]).items() if number >= ROUNDS}
        assert grown == {}

    play(tmp_path, main, steady(shown_seconds=60))


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in BOUNDS:
        monkeypatch.setattr(module, name, 2)
