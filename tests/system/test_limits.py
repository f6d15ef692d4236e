"""The cap on an account and the pause: neither is passed, both are said, and work goes on where they end."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.engine import prober
from controller.ports import CONTROLLER_TAG, Identity
from tests.simulated.harness import CONTROLLER
from tests.system.documents import Document, alone, chain, cloud, infrastructure, many, secret, service, template
from tests.system.rig import Rig, ids, play, steady


def _most_live(rig: Rig) -> int:
    """The most machines that ever lived at one instant."""
    changes = sorted(change for each in rig.made() for change in ((each.created, 1), (each.ended, -1)))
    live = most = 0
    for _, change in changes:
        live += change
        most = max(most, live)
    return most


def test_a_typo_of_three_hundred_machines_stops_at_a_hundred(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(cloud(), template("app"), infrastructure(service("app", replicas=300)))
        await rig.wait(lambda: len(rig.world.live()) == 100)
        waiting = [each for each in rig.instances() if "launch" not in each["status"]]
        await rig.wait(lambda: rig.why("Instance", waiting[0]["metadata"]["name"]) == "LimitReached")
        assert "100" in rig.said("Instance", waiting[0]["metadata"]["name"])[2]
        await rig.wait(lambda: "LimitReached" in rig.said("Infrastructure", "shop")[2], 120)
        assert len(rig.world.live()) == 100
        # The typo is mended: those that were never launched go first, and nothing that runs is ended.
        running = ids(rig.world.live())
        await rig.patch("Infrastructure", "shop", {"spec": {"services": [service("app", replicas=100)]}})
        await rig.wait(lambda: len(rig.instances()) == 100 and rig.ready())
        assert ids(rig.world.live()) == running

    rig = play(tmp_path, main)
    assert _most_live(rig) == 100
    assert len(rig.made()) == 100


def test_a_raised_limit_goes_on_and_a_failed_machine_is_replaced_within_it(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(cloud(maxInstances=3), template("app"), infrastructure(service("app", replicas=5)))
        await rig.wait(lambda: len([each for each in rig.live() if each.is_healthy(rig.clock())]) == 3)
        await rig.let_pass(60)
        rig.world.kill(rig.live()[0].id)
        await rig.wait(lambda: len(rig.made()) == 4, 60)
        await rig.let_pass(60)
        assert len(rig.live()) == 3
        await rig.patch("Cloud", "sim", {"spec": {"maxInstances": 5}})
        await rig.wait(lambda: len(rig.live()) == 5 and rig.ready(), 120)

    assert _most_live(play(tmp_path, main)) == 5


def test_room_that_another_service_leaves_is_taken_at_once(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(cloud(maxInstances=2), template("app"), infrastructure(service("app", scaling={"min": 0})))
        await rig.wait(rig.ready)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 2}})
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 2)
        await rig.make(template("web"), infrastructure(service("web"), name="other"))
        await rig.until("Instance", "other-web-0", "LimitReached", seconds=30)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 1}})
        await rig.wait(lambda: len(rig.live("web")) == 1, 30)
        assert len(rig.world.live()) == 2

    assert _most_live(play(tmp_path, main)) == 2


async def _two_infrastructures(rig: Rig, most: int, web: Document, number: int) -> None:
    """`app` of shop, which has no machines, and `web` of other."""
    await rig.make(cloud(maxInstances=most), template("app"), web, infrastructure(service("app", scaling={"min": 0})))
    await rig.wait(rig.ready)
    await rig.make(infrastructure(service("web", scaling={"min": number}), name="other"))


def test_room_for_a_part_of_a_batch_that_waits_is_taken_at_once(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        reads = [{"name": "pw", "valueFrom": {"secretKeyRef": {"name": "db", "key": "pw"}}}]
        await _two_infrastructures(rig, 30, template("web", "#cloud-config\na: {{ variables.pw }}\n", variables=reads), 10)
        await rig.until("Instance", "other-web-9", "SecretNotFound", seconds=60)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 30}})
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 30)
        await rig.make(secret("db", pw="abc"))
        await rig.until("Instance", "other-web-9", "LimitReached", seconds=60)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 25}})
        await rig.wait(lambda: len(rig.live("web")) == 5, 30)

    assert _most_live(play(tmp_path, main, steady(most_per_call=100))) == 30


def test_a_replacement_that_waits_for_room_is_made_as_soon_as_there_is_some(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await _two_infrastructures(rig, 6, template("web"), 2)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 4}})
        await rig.wait(lambda: rig.ready() and rig.ready("other") and len(rig.world.live()) == 6)
        await rig.patch("Cloud", "sim", {"spec": {"maxInstances": 5}})
        rig.world.stop(rig.live("web")[0].id)
        await rig.until("InstanceGroup", "other-web", "LimitReached", "Progressing", 60)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 2}})
        await rig.wait(lambda: len(rig.made("web")) == 3, 40)

    play(tmp_path, main)


def test_room_of_a_machine_that_no_instance_had_is_taken_at_once(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        stray = rig.world.insert(("a1", "r1"), Identity("stray", 0), {CONTROLLER_TAG: CONTROLLER})
        await rig.make(cloud(maxInstances=3), template("app"), infrastructure(service("app", replicas=3)))
        await rig.wait(lambda: rig.why("Instance", "shop-app-2") == "LimitReached", 60)
        await rig.let_pass(20)
        rig.world.kill(stray)
        await rig.wait(rig.ready, 60)

    play(tmp_path, main, steady(5))


def test_who_waited_for_room_and_has_gone_keeps_nobody_from_it(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(cloud(maxInstances=1), template("app"), infrastructure(service("app", scaling={"min": 0})))
        await rig.wait(rig.ready)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 15}})
        await rig.wait(lambda: rig.picture().count("Launched=False LimitReached") == 14)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 1}})
        await rig.wait(lambda: len(rig.instances()) == 1)
        await rig.make(template("web"), infrastructure(service("web"), name="other"))
        await rig.until("Instance", "other-web-0", "LimitReached", seconds=30)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 0}})
        await rig.wait(lambda: len(rig.live("web")) == 1, 30)

    play(tmp_path, main)


def test_the_limit_counts_both_clouds_of_one_account(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(
            cloud("one", maxInstances=4),
            cloud("two", maxInstances=4),
            template("app", on="one"),
            template("web", on="two"),
            infrastructure(service("app", replicas=3), service("web", replicas=3)),
        )
        await rig.wait(lambda: len(rig.world.live()) == 4)
        await rig.let_pass(300)
        assert len(rig.world.live()) == 4

    assert _most_live(play(tmp_path, main)) == 4


def test_a_machine_of_lag_counts_before_any_list_shows_it(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(cloud(maxInstances=3), template("app"), infrastructure(service("app", replicas=6)))
        await rig.wait(lambda: len(rig.world.live()) == 3)
        await rig.let_pass(200)

    assert _most_live(play(tmp_path, main, steady(lag_seconds=60))) == 3


def test_a_restart_at_the_limit_does_not_pass_it(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(cloud(maxInstances=3), template("app"), infrastructure(service("app", replicas=6)))
        await rig.wait(lambda: len(rig.world.live()) == 3)
        await rig.restart()
        await rig.let_pass(200)

    assert _most_live(play(tmp_path, main, steady(lag_seconds=60))) == 3


def test_paused_changes_nothing_and_unpaused_goes_on(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(3))
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": True}})
        await rig.until("InstanceGroup", "shop-app", "Paused", seconds=10)
        rig.world.kill(rig.live()[0].id)
        rig.world.make_unhealthy(rig.live()[0].id)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 5}})
        await rig.unchanged(600)
        assert rig.why("Infrastructure", "shop") == "Paused"
        # What is seen is still said.
        assert {rig.why("Instance", f"shop-app-{index}") for index in range(3)} == {"Ready", "ProbeFailed", "MachineEnded"}
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": False}})
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 5, 200)

    play(tmp_path, main)


def test_paused_holds_for_a_description_that_is_wrong_too(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        await rig.make(infrastructure(service("app", scaling={"min": 2}), service("web")))
        await rig.until("Infrastructure", "shop", "TemplateNotFound", "Stalled", seconds=30)
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": True}})
        await rig.until("InstanceGroup", "shop-app", "Paused", seconds=10)
        rig.world.stop(rig.live()[0].id)
        await rig.unchanged(200)
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": False}})
        await rig.wait(lambda: len(rig.made()) == 3, 60)
        assert rig.why("Infrastructure", "shop") == "TemplateNotFound"
        await rig.wait(lambda: rig.why("InstanceGroup", "shop-app") == "Ready", 120)

    play(tmp_path, main, steady())


def test_beside_more_machines_than_are_allowed_none_that_may_run_is_taken_away(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*many(10))
        await rig.patch("Cloud", "sim", {"spec": {"maxInstances": 3}})
        await rig.let_pass(60)
        for each in rig.live()[:5]:
            rig.world.make_unhealthy(each.id)
        await rig.until("InstanceGroup", "shop-app", "LimitReached", seconds=120)
        assert "maxInstances" in rig.said("InstanceGroup", "shop-app")[2]
        await rig.unchanged(1800)
        await rig.patch("Cloud", "sim", {"spec": {"maxInstances": 20}})
        await rig.wait(lambda: rig.ready() and len(rig.made()) == 15, 1800)

    play(tmp_path, main, steady())


def test_paused_while_it_comes_up_launches_no_more(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(*chain())
        await rig.wait(lambda: bool(rig.live("db")))
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": True}})
        await rig.let_pass(300)
        assert rig.made("app") == []
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": False}})
        await rig.wait(rig.ready, 200)

    play(tmp_path, main)


def test_paused_from_the_first_makes_no_group(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(*chain(paused=True))
        await rig.let_pass(120)
        assert rig.engine.objects.list("InstanceGroup") == []
        assert rig.why("Infrastructure", "shop") == "Paused"
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": False}})
        await rig.wait(rig.ready)

    play(tmp_path, main)


def test_paused_still_deletes(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": True}})
        await rig.until("InstanceGroup", "shop-app", "Paused", seconds=10)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 200)
        assert rig.world.live() == []

    play(tmp_path, main)


def test_a_removed_service_stays_while_paused(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": True, "services": [service("db")]}})
        await rig.unchanged(300)
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": False}})
        await rig.wait(lambda: rig.ready() and len(rig.world.live()) == 1, 200)

    play(tmp_path, main)


@pytest.mark.long
def test_a_thousand_machines_that_never_get_healthy_are_replaced_by_a_fifth_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scaled to the `max` of 1,000 by hand. A round is the 600 s that a machine has to start; then 200 go at once."""
    monkeypatch.setattr(prober, "STARTUP_PERIOD_SECONDS", 60.0)

    async def main(rig: Rig) -> None:
        rig.world.never_healthy = lambda machine: True
        await rig.make(cloud(maxInstances=5000), template("app"), infrastructure(service("app", scaling={"min": 1, "max": 1000})))
        await rig.wait(lambda: rig.find("InstanceGroup", "shop-app") is not None)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 1000}})
        await rig.let_pass(1900)
        assert "StartupTimeout" in rig.said("InstanceGroup", "shop-app")[2]

    rig = play(tmp_path, main, steady(shown_seconds=60.0, most_per_call=100))
    assert 1000 + 200 < len(rig.made()) <= 1000 + 3 * 200
    assert _most_live(rig) <= 1200
