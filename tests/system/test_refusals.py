"""What a cloud refuses: each refusal is named to the user, costs no machine, and is got over when the cloud thinks better of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller import errors
from tests.simulated.world import Call
from tests.system.documents import Document, alone, cloud, config, implementation, infrastructure, service, template
from tests.system.rig import Rig, play, steady

INF = float("inf")
#: For how long an implementation is passed over after a lack of capacity.
AVOIDED = 180


def _two_sizes(number: int = 1) -> list[Document]:
    sizes = [implementation("small", size="small"), implementation("large", size="large")]
    return [cloud(), template("app", implementations=sizes), infrastructure(service("app", scaling={"min": number}))]


def _creates(rig: Rig) -> list[Call]:
    return [each for each in rig.world.ledger if each.action == "create"]


def _sizes(rig: Rig) -> list[str]:
    return sorted(each.spec["size"] for each in rig.live())


def test_without_capacity_the_next_implementation_is_taken_and_remembered(tmp_path: Path) -> None:
    settings = steady(capacity={"small": 0})

    async def main(rig: Rig) -> None:
        await rig.up(*_two_sizes())
        assert _sizes(rig) == ["large"]
        await rig.hear("NoCapacity", "shop-app-0")
        refused_at = _creates(rig)[0].time
        settings.capacity.clear()
        # Within three minutes the small one is not tried again, though there is room now.
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 2}})
        await rig.wait(lambda: len(rig.live()) == 2 and rig.ready())
        assert rig.clock() < refused_at + AVOIDED
        assert _sizes(rig) == ["large", "large"]
        await rig.let_pass(AVOIDED)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 3}})
        await rig.wait(lambda: len(rig.live()) == 3 and rig.ready())
        assert _sizes(rig) == ["large", "large", "small"]

    rig = play(tmp_path, main, settings)
    assert [each.outcome for each in _creates(rig)] == ["NoCapacity", "ok", "ok", "ok"]


def test_part_of_a_group_fits_and_the_rest_goes_elsewhere(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*_two_sizes(5))
        assert _sizes(rig) == ["large", "large", "large", "small", "small"]
        await rig.unchanged(60)

    play(tmp_path, main, steady(capacity={"small": 2}))


@pytest.mark.parametrize(
    "why",
    [pytest.param("NoCapacity", id="no capacity"), pytest.param("QuotaExceeded", id="quota")],
)
def test_where_nothing_is_to_be_had_it_is_tried_with_back_off(tmp_path: Path, why: str) -> None:
    chosen = steady(capacity={"small": 0}) if why == "NoCapacity" else steady(quota=0)

    async def main(rig: Rig) -> None:
        await rig.make(*alone(1))
        await rig.until("InstanceGroup", "shop-app", "BackOff")
        assert why in rig.said("InstanceGroup", "shop-app")[2]
        await rig.let_pass(3600 - rig.clock())
        # 0, 10, 20, 40, 80, 160 s, then 300 s each, ± 10 %: at most 1 + 6 + 13 in the hour.
        assert 12 <= len(_creates(rig)) <= 20
        assert len({each.token for each in _creates(rig)}) == len(_creates(rig))
        chosen.capacity.clear()
        chosen.quota = None
        await rig.wait(rig.ready, 330 + 60)

    assert len(play(tmp_path, main, chosen).made()) == 1


def test_denied_at_the_launch_repeats_the_same_call_and_makes_no_other(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        fault = rig.world.fail("create", errors.Denied("not allowed to RunInstances"), times=INF)
        await rig.make(*alone(1))
        await rig.until("Instance", "shop-app-0", "Denied")
        assert "RunInstances" in rig.said("Instance", "shop-app-0")[2]
        await rig.let_pass(600)
        assert await rig.told("Denied", "shop-app-0") == 1
        rig.world.clear(fault)
        await rig.wait(rig.ready, 60)

    rig = play(tmp_path, main)
    assert len({each.token for each in _creates(rig)}) == 1
    assert len(rig.made()) == 1


def test_throttling_is_said_and_waited_for(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        fault = rig.world.fail("create", errors.Throttled("slow down", 20), times=INF)
        await rig.make(*alone(2))
        await rig.until("Instance", "shop-app-0", "Throttled")
        rig.world.clear(fault)
        await rig.wait(rig.ready, 90)

    rig = play(tmp_path, main)
    assert len({each.token for each in _creates(rig)}) == 2
    assert len(rig.made()) == 2


def test_invalid_at_the_launch_burns_it_and_says_which_field(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        fault = rig.world.fail("create", errors.Invalid("size", "is not sold in this region"), times=INF)
        await rig.make(*alone(1))
        assert "size: is not sold in this region" in await rig.hear("CloudInvalid", "shop-app-0")
        await rig.until("InstanceGroup", "shop-app", "BackOff")
        assert "is not sold in this region" in rig.said("InstanceGroup", "shop-app")[2]
        rig.world.clear(fault)
        await rig.wait(rig.ready, 300)

    rig = play(tmp_path, main)
    assert len(rig.made()) == 1
    assert len({each.token for each in _creates(rig)}) == len(_creates(rig)) >= 2


def test_a_name_that_matches_nothing_is_said_before_anything_is_made(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        wrong = template("app", implementations=[implementation(image="debain")])
        await rig.make(cloud(), wrong, infrastructure(service("app")))
        await rig.until("InstanceGroup", "shop-app", "CloudInvalid")
        message = rig.said("InstanceGroup", "shop-app")[2]
        assert "debain" in message
        assert "debian" in message, "what was found is named"
        await rig.unchanged(600)
        assert rig.instances() == []
        assert await rig.told("CloudInvalid", "shop-app") == 1
        await rig.make(template("app"))
        await rig.wait(rig.ready, 120)

    play(tmp_path, main)


def test_resolving_that_fails_waits_for_the_cloud(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        fault = rig.world.fail("resolve", errors.Transient("no answer"), times=INF)
        await rig.make(*alone(1))
        await rig.until("InstanceGroup", "shop-app", "WaitingForCloud")
        await rig.wait(lambda: "no answer" in rig.said("InstanceGroup", "shop-app")[2])
        await rig.unchanged(120)
        rig.world.clear(fault)
        await rig.wait(rig.ready, 120)

    assert len(play(tmp_path, main).made()) == 1


@pytest.mark.parametrize(
    ("text", "why", "words"),
    [
        pytest.param("#cloud-config\nruncmd: [{{ 1 / 0 }}]\n", "TemplateInvalid", "division", id="error"),
        pytest.param("#cloud-config\na: [1\nb: 2\n", "TemplateInvalid", "line", id="yaml"),
        pytest.param("#cloud-config\n# {{ instance.index.nothing }}\n", "TemplateInvalid", "nothing", id="undefined"),
    ],
)
def test_a_template_that_cannot_be_rendered_makes_nothing(tmp_path: Path, text: str, why: str, words: str) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(cloud(), template("app", text), infrastructure(service("app")))
        await rig.until("InstanceGroup", "shop-app", why)
        assert words in rig.said("InstanceGroup", "shop-app")[2]
        await rig.let_pass(300)
        assert rig.instances() == []
        await rig.make(template("app"))
        await rig.wait(rig.ready, 120)

    assert len(play(tmp_path, main).made()) == 1


def test_a_renderer_that_fails_is_asked_again_and_no_template_is_blamed(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        rig.renderer.fails = errors.RendererFailed("the renderer cannot be started: Cannot allocate memory")
        await rig.make(*alone(1))
        await rig.until("InstanceGroup", "shop-app", "RendererFailed")
        assert "Cannot allocate memory" in rig.said("InstanceGroup", "shop-app")[2]
        await rig.unchanged(900)
        rig.renderer.fails = None
        await rig.wait(lambda: len(rig.instances()) == 1, 15)
        await rig.wait(rig.ready, 120)
        assert await rig.events("TemplateInvalid") == []

    assert len(play(tmp_path, main).made()) == 1


def test_user_data_over_the_clouds_limit_is_said_with_both_sizes(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        noise = "".join(f"{number * 7919 % 104729:x}" for number in range(1500))
        await rig.make(cloud(), template("app", f"#cloud-config\n# {noise}\n"), infrastructure(service("app")))
        await rig.until("InstanceGroup", "shop-app", "UserDataTooLarge")
        message = rig.said("InstanceGroup", "shop-app")[2]
        assert "512" in message
        assert "compressed" in message
        await rig.let_pass(120)
        assert rig.calls("create", "prepare") == 0

    play(tmp_path, main, steady(user_data_limit_bytes=512))


def test_a_template_in_a_config_map_may_come_late_and_change(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        context = {"cloudInit": {"configMapRef": {"name": "texts", "key": "app"}}}
        await rig.make(cloud(), template("app", context=context), infrastructure(service("app")))
        await rig.until("Infrastructure", "shop", "ConfigMapNotFound")
        assert "texts" in rig.said("Infrastructure", "shop")[2]
        assert rig.said("Infrastructure", "shop", "Stalled")[0] == "True"
        await rig.unchanged(120)
        await rig.make(config("texts", app="#cloud-config\nruncmd: [first]\n"))
        await rig.wait(rig.ready, 120)
        await rig.patch("ConfigMap", "texts", {"data": {"app": "#cloud-config\nruncmd: [second]\n"}})
        await rig.until("InstanceGroup", "shop-app", "RevisionChanged", "Progressing", seconds=30)
        assert "1 of 1" in rig.said("InstanceGroup", "shop-app", "Progressing")[2]
        await rig.unchanged(60)
        rig.world.kill(rig.live()[0].id)
        await rig.wait(lambda: len(rig.made()) == 2 and rig.ready())
        assert b"second" in rig.live()[0].user_data
        assert rig.why("InstanceGroup", "shop-app", "Progressing") == "Converged"
        # Taken away again: what runs stays, and it is said.
        await rig.delete("ConfigMap", "texts")
        await rig.until("Infrastructure", "shop", "ConfigMapNotFound", seconds=30)
        await rig.unchanged(300)

    play(tmp_path, main)
