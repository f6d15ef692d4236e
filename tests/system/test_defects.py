"""Drivers that break their contract: only their own Cloud suffers, and it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.reconcilers.infrastructure import reconcile
from tests.system.documents import Document, alone, cloud, infrastructure, service, template
from tests.system.rig import Rig, play

INF = float("inf")


def _two() -> tuple[list[Document], list[Document]]:
    bad = [cloud("bad", "a2"), template("app", on="bad"), infrastructure(service("app"), name="ill")]
    good = [cloud("good", "a1"), template("web", on="good"), infrastructure(service("web", scaling={"min": 2}))]
    return bad, good


def _defect() -> None:
    raise KeyError("a field that the driver's author did not expect")


@pytest.mark.parametrize("action", ["identity", "list", "resolve", "prepare", "create"])
def test_a_driver_that_raises_what_it_should_not_stops_its_own_cloud_alone(tmp_path: Path, action: str) -> None:
    async def main(rig: Rig) -> None:
        bad, good = _two()
        rig.before["a2", action] = _defect
        await rig.make(*bad, *good)
        await rig.wait(rig.ready, 120)
        await rig.wait(lambda: "KeyError" in rig.said("Infrastructure", "ill")[2], 30)
        rig.world.kill(rig.live("web")[0].id)
        await rig.wait(lambda: len(rig.made("web")) == 3 and rig.ready(), 120)
        assert rig.made("app") == []
        rig.before.clear()
        await rig.wait(lambda: rig.ready("ill"), 200)

    assert len(play(tmp_path, main).made("app")) == 1


@pytest.mark.parametrize("action", ["describe", "delete", "close"])
def test_a_driver_that_fails_at_the_end_keeps_its_own_machines_alone(tmp_path: Path, action: str) -> None:
    async def main(rig: Rig) -> None:
        bad, good = _two()
        await rig.make(*bad, *good)
        await rig.wait(lambda: rig.ready() and rig.ready("ill"), 120)
        rig.before["a2", action] = _defect
        rig.world.forget(rig.live("app")[0].id) if action == "describe" else None
        await rig.delete("Infrastructure", "ill", "shop")
        await rig.wait(lambda: rig.find("Infrastructure", "shop") is None, 60)
        await rig.let_pass(120)
        kept = rig.find("Infrastructure", "ill") is not None
        assert kept or action == "close", "a machine that ended by the cloud's own word needs no proof"
        rig.before.clear()
        await rig.wait(rig.gone, 300)
        assert rig.world.live() == []

    play(tmp_path, main)


@pytest.mark.parametrize("action", ["identity", "list", "resolve", "prepare", "create"])
def test_a_call_that_never_returns_stops_its_own_cloud_alone(tmp_path: Path, action: str) -> None:
    async def main(rig: Rig) -> None:
        bad, good = _two()
        rig.hold(action, INF, account="a2")
        await rig.make(*bad, *good)
        await rig.wait(rig.ready, 120)
        rig.world.kill(rig.live("web")[0].id)
        await rig.wait(lambda: len(rig.made("web")) == 3 and rig.ready(), 120)
        await rig.wait(lambda: "no answer" in rig.said("Infrastructure", "ill")[2], 120)
        assert rig.made("app") == []
        rig.before.clear()
        await rig.wait(lambda: rig.ready("ill"), 300)

    assert len(play(tmp_path, main).made("app")) == 1


def test_a_call_that_hangs_in_a_running_infrastructure_is_said_and_ends_nothing(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        bad, good = _two()
        await rig.make(*bad, *good)
        await rig.wait(lambda: rig.ready() and rig.ready("ill"), 120)
        rig.hold("list", INF, account="a2")
        await rig.until("Cloud", "bad", "CloudUnreachable", seconds=60)
        await rig.unchanged(300)
        rig.before.clear()
        await rig.until("Cloud", "bad", "Ready", seconds=60)

    play(tmp_path, main)


def test_a_defect_of_ours_is_told_to_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret words")

    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        with monkeypatch.context() as patch:
            patch.setattr(reconcile, "plan", broken)
            await rig.make(*alone(2))
            message = await rig.hear("Defect", "shop", 30)
        assert "ZeroDivisionError" in message
        assert "secret words" not in message
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 2, 200)

    play(tmp_path, main)
