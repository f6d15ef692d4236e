"""What the tests of the launcher share: an Instance that can be launched, and what came of it."""

from __future__ import annotations

from collections.abc import Callable

from controller.api.instance import Instance, InstanceStatus, Launch
from controller.engine.clouds import Binding
from controller.reconcilers.instance import status
from tests.simulated.world import Call
from tests.unit.engine.rig import CLOUD, Rig, turns


async def ready(rig: Rig, **inputs: object) -> None:
    await rig.world_of_one(**inputs)
    rig.bind()
    await turns()


def creates(rig: Rig) -> list[Call]:
    return [each for each in rig.world.ledger if each.action == "create"]


def binding(rig: Rig) -> Binding:
    found = rig.clouds.binding(CLOUD)
    assert found is not None
    return found


def recorded(rig: Rig, instance: Instance | None = None) -> Callable[[Launch], InstanceStatus]:
    """The status that holds a launch, as the reconciler makes it."""
    of = instance or rig.instance()
    return lambda launch: status.sent(of, launch, launch.time)
