"""How many: whose the number is, its bounds, who goes first, and the annotation that lowers it by one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from controller import errors
from controller.api.group import InstanceGroup
from controller.engine.engine import Engine
from controller.ports import Key, Obj
from controller.reconcilers.instancegroup import gather as gathering
from controller.reconcilers.instancegroup import reconcile
from controller.reconcilers.instancegroup.makings import Makings
from controller.reconcilers.instancegroup.observed import Observed, failed
from tests.bench.counting import CountingStore
from tests.system.documents import PLAIN, alone, cloud, config, infrastructure, service, template
from tests.system.rig import Rig, ids, play, steady

SCALE_IN = {"metadata": {"annotations": {"occopus.io/scale-in": "true"}}}


def test_an_unset_number_is_the_groups_own(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(cloud(), template("app"), infrastructure(service("app")))
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 4}})
        await rig.wait(lambda: len(rig.live()) == 4 and rig.ready())
        # Passes of the Infrastructure, a change of it and a restart leave the number alone.
        await rig.patch("Infrastructure", "shop", {"spec": {"variables": [{"name": "colour", "value": "red"}]}})
        await rig.let_pass(400)
        await rig.restart()
        await rig.unchanged(60)
        assert rig.obj("InstanceGroup", "shop-app")["spec"]["replicas"] == 4
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 0}})
        await rig.wait(lambda: rig.live() == [] and rig.ready(), 60)
        assert rig.said("InstanceGroup", "shop-app", "Available")[:2] == ("True", "NothingWanted")

    assert len(play(tmp_path, main).made()) == 4


def test_a_fixed_number_cannot_be_scaled_and_follows_the_infrastructure(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(cloud(), template("app"), infrastructure(service("app", replicas=2)))
        with pytest.raises(errors.Rejected):
            await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 5}})
        await rig.make(infrastructure(service("app", replicas=3)))
        await rig.wait(lambda: len(rig.live()) == 3 and rig.ready())
        # Freed, the number stays what it is and may be changed.
        await rig.patch("Infrastructure", "shop", {"spec": {"services": [service("app")]}})
        await rig.wait(lambda: "fixedReplicas" not in rig.obj("InstanceGroup", "shop-app")["spec"], 30)
        await rig.unchanged(60)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 1}})
        await rig.wait(lambda: len(rig.live()) == 1 and rig.ready())

    play(tmp_path, main)


@pytest.mark.parametrize(
    ("asked", "given"), [pytest.param(9, 4, id="above"), pytest.param(0, 2, id="below"), pytest.param(3, 3, id="within")]
)
def test_the_number_is_clamped_to_its_bounds_and_that_is_said(tmp_path: Path, asked: int, given: int) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(cloud(), template("app"), infrastructure(service("app", scaling={"min": 2, "max": 4})))
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": asked}})
        await rig.wait(lambda: len(rig.live()) == given and rig.ready(), 200)
        await rig.let_pass(60)
        status, reason, message = rig.said("InstanceGroup", "shop-app", "Scaled")
        assert (status, reason) == (("True", "WithinBounds") if asked == given else ("False", "Clamped"))
        assert str(given) in message
        assert rig.obj("InstanceGroup", "shop-app")["spec"]["replicas"] == asked, "the number is not ours to change"
        assert len(rig.live()) == given

    play(tmp_path, main)


def test_an_upper_bound_that_is_taken_from_the_description_holds_no_more(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(cloud(), template("app"), infrastructure(service("app", scaling={"min": 1, "max": 2})))
        await rig.make(infrastructure(service("app", scaling={"min": 1})))
        await rig.wait(lambda: rig.obj("InstanceGroup", "shop-app")["spec"]["scaling"] == {"min": 1}, 10)
        await rig.wait(rig.ready, 10)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 3}})
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 3, 200)

    play(tmp_path, main)


def test_from_nothing_at_all(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(cloud(), template("app"), infrastructure(service("app", scaling={"min": 0, "max": 3})))
        assert rig.made() == []
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 2}})
        # Available says that enough serve, Ready that all do.
        await rig.wait(lambda: len(rig.live()) == 2)
        assert rig.said("InstanceGroup", "shop-app", "Available")[0] == "True"
        assert rig.said("InstanceGroup", "shop-app")[0] == "False"
        await rig.wait(rig.ready)

    play(tmp_path, main)


def test_the_unhealthy_goes_first_then_the_youngest(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(3))
        await rig.let_pass(10)
        await rig.make(infrastructure(service("app", scaling={"min": 2})))
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 5}})
        await rig.wait(lambda: len(rig.live()) == 5 and rig.ready())
        strange = rig.machine("shop-app-1")
        strange.strange_state = "rebalancing"
        await rig.until("Instance", "shop-app-1", "MachineUnknown", seconds=30)
        youngest = rig.machine("shop-app-4").id
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 3}})
        await rig.wait(lambda: any(each["metadata"].get("deletionTimestamp") for each in rig.instances()), 10)
        strange.strange_state = ""
        await rig.wait(lambda: {strange.id, youngest} & ids(rig.live()) == set(), 30)
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 3)

    assert len(play(tmp_path, main).made()) == 5


def test_scale_in_of_a_named_instance_lowers_the_number_exactly_once(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 4}})
        await rig.wait(lambda: len(rig.live()) == 4 and rig.ready())
        chosen = [rig.machine("shop-app-1").id, rig.machine("shop-app-2").id]
        await rig.patch("Instance", "shop-app-1", SCALE_IN)
        await rig.unchanged(30)
        await rig.patch("Instance", "shop-app-2", SCALE_IN)
        await rig.delete("Instance", "shop-app-1", "shop-app-2")
        await rig.wait(lambda: len(rig.live()) == 2 and rig.ready(), 120)
        assert not set(chosen) & ids(rig.live())
        assert rig.obj("InstanceGroup", "shop-app")["spec"]["replicas"] == 2
        await rig.unchanged(60)
        assert "occopus.io/scaled-in" not in rig.obj("InstanceGroup", "shop-app")["metadata"].get("annotations", {})
        assert await rig.told("ScaledIn", "shop-app") == 2

    assert len(play(tmp_path, main).made()) == 4


@pytest.mark.parametrize("fixed", [pytest.param(False, id="the group's own"), pytest.param(True, id="fixed")])
def test_one_that_is_marked_for_scale_in_and_goes_as_the_number_is_lowered_lowers_it_no_more(tmp_path: Path, fixed: bool) -> None:
    """Marked, and then the number is lowered instead of deleting it; or who marks it was interrupted before."""

    async def main(rig: Rig) -> None:
        await rig.up(cloud(), template("app"), infrastructure(service("app", **({"replicas": 2} if fixed else {"scaling": {"min": 2}}))))
        await rig.make(infrastructure(service("app", **({"replicas": 4} if fixed else {"scaling": {"min": 0}}))))
        if not fixed:
            await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 4}})
        await rig.wait(lambda: len(rig.live()) == 4 and rig.ready())
        await rig.patch("Instance", "shop-app-3", SCALE_IN)
        await rig.unchanged(10)
        if fixed:
            await rig.make(infrastructure(service("app", replicas=3)))
        else:
            await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 3}})
        await rig.wait(lambda: rig.find("Instance", "shop-app-3") is None and rig.ready(), 120)
        await rig.unchanged(60)
        assert len(rig.live()) == rig.obj("InstanceGroup", "shop-app")["spec"]["replicas"] == 3
        assert await rig.told("ScaledIn") == await rig.told("ScaleInRefused") == 0
        assert "occopus.io/scaled-in" not in rig.obj("InstanceGroup", "shop-app")["metadata"].get("annotations", {})

    assert len(play(tmp_path, main).made()) == 4


def test_scale_in_is_refused_where_the_number_is_fixed(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(cloud(), template("app"), infrastructure(service("app", replicas=2)))
        await rig.patch("Instance", "shop-app-0", SCALE_IN)
        await rig.delete("Instance", "shop-app-0")
        await rig.hear("ScaleInRefused", "shop-app", 30)
        # It goes all the same, as any that its user deletes, and is replaced.
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 2 and rig.find("Instance", "shop-app-0") is None, 120)
        assert await rig.told("ScaleInRefused", "shop-app") == 1
        assert rig.obj("InstanceGroup", "shop-app")["spec"]["replicas"] == 2

    assert len(play(tmp_path, main).made()) == 3


def test_scale_in_does_not_go_below_the_least(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(cloud(), template("app"), infrastructure(service("app", scaling={"min": 2, "max": 4})))
        await rig.patch("Instance", "shop-app-0", SCALE_IN)
        await rig.delete("Instance", "shop-app-0")
        await rig.wait(lambda: rig.ready() and len(rig.made()) == 3 and len(rig.live()) == 2, 120)
        assert rig.obj("InstanceGroup", "shop-app")["spec"]["replicas"] == 2

    play(tmp_path, main)


def test_numbers_changed_in_quick_succession_end_at_the_last(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        for number in (5, 2, 7, 1, 3):
            await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": number}})
            await rig.let_pass(2)
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 3, 200)
        await rig.unchanged(60)

    play(tmp_path, main)


class Meddling(CountingStore):
    """A store in which somebody scales the group while the Infrastructure's pass reads its template."""

    scaled = False
    armed = False

    async def get(self, key: Key) -> Obj:
        if key.kind == "ConfigMap" and self.armed and not self.scaled:
            Meddling.scaled = True
            group = Key("InstanceGroup", "default", "shop-app")
            version = (await super().get(group))["metadata"]["resourceVersion"]
            await self.patch(group, {"spec": {"replicas": 4}}, version=version)
            await asyncio.sleep(0.1)  # the watch tells it
        return await super().get(key)


