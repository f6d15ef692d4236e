"""Real SIGKILL of the operator at one call of each kind in each story, on EC2 over a real API server: each next one goes on from there.

The stories and their calls are those of `tests/e2e/test_kill_ec2.py`, where the command is killed over a state file. With CRASH=all
(`make test-crash`) an operator dies at each change there is: each makes one, and the next one the next.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from tests.cluster.fixtures import Cluster
from tests.cluster.operator import Operator, Place, at_a_place, faulty
from tests.cluster.test_operator_ec2 import OnEc2, applied, on_ec2, settled
from tests.e2e.test_kill_ec2 import BATCHING, ENDING, HEALING, MAKING
from tests.simulated.world import World

ALL = os.environ.get("CRASH") == "all"
Deed = Callable[[Place, World], Awaitable[None]]
#: So many changes no story has.
_MANY = 300


async def killed_at(place: Place, call: str) -> None:
    """An operator that leads, and is killed at that call."""
    await place.ask("DELETE", place.lease_path)
    dying = await place.start(module=faulty(f"{call}:die"))
    assert await dying.ended() == -signal.SIGKILL, f"{call}: {dying.log()}"


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
        story(scaled_out, scaled(4), ENDING, made=6, wanted=5),
        story(up, removed, ENDING, made=4, wanted=0),
    )
    at_a_place(cluster, tmp_path, *(on_ec2(each) for each in stories))


def changing(prepare: Deed, deed: Deed, made: int, wanted: int) -> OnEc2:
    """Each operator is killed after its first change, until there is nothing left to change."""

    async def told(place: Place, world: World) -> None:
        await prepare(place, world)
        await deed(place, world)
        for _ in range(_MANY):
            await place.ask("DELETE", place.lease_path)
            dying = await place.start(module=faulty("after:change#1:die"))
            if await _came_to_an_end(place, world, wanted, dying):
                break
            assert await dying.ended() == -signal.SIGKILL, dying.log()
        await place.operators[-1].kill()
        await place.lead()
        await place.delete_all()
        assert len(world.machines) == made

    return told


async def _came_to_an_end(place: Place, world: World, wanted: int, operator: Operator) -> bool:
    """Wait until all is as wanted, or the operator has died; which of both."""

    async def whole() -> bool:
        instances = await place.objects("Instance")
        recorded = {each.get("status", {}).get("machine", {}).get("id") for each in instances}
        if wanted == 0:
            return not await place.objects("Infrastructure")
        return len(instances) == wanted and recorded == {each.id for each in world.live()} and await place.is_ready("pair")

    async def either() -> bool:
        return not operator.runs or await whole()

    await place.until(either, "a change, or the end")
    return operator.runs


@pytest.mark.skipif(not ALL, reason="minutes of operators that start: `make test-crash`")
def test_killed_after_each_change_the_next_ones_come_to_the_same_end(cluster: Cluster, tmp_path: Path) -> None:
    stories = (
        changing(nothing, described, made=4, wanted=4),
        changing(up, scaled(6), made=7, wanted=7),
        changing(up, one_lost, made=5, wanted=4),
        changing(scaled_out, scaled(4), made=6, wanted=5),
        changing(up, removed, made=4, wanted=0),
    )
    at_a_place(cluster, tmp_path, *(on_ec2(each) for each in stories))
