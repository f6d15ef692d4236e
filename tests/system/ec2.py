"""A `Rig` on the light EC2: the words of whole-system tests, with the `ec2` driver and boto3 between the engine and the World.

`play` runs a test in virtual time over a light EC2 that is served on loopback, and asks the ledger afterwards as `rig.play` does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.simulated import loop, on_ec2
from tests.simulated.ec2 import LightEc2, serve
from tests.simulated.world import Settings, World
from tests.system import rig as rigs
from tests.system.documents import Document
from tests.system.rig import Rig, steady


class Ec2Rig(Rig):
    """See the module. Documents for the simulated cloud are taken, and put onto EC2."""

    def __init__(self, path: Path, clock: loop.Clock, light: LightEc2, endpoint: str) -> None:
        super().__init__(path, clock)
        self.light = light
        self.endpoint = endpoint
        self.keys = on_ec2.KEYS
        on_ec2.on_ec2(self, light)

    async def make(self, *documents: Document) -> None:
        """Apply the documents on EC2, the Secret of the account with the first of them."""
        await super().make(*on_ec2.documents(list(documents), self.endpoint, self.keys))

    def sent(self, *actions: str) -> int:
        """How many calls of EC2's actions there were."""
        return sum(number for action, number in self.world.counts().items() if action in actions)

    def outcomes(self, action: str) -> list[str]:
        """What became of each call of an action."""
        return [each.outcome for each in self.world.ledger if each.action == action]


Main = Callable[[Ec2Rig], Awaitable[None]]


def play(path: Path, main: Main, settings: Settings | None = None) -> Ec2Rig:
    """Run a test on a new system on EC2 to its end, and judge what it left."""
    clock = loop.Clock()
    light = LightEc2(World(clock, settings=settings or steady()))
    with serve(light) as endpoint:
        rig = Ec2Rig(path / "state.db", clock, light, endpoint)

        async def whole() -> None:
            rig.start()
            await main(rig)
            await rigs.judge(rig)
            await rig.crash()

        loop.run(whole(), clock=clock)
    return rig


__all__ = ["Ec2Rig", "play"]
