"""Nothing to do is nothing done: no write, no call that changes anything, no event said twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from controller import errors
from tests.simulated.world import Settings
from tests.system.documents import alone, chain
from tests.system.rig import MUTATING, Rig, play, steady


async def _stays_quiet(rig: Rig, seconds: float) -> None:
    """No write and no mutating call while time passes."""
    versions = {str(each["metadata"]["uid"]): each["metadata"]["resourceVersion"] for each in await _all(rig)}
    events, calls = await rig.told(""), rig.calls(*MUTATING)
    await rig.let_pass(seconds)
    assert {str(each["metadata"]["uid"]): each["metadata"]["resourceVersion"] for each in await _all(rig)} == versions
    assert await rig.told("") == events
    assert rig.calls(*MUTATING) == calls


async def _all(rig: Rig) -> list[dict[str, dict[str, str]]]:
    kinds = ("Cloud", "InstanceTemplate", "Infrastructure", "InstanceGroup", "Instance", "ControllerRevision")
    return [each for kind in kinds for each in await rig.store.list(kind)]


@pytest.mark.parametrize("settings", [pytest.param(steady(), id="tokens"), pytest.param(steady(fences=True), id="fences")])
def test_a_quiet_hour_writes_nothing(tmp_path: Path, settings: Settings) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        await rig.let_pass(5)
        writes = rig.engine.objects.writes
        await _stays_quiet(rig, 3600)
        assert rig.engine.objects.writes == writes
        # One list a poll for all machines: at most 300 an hour when nothing has moved for ten minutes.
        late = [each for each in rig.world.ledger if each.action == "list" and each.time > rig.clock() - 1800]
        assert len(late) <= 300 / 2

    play(tmp_path, main, settings)


def test_a_restart_at_quiet_writes_nothing(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        await rig.let_pass(60)
        for _ in range(3):
            await rig.crash()
            rig.start()
            await _stays_quiet(rig, 120)
            assert rig.engine.objects.writes == 0
            assert rig.ready()

    play(tmp_path, main)


def test_a_restart_while_something_waits_writes_nothing_either(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(*chain()[:-1][1:], chain()[-1])  # no Cloud
        await rig.until("Infrastructure", "shop", "CloudNotFound")
        await rig.let_pass(5)
        await rig.crash()
        rig.start()
        await _stays_quiet(rig, 400)

    play(tmp_path, main)


def test_coming_up_says_each_thing_once(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        await rig.let_pass(30)
        said = Counter((each["reason"], each["involvedObject"]["kind"], each["involvedObject"]["name"]) for each in await rig.events())
        assert all(each["count"] == 1 for each in await rig.events())
        assert {key: number for key, number in said.items() if number > 1 and key != ("Created", "Infrastructure", "shop")} == {}
        assert said["Created", "Infrastructure", "shop"] == 3
        assert {name for reason, kind, name in said if (reason, kind) == ("Ready", "Instance")} == {
            each["metadata"]["name"] for each in rig.instances()
        }

    play(tmp_path, main)


def test_a_flapping_hour_says_no_more_than_what_happened(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        before = await rig.told("")
        changes = 0
        until = rig.clock() + 3600
        while rig.clock() < until:
            for each in rig.live():
                rig.world.make_unhealthy(each.id)
            await rig.let_pass(60)
            for each in rig.live():
                rig.world.make_healthy(each.id)
            await rig.let_pass(60)
            changes += 2
        # Of each change: ProbeFailed and Ready of two machines, and at most two of a replacement, of the group, of the whole.
        assert await rig.told("") - before <= changes * 10
        assert len(rig.made()) <= 2 + 3600 / 250
        assert len(await rig.events()) <= 1000

    play(tmp_path, main)


def test_a_flapping_list_says_each_fall_and_each_return(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        for _ in range(10):
            fault = rig.world.fail("list", errors.Transient("no route"), times=float("inf"))
            await rig.until("Cloud", "sim", "CloudUnreachable", seconds=60)
            rig.world.clear(fault)
            await rig.until("Cloud", "sim", "Ready", seconds=60)
        assert await rig.told("CloudUnreachable", "sim") == 10
        assert 10 <= await rig.told("Ready", "sim") <= 11

    play(tmp_path, main)
