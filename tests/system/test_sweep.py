"""The sweep over whole systems: what it never ends, and what never ends it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from controller import errors
from controller.ports import Identity
from tests.simulated.harness import CONTROLLER
from tests.system.documents import alone
from tests.system.rig import Rig, play

STRAY = Identity("stray", 0)


async def _up_with_stray(rig: Rig, namespace: str, **options: Any) -> None:
    """One Instance under the policy Terminate, and a machine of a namespace that no Instance claims."""
    await rig.crash()
    rig.options = replace(rig.options, sweep="Terminate", **options)
    rig.start()
    await rig.up(*alone())
    tags = {
        "occopus.io/controller": CONTROLLER,
        "occopus.io/namespace": namespace,
        "occopus.io/infrastructure": "ghost",
        "occopus.io/infrastructure-id": "ghost-1",
        "occopus.io/service": "app",
    }
    rig.left.add(rig.world.insert(("a1", "r1"), STRAY, tags))


def test_a_machine_whose_end_is_refused_is_ended_by_a_later_look(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await _up_with_stray(rig, "default")
        refused = rig.world.fail("delete", errors.Throttled("slow down"), whole=True)
        await rig.wait(lambda: refused.left == 0, 150)
        assert rig.world.live(STRAY)
        await rig.wait(lambda: not rig.world.live(STRAY), 150)

    play(tmp_path, main)


def test_a_machine_of_a_namespace_that_is_not_served_is_left_alone(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await _up_with_stray(rig, "elsewhere", namespaces=("default",))
        await rig.let_pass(400)
        assert rig.world.live(STRAY)
        assert rig.calls("delete") == 0
        assert rig.engine.clouds.suspects() == (), "nor counted"

    play(tmp_path, main)
