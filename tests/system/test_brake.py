"""How replacing is braked: the back-off between replacements, and how many machines are replaced at once."""

from __future__ import annotations

import itertools
from pathlib import Path

from tests.system.documents import ill
from tests.system.rig import Rig, ids, play, steady

INF = float("inf")


def test_never_healthy_is_replaced_with_a_back_off_that_doubles(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        rig.world.never_healthy = lambda machine: True
        await rig.make(*ill(startup=20))
        message = await rig.hear("StartupTimeout", "shop-app-0", 30)
        assert "20 s" in message
        assert "does not serve" in message
        assert rig.clock() <= 25
        await rig.until("InstanceGroup", "shop-app", "BackOff", seconds=200)
        await rig.let_pass(3600 - rig.clock())
        starts = [each.created for each in rig.made()]
        waits = [later - earlier for earlier, later in itertools.pairwise(starts)]
        # After 20 s of starting the first goes at once, the next after 10 s doubling to 5 min, ± 10 %.
        plain = [0.0, *(min(10.0 * 2**number, 300.0) for number in range(len(waits) - 1))]
        assert all(19.9 + 0.9 * least <= wait <= 20 + 1.1 * least + 5 for least, wait in zip(plain, waits, strict=True)), waits
        # 20 + 30 + 40 + 60 + 100 + 180 s, then 320 s each ± 30 s: 6 replacements in 430 s and 8 to 11 in the rest of the hour.
        assert 1 + 6 + 8 <= len(starts) <= 1 + 6 + 11
        assert 1 <= await rig.told("BackOff", "shop-app") <= len(starts)
        # Never more than the old one that ends and the new one that begins.
        assert max(rig.world.most_live_of_service().values()) <= 2

    play(tmp_path, main, steady(boot=5, health=5))


def test_the_back_off_shows_where_starting_takes_longer_than_it(tmp_path: Path) -> None:
    """The default of 600 s to start is longer than the longest wait."""

    async def main(rig: Rig) -> None:
        rig.world.never_healthy = lambda machine: True
        await rig.make(*ill(startup=600))
        await rig.let_pass(3600)
        waits = [later.created - earlier.created for earlier, later in itertools.pairwise(rig.made())]
        assert len(waits) >= 4, waits
        assert all(599.9 + least <= wait <= 630 + least for least, wait in zip((0, 9, 18, 36), waits[:4], strict=True)), waits

    play(tmp_path, main, steady(boot=5, health=5))


def test_a_group_recovers_when_health_comes_back(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        rig.world.never_healthy = lambda machine: True
        await rig.make(*ill())
        await rig.let_pass(1500)
        rig.world.never_healthy = lambda machine: False
        await rig.wait(rig.ready, 300 * 1.1 + 100 + 60)
        await rig.unchanged(900)
        # Ten well minutes later the next failure is replaced at once again.
        rig.world.kill(rig.live()[0].id)
        before = len(rig.made())
        await rig.wait(lambda: len(rig.made()) == before + 1, 20)
        await rig.wait(rig.ready, 120)

    play(tmp_path, main)


def test_a_restart_does_not_forget_the_back_off(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        rig.world.never_healthy = lambda machine: True
        await rig.make(*ill())
        await rig.let_pass(1000)
        await rig.until("InstanceGroup", "shop-app", "BackOff")
        before = len(rig.made())
        due = rig.obj("InstanceGroup", "shop-app")["status"]["replacement"]["due"]
        for _ in range(4):
            await rig.restart()
            await rig.let_pass(5)
            assert rig.obj("InstanceGroup", "shop-app")["status"]["replacement"]["due"] == due
        assert len(rig.made()) == before

    play(tmp_path, main)


def test_ten_of_ten_unhealthy_are_replaced_two_at_a_time(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*ill(10))
        sick = ids(rig.live())
        for each in sick:
            rig.world.make_unhealthy(each)
        await rig.until("InstanceGroup", "shop-app", "Braked", seconds=60)
        assert await rig.told("Braked", "shop-app") >= 1
        for _ in range(1600):
            serving = [each for each in rig.live() if each.id not in sick]
            well = [each for each in serving if each.is_healthy(rig.clock())]
            # Those that are on their way and those that end and have no successor yet are two at most.
            assert len(serving) - len(well) <= 2
            waiting = [each for each in rig.live() if each.id in sick and each.ending == float("inf")]
            assert 10 - len(waiting) - len(well) <= 2, rig.picture()
            if rig.ready() and not waiting:
                break
            await rig.let_pass(1)
        assert rig.ready()
        assert not sick & ids(rig.live())

    rig = play(tmp_path, main)
    assert len(rig.made()) == 20


def test_while_what_is_made_in_their_place_fails_too_the_others_are_kept(tmp_path: Path) -> None:
    """Nobody can be reached for longer than machines have to start, and it is no fault of theirs."""

    async def main(rig: Rig) -> None:
        await rig.up(*ill(10))
        old = ids(rig.live())
        rig.world.never_healthy = lambda machine: True
        for each in old:
            rig.world.make_unhealthy(each)
        await rig.let_pass(3600)
        kept = old & {each.id for each in rig.live() if each.ending == INF}
        assert len(kept) == 8, "a fifth is replaced at once"
        assert len(rig.made()) > 15, "what stands in for one is replaced until it serves"
        rig.world.never_healthy = lambda machine: False
        for each in kept:
            rig.world.make_healthy(each)
        await rig.wait(rig.ready, 1000)
        assert kept < ids(rig.live())

    play(tmp_path, main)
