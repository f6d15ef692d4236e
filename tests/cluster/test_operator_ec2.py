"""The operator and EC2: batches on a real API server, killed and stopped at the launch and at the end; VMs that die while the API
server is away.

The light EC2 is served by the test, whose World is the truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from controller import process
from controller.ports import MachineId, Obj
from controller.stores import resources
from tests.cluster.fixtures import Cluster
from tests.cluster.operator import PATIENCE_SECONDS, Place, Story, at_a_place, faulty
from tests.cluster.test_operator_standby import standby
from tests.e2e import descriptions
from tests.e2e.test_kill_ec2 import FILE
from tests.faulty import END, INTENT, MADE
from tests.simulated.ec2 import LightEc2, serve
from tests.simulated.world import Settings, World

KILLED = -signal.SIGKILL
#: For how long the API server is away: with CRASH=all for five minutes.
AWAY_SECONDS = 300.0 if os.environ.get("CRASH") == "all" else 60.0
OnEc2 = Callable[[Place, World], Awaitable[None]]


def on_ec2(story: OnEc2) -> Story:
    """The story with a light EC2 of its own, on which its file is applied."""

    async def run(place: Place) -> None:
        settings = Settings(boot_seconds=lambda rng: rng.uniform(0.3, 0.8), terminating_seconds=0.5, lag_seconds=0.3)
        world = World(time.time, epoch=datetime(1970, 1, 1, tzinfo=UTC), settings=settings)
        with contextlib.ExitStack() as stack:
            endpoint = stack.enter_context(serve(LightEc2(world)))
            place.desk.write("pair.yaml", descriptions.on_ec2(endpoint) + FILE)
            await story(place, world)
        assert world.live() == []
        assert world.duplicates() == []

    return run


async def applied(place: Place) -> None:
    await place.apply((place.desk.directory / "pair.yaml").read_text())


async def settled(place: Place, world: World, made: int, wanted: int = 4) -> None:
    """Each Instance has its machine, and no more were made than so many."""

    async def whole() -> bool:
        instances = [each for each in await place.objects("Instance") if "deletionTimestamp" not in each["metadata"]]
        recorded = {each.get("status", {}).get("machine", {}).get("id") for each in instances}
        return await place.is_ready("pair") and len(instances) == wanted and recorded == {each.id for each in world.live()}

    # One after the other may be replaced, with a back-off of 10 s and 20 s.
    await place.until(whole, "each Instance has its machine", 2 * PATIENCE_SECONDS)
    assert len(world.machines) == made


async def batches(place: Place) -> list[Obj]:
    return [each for each in await place.objects("Instance") if each["spec"]["batch"]["size"] > 1]


def killed_at_a_launch(point: str, machines: int) -> OnEc2:
    async def story(place: Place, world: World) -> None:
        dying = await place.lead(module=faulty(point))
        await applied(place)
        assert await dying.ended() == KILLED
        assert len(world.machines) == machines
        await place.lead()
        await settled(place, world, made=4)
        assert len(await batches(place)) == 3
        await place.delete_all()

    return story


async def killed_at_an_end(place: Place, world: World) -> None:
    dying = await place.lead(module=faulty(END))
    await applied(place)
    await settled(place, world, made=4)
    await place.delete("Infrastructure", "pair")
    assert await dying.ended() == KILLED
    assert any(each.tags["occopus.io/service"] == "first" for each in world.live())
    await place.lead()
    await place.delete_all()
    assert len(world.machines) == 4


async def a_leader_stopped_before_its_create(place: Place, world: World) -> None:
    leader = await place.lead(module=faulty("before:create:stop"))
    await applied(place)
    await place.until(leader.stopped, "the leader is stopped")
    assert world.machines == {}
    second = await standby(place)
    await settled(place, world, made=4)
    leader.send(signal.SIGCONT)
    assert await leader.ended() == process.DIED, leader.log()
    # Its RunInstances was sent all the same, with the token that was used.
    await asyncio.sleep(1)
    await settled(place, world, made=4)
    assert await place.leads(second)
    await place.delete_all()


def test_batches_on_ec2_are_made_once_and_ended_once(cluster: Cluster, tmp_path: Path) -> None:
    stories = (
        killed_at_a_launch(INTENT, machines=0),
        killed_at_a_launch(MADE, machines=1),
        killed_at_an_end,
        a_leader_stopped_before_its_create,
    )
    at_a_place(cluster, tmp_path, *(on_ec2(each) for each in stories))


# --- no API server --------------------------------------------------------------------------------------------------
async def supervised(place: Place) -> None:
    """Start another operator whenever one has ended, as whoever runs them does."""
    while True:
        await place.operators[-1].process.wait()
        await asyncio.sleep(1)
        await place.start()


async def serves(place: Place) -> bool:
    """Of an API server that was started a moment ago the storage of some kinds is being initialised, and it says 404 or 429."""
    kinds = ("Infrastructure", "InstanceGroup", "Instance")
    return {(await place.ask("GET", resources.resource(each).path(place.namespace))).code for each in kinds} == {200}


def changes(world: World) -> list[tuple[float, str, tuple[str, ...]]]:
    """Every call that made or ended machines: when, which, and of what."""
    return [(each.time, each.action, each.ids) for each in world.ledger if each.action in ("RunInstances", "TerminateInstances")]


async def away_while_machines_die(place: Place, world: World) -> None:
    leader = await place.lead()
    await applied(place)
    await settled(place, world, made=4)
    await place.patch("InstanceGroup", "pair-second", {"spec": {"replicas": 5}})
    await settled(place, world, made=6, wanted=6)
    machines = {each["metadata"]["name"]: MachineId(each["status"]["machine"]["id"]) for each in await place.objects("Instance")}
    killed, also_killed, stopped = (machines.pop(name) for name in ("pair-first-0", "pair-second-1", "pair-second-2"))
    before = changes(world)
    supervisor = asyncio.create_task(supervised(place))
    await asyncio.to_thread(place.cluster.plane.stop_api_server, True)
    try:
        for harm, id in ((world.kill, killed), (world.stop, stopped), (world.kill, also_killed)):
            # The first while its leader still has its Lease, the others after its end.
            harm(id)
            await asyncio.sleep(AWAY_SECONDS / 3)
        assert leader.process.returncode == process.DIED, leader.log()
        assert "Cannot begin yet" in place.operators[-1].log()
        assert changes(world) == before
    finally:
        await asyncio.to_thread(place.cluster.plane.start)
    await place.until(lambda: serves(place), "the API server serves")
    await settled(place, world, made=9, wanted=6)
    assert set(machines.values()) < {each.id for each in world.live()}
    # Those that ended by themselves are not ended again.
    assert {id for _, action, ids in changes(world) if action == "TerminateInstances" for id in ids} == {stopped}
    supervisor.cancel()
    await place.delete_all()


def test_machines_that_die_while_the_api_server_is_away_are_replaced_when_it_is_back(cluster: Cluster, tmp_path: Path) -> None:
    at_a_place(cluster, tmp_path, on_ec2(away_while_machines_die))
