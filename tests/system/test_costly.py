"""Templates that cost too much to render: they are tried again, seldom, and are in nobody else's way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from controller.context import costs
from tests.simulated.renderer import BoundedRenderer
from tests.system.documents import alone, infrastructure, secret, service, template
from tests.system.rig import Rig, play, steady

COSTLY = "#cloud-config\n# costly\n"


async def _begin(rig: Rig) -> BoundedRenderer:
    """With the turns of the real renderer, and as many workers as the operator has; one machine of somebody else's runs."""
    await rig.crash()
    rig.renderer = renderer = BoundedRenderer()
    rig.options = replace(rig.options, workers=32)
    rig.start()
    await rig.up(*alone(1))
    return renderer


async def _replaced(rig: Rig) -> float:
    """How long it takes until the machine of somebody else, which is killed, has a successor."""
    (machine,) = rig.live("app")
    made, killed = len(rig.made()), rig.clock()
    rig.world.kill(machine.id)
    await rig.wait(lambda: len(rig.made()) > made, 3600)
    return rig.clock() - killed


def test_a_template_that_took_too_much_on_a_busy_machine_is_tried_again(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        renderer = await _begin(rig)
        await rig.make(template("costly", COSTLY), infrastructure(service("costly"), name="costly"))
        await rig.until("InstanceGroup", "costly-costly", "TemplateInvalid")
        renderer.mended = True
        await rig.unchanged(costs.COSTLY_FIRST_SECONDS - 60)
        await rig.wait(lambda: len(rig.made()) == 2, 180)
        assert renderer.costly == 1

    play(tmp_path, main)


def test_of_many_groups_with_one_template_that_costs_too_much_one_tries_it_seldom(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        renderer = await _begin(rig)
        services = [service(f"s{number}", templateRef={"name": "costly"}) for number in range(90)]
        await rig.make(template("costly", COSTLY), infrastructure(*services, name="costly"))
        assert await _replaced(rig) < 60
        await rig.let_pass(7200)
        assert 4 <= renderer.costly <= 5  # at once, and after 5, 15, 35 and 75 minutes
        assert await _replaced(rig) < 60
        renderer.mended = True
        await rig.patch("InstanceTemplate", "costly", template("costly", COSTLY + "# another\n"))
        await rig.wait(lambda: len(rig.world.live()) == 91, 300)

    play(tmp_path, main, steady())


def test_many_templates_that_cost_too_much_are_in_nobodys_way(tmp_path: Path) -> None:
    """Each is tried by itself: that takes the renderer for minutes."""

    async def main(rig: Rig) -> None:
        renderer = await _begin(rig)
        await rig.make(template("costly", COSTLY + "# {{ variables.word }}\n"))
        for number in range(200):
            word = [{"name": "word", "value": f"word {number}"}]
            await rig.make(infrastructure(service("s", templateRef={"name": "costly"}, variables=word), name=f"costly{number}"))
            await rig.let_pass(0.1)
        assert await _replaced(rig) < 60
        assert renderer.costly < 100
        await rig.make(template("new"), infrastructure(service("new"), name="new"))
        await rig.wait(lambda: len(rig.live("new")) == 1, 120)

    play(tmp_path, main, steady())


def test_launches_that_cost_too_much_are_in_nobodys_way(tmp_path: Path) -> None:
    """What a Secret holds is not known before."""

    async def main(rig: Rig) -> None:
        renderer = await _begin(rig)
        word = [{"name": "word", "valueFrom": {"secretKeyRef": {"name": "word", "key": "word"}}}]
        text = "#cloud-config\nruncmd: ['{{ variables.word }}', '{{ instance.index }}']\n"
        many = infrastructure(service("s", templateRef={"name": "costly"}, scaling={"min": 60}), name="costly")
        await rig.make(secret("word", word="costly"), template("costly", text, variables=word), many)
        await rig.until("Instance", "costly-s-0", "TemplateInvalid")
        assert await _replaced(rig) < 60
        await rig.let_pass(3600)
        assert renderer.costly <= 5
        assert rig.live("s") == []
        await rig.patch("Secret", "word", {"stringData": {"word": "harmless"}})
        await rig.wait(lambda: len(rig.live("s")) == 60, 180)

    play(tmp_path, main, steady())