def test_a_number_set_while_the_infrastructure_is_looked_at_stays(tmp_path: Path) -> None:
    text: dict[str, Any] = {"context": {"cloudInit": {"configMapRef": {"name": "texts", "key": "app"}}}}

    async def main(rig: Rig) -> None:
        Meddling.scaled = Meddling.armed = False
        rig.wrap_store = Meddling
        await rig.restart()
        await rig.up(config("texts", app=PLAIN), cloud(), template("app", **text), infrastructure(service("app")))
        Meddling.armed = True
        await rig.patch("Infrastructure", "shop", {"spec": {"variables": [{"name": "colour", "value": "red"}]}})
        await rig.wait(lambda: Meddling.scaled, 30)
        await rig.wait(lambda: len(rig.live()) == 4 and rig.ready(), 200)
        assert rig.obj("InstanceGroup", "shop-app")["spec"]["replicas"] == 4

    play(tmp_path, main)


class TakenBack(CountingStore):
    """A store in which somebody takes a number back when three Instances were deleted by it."""

    armed = False
    taken_back = False

    async def delete(self, key: Key, *, uid: str, version: str | None = None) -> Obj | None:
        answer = await super().delete(key, uid=uid, version=version)
        if self.armed and self.writes["Instance delete"] == 3:
            TakenBack.armed, TakenBack.taken_back = False, True
            group = Key("InstanceGroup", "default", "shop-app")
            await self.patch(group, {"spec": {"replicas": 12}}, version=(await self.get(group))["metadata"]["resourceVersion"])
            await asyncio.sleep(0.1)  # the watch tells it
        return answer


