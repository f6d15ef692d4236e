"""How soon a lost machine is noticed and replaced, in virtual time on the simulated cloud."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from controller.ports import Obj
from tests.bench import shapes
from tests.bench.shapes import Shape
from tests.simulated import loop
from tests.simulated.harness import System, condition, put
from tests.simulated.loop import Clock

_LIMIT_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Reaction:
    """Seconds from the loss: until the condition says so, until the call for the replacement, until all is Ready again
    (that without the replacement's own boot and health).
    """

    noticed: float
    called: float
    ready: float


def measure(seed: int, quiet_seconds: float) -> Reaction:
    """Lose one of three machines at a random moment after nothing has moved for so long."""
    with tempfile.TemporaryDirectory() as directory:
        clock = Clock()
        system = System(Path(directory) / "state.db", clock, seed=seed)
        return loop.run(_measure(shapes.flat(1, 3), system, quiet_seconds), clock=clock)


async def _measure(shape: Shape, system: System, quiet_seconds: float) -> Reaction:
    system.start()
    for document in shapes.documents(shape):
        await put(system.store, document)
    await system.wait(system.ready, _LIMIT_SECONDS)
    await asyncio.sleep(quiet_seconds + 30.0 * system.world.random.random())
    noticed, again = _Noted(system, "Instance", "False"), _Noted(system, "Infrastructure", "True")
    lost = system.world.machines[min(system.world.machines)].id
    at = system.clock()
    system.world.kill(lost)
    await asyncio.wait_for(again.seen.wait(), _LIMIT_SECONDS)
    replacement = system.world.machines[max(system.world.machines)]
    await system.crash()
    if not noticed.seen.is_set() or len(system.world.machines) != shape.machines + 1:
        raise AssertionError("the loss was not seen, or not replaced once")
    own = replacement.healthy - replacement.created
    return Reaction(noticed=noticed.at - at, called=replacement.created - at, ready=again.at - at - own)


class _Noted:
    """When an object of the kind was first seen to become so."""

    def __init__(self, system: System, kind: str, status: str) -> None:
        self.seen = asyncio.Event()
        self.at = 0.0
        self._system, self._kind, self._status = system, kind, status
        system.engine.objects.listen(self._look)

    def _look(self, old: Obj | None, new: Obj | None) -> None:
        if old is None or new is None or new["kind"] != self._kind or self.seen.is_set():
            return
        if condition(new, "Ready") == self._status != condition(old, "Ready"):
            self.at = self._system.clock()
            self.seen.set()


__all__ = ["Reaction", "measure"]
