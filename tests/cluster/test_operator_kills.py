"""Real SIGKILL of the operator at one call of each kind in each story, on EC2 over a real API server: each next one goes on from there.

The stories and their calls are those of `tests/e2e/test_kill_ec2.py`, where the command is killed over a state file. `make test-crash`
(CRASH=all) kills at every call that changes something, each time from the beginning.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from controller.clouds.ec2.driver import Ec2Driver
from tests.cluster.fixtures import Cluster
from tests.cluster.operator import PATIENCE_SECONDS, Place, at_a_place, faulty
from tests.cluster.test_operator_ec2 import OnEc2, applied, on_ec2, settled
from tests.e2e.test_kill_ec2 import BATCHING, ENDING, HEALING, MAKING
from tests.simulated.harness import condition
from tests.simulated.world import World

ALL = os.environ.get("CRASH") == "all"
#: So many are killed at once, each at a place of its own.
TOGETHER = 4
#: Of a batch that was not whole each member waits for what an earlier process may have launched.
SETTLING_SECONDS = Ec2Driver.settle_seconds + PATIENCE_SECONDS
Deed = Callable[[Place, World], Awaitable[None]]


async def killed_at(place: Place, call: str) -> None:
    """An operator that leads, and is killed at that call."""
    await place.ask("DELETE", place.lease_path)
    dying = await place.start(module=faulty(f"{call}:die"))
    await place.until(lambda: not dying.runs, f"killed at {call}")
    assert await dying.ended() == -signal.SIGKILL, dying.log()


async def up(place: Place, world: World) -> None:
    leader = await place.lead()
    await applied(place)
    await settled(place, world, made=4)
    await leader.kill()


async def described(place: Place, world: World) -> None:
    await applied(place)


def scaled(number: int) -> Deed:
    async def deed(place: Place, world: World) -> None:
        await place.patch("InstanceGroup", "pair-second", {"spec": {"replicas": number}})

    return deed


async def one_lost(place: Place, world: World) -> None:
    world.kill(min(each.id for each in world.live()))


async def scaled_out(place: Place, world: World) -> None:
    await up(place, world)
    await scaled(5)(place, world)
    leader = await place.lead()
    await settled(place, world, made=6, wanted=6)
    await leader.kill()


async def nothing(place: Place, world: World) -> None:
    pass


async def removed(place: Place, world: World) -> None:
    await place.delete("Infrastructure", "pair")


def story(prepare: Deed, deed: Deed, calls: Sequence[str], made: int, wanted: int) -> OnEc2:
    """What is done without a fault; then what is done, while one after the other is killed at its call; and the end of it."""

    async def told(place: Place, world: World) -> None:
        await prepare(place, world)
        await deed(place, world)
        for call in calls:
            await killed_at(place, call)
        await place.lead()
        if wanted:
            await settled(place, world, made=made, wanted=wanted)
        await place.delete_all()
        assert len(world.machines) == made

    return told


async def healed(place: Place, world: World) -> None:
    """A second one is lost, for what comes after the first has come back."""
    await up(place, world)
    for calls, made in zip(HEALING, (5, 6), strict=True):
        await one_lost(place, world)
        for call in calls:
            await killed_at(place, call)
        leader = await place.lead()
        await settled(place, world, made=made)
        await leader.kill()
    await place.lead()
    await place.delete_all()
    assert len(world.machines) == 6


def test_killed_at_one_call_of_each_kind_the_next_ones_come_to_the_same_end(cluster: Cluster, tmp_path: Path) -> None:
    stories = (
        story(nothing, described, MAKING, made=4, wanted=4),
        story(up, scaled(6), BATCHING, made=7, wanted=7),
        healed,
        # What goes is the later one of a batch of two: its launch is the other's to close.
        story(scaled_out, scaled(4), ENDING[:-1], made=6, wanted=5),
        story(up, removed, ENDING, made=4, wanted=0),
    )
    at_a_place(cluster, tmp_path, *(on_ec2(each) for each in stories))


async def none_goes(place: Place) -> bool:
    return not any("deletionTimestamp" in each["metadata"] for each in await place.objects("Instance"))


@dataclass(frozen=True, slots=True)
class Case:
    """What is done without a fault, and with one; how many machines there are then, and how many were ever made."""

    name: str
    prepare: Deed
    deed: Deed
    made: int
    wanted: int

    def killed_at(self, number: int, survived: list[int]) -> OnEc2:
        """Killed after that change (0: before the first), and another one goes on. There may be no change of that number."""
        fault = f"after:change#{number}:die" if number else "before:change#1:die"

        async def told(place: Place, world: World) -> None:
            await self.prepare(place, world)
            await self.deed(place, world)
            await place.ask("DELETE", place.lease_path)
            dying = await place.start(module=faulty(fault))

            async def over() -> bool:
                return not dying.runs or await self.done(place, world)

            await place.until(over, f"killed at {number}, or all is done", 2 * PATIENCE_SECONDS)
            if dying.runs:
                survived.append(number)
                await dying.kill()
            assert await dying.ended() == -signal.SIGKILL, dying.log()
            await place.lead()
            await place.until(lambda: self.done(place, world), f"all is done after {number}", 2 * PATIENCE_SECONDS)
            assert len(world.machines) == self.made
            await place.until(lambda: none_goes(place), "what goes has gone", SETTLING_SECONDS)
            await place.delete_all()

        return told

    async def done(self, place: Place, world: World) -> bool:
        """Whether it ended as it should: each Instance is Ready with its machine, or nothing is left."""
        if not self.wanted:
            return not any([await place.objects(kind) for kind in ("Infrastructure", "InstanceGroup", "Instance")])
        instances = [each for each in await place.objects("Instance") if "deletionTimestamp" not in each["metadata"]]
        ready = [each["status"]["machine"]["id"] for each in instances if condition(each, "Ready") == "True"]
        return len(instances) == self.wanted and sorted(ready) == sorted(each.id for each in world.live()) and await place.is_ready("pair")


CASES = (
    Case("create", nothing, described, made=4, wanted=4),
    Case("batch", up, scaled(6), made=7, wanted=7),
    Case("heal", up, one_lost, made=5, wanted=4),
    Case("scale-in", scaled_out, scaled(3), made=6, wanted=4),
    Case("delete", up, removed, made=4, wanted=0),
)


@pytest.mark.skipif(not ALL, reason="half an hour: `make test-crash`")
@pytest.mark.parametrize("case", [pytest.param(each, id=each.name) for each in CASES])
def test_killed_at_every_change(cluster: Cluster, tmp_path: Path, case: Case) -> None:
    survived: list[int] = []
    for first in itertools.count(0, TOGETHER):
        stories = [on_ec2(case.killed_at(number, survived)) for number in range(first, first + TOGETHER)]
        (tmp_path / str(first)).mkdir()
        at_a_place(cluster, tmp_path / str(first), *stories)
        if survived:
            break
    # Each killed at all before that one.
    assert min(survived) > len(MAKING)