def test_a_number_that_is_taken_back_ends_no_more_machines(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        TakenBack.armed = TakenBack.taken_back = False
        rig.wrap_store = TakenBack
        await rig.restart()
        await rig.up(*alone(1))
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 12}})
        await rig.wait(lambda: len(rig.live()) == 12 and rig.ready())
        before = ids(rig.live())
        TakenBack.armed = True
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 2}})
        await rig.wait(lambda: TakenBack.taken_back, 30)
        await rig.wait(lambda: len(rig.live()) == 12 and rig.ready(), 200)
        assert len(before - ids(rig.live())) == 3

    play(tmp_path, main)


def test_a_replacement_that_was_overtaken_by_a_change_of_the_number_costs_no_back_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overtaken: list[float] = []

    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        rig.world.kill(rig.live()[0].id)

        async def gather(engine: Engine, group: InstanceGroup) -> tuple[Observed, Makings | None]:
            observed, made = await gathering.gather(engine, group)
            if not overtaken and any(failed(each) is not None for each in observed.instances):
                overtaken.append(rig.clock())
                await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 3}})
                await engine.objects.refresh(Key("InstanceGroup", "default", "shop-app"))
            return observed, made

        monkeypatch.setattr(reconcile, "gather", gather)
        await rig.wait(lambda: len(rig.made()) == 4, 120)
        # A second replacement in a row would wait for ten seconds.
        assert rig.clock() - overtaken[0] < 5

    play(tmp_path, main, steady())
