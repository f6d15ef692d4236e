"""The sweep over whole systems: what it never ends, and what never ends it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller import errors
from controller.ports import Identity
from tests.simulated.harness import CONTROLLER
from tests.system.documents import alone, cloud, implementation, infrastructure, service, template
from tests.system.rig import Rig, ids, play

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


_ON_TWO = [implementation(), implementation("two", on="two")]


@pytest.mark.parametrize(
    ("away", "without", "spec", "why"),
    [
        pytest.param(True, "", {}, "Reconciling", id="a Cloud does not answer"),
        pytest.param(False, "", {"paused": True}, "Paused", id="paused"),
        pytest.param(False, "InstanceTemplate", {}, "TemplateNotFound", id="no template"),
    ],
)
def test_machines_of_an_infrastructure_that_is_put_back_and_has_no_group_yet_are_left(
    tmp_path: Path, away: bool, without: str, spec: dict[str, Any], why: str
) -> None:
    described = service("app", scaling={"min": 2})
    documents = [cloud(), cloud("two", "a2"), template("app", implementations=_ON_TWO), infrastructure(described, id="shop-1")]

    def unreachable() -> None:
        raise errors.Transient("no answer")

    async def main(rig: Rig) -> None:
        await rig.up(*documents)
        before = ids(rig.live())
        await rig.let_pass(120)
        await rig.crash()
        await rig.lose_objects()
        rig.options = replace(rig.options, sweep="Terminate")
        if away:
            rig.before["a2", "identity"] = unreachable
        rig.start()
        put_back = [*documents[:-1], infrastructure(described, id="shop-1", **spec)]
        await rig.make(*(each for each in put_back if each["kind"] != without))
        await rig.until("Infrastructure", "shop", why)
        await rig.let_pass(200)
        assert rig.calls("delete") == 0
        assert rig.find("InstanceGroup", "shop-app") is None
        rig.before.clear()
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": False}})
        await rig.up(documents[2])
        assert ids(rig.live()) == before

    assert len(play(tmp_path, main).made()) == 2


def test_machines_of_an_infrastructure_that_goes_are_ended(tmp_path: Path) -> None:
    """What it describes is no home once it is deleted."""

    async def main(rig: Rig) -> None:
        await rig.up(cloud(), template("app"), infrastructure(service("app"), id="shop-1"))
        await rig.let_pass(120)
        await rig.crash()
        await rig.lose_objects()
        rig.options = replace(rig.options, sweep="Terminate")
        rig.start()
        await rig.make(cloud(), infrastructure(service("app"), id="shop-1", paused=True))
        await rig.let_pass(120)
        assert rig.live()
        await rig.delete("Infrastructure", "shop")
        await rig.wait(lambda: not rig.live(), 60)

    play(tmp_path, main)
