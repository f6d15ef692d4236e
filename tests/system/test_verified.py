"""When the engine has looked at an infrastructure itself, by what whoever waits for that has asked."""

from __future__ import annotations

import asyncio
from pathlib import Path

from controller.api import meta
from tests.system.documents import alone
from tests.system.rig import Rig, play


def test_a_question_is_of_what_was_written_before_it(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        await rig.engine.verified("shop")
        waiting = asyncio.create_task(rig.engine.verified("shop", "q1"))
        await rig.let_pass(60)
        assert not waiting.done()
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 2}})
        await rig.patch("Infrastructure", "shop", {"metadata": {"annotations": {meta.ASKED: "q1"}}})
        await waiting
        # It has begun with the second one, and says so.
        assert len(rig.instances()) == 2
        assert rig.said("Infrastructure", "shop")[0] == "False"

    play(tmp_path, main)
