"""Going away: in the middle of everything, by hand, all at once. Against the edges, and nothing is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from controller import errors
from controller.engine import engine
from tests.system.documents import alone, chain, cloud, infrastructure, service, template
from tests.system.rig import MUTATING, Rig, ids, play, steady

INF = float("inf")


def _in_order(rig: Rig) -> None:
    """By the ledger: the last machine of what depends has ended before the first of what it depends on begins to end."""
    for dependent, needs in (("web", "app"), ("app", "db")):
        if rig.made(dependent) and rig.made(needs):
            assert rig.spans(dependent)[1] <= rig.spans(needs)[0], f"{dependent} ended after {needs} was touched"


PHASES: dict[str, Callable[[Rig], bool]] = {
    "groups made": lambda rig: rig.find("InstanceGroup", "shop-db") is not None,
    "instance made": lambda rig: bool(rig.instances("db")),
    "machine made": lambda rig: bool(rig.live("db")),
    "machine starts": lambda rig: rig.why("Instance", "shop-db-0") == "Starting",
    "dependent boots": lambda rig: bool(rig.live("app")),
    "last boots": lambda rig: bool(rig.live("web")),
    "ready": lambda rig: rig.ready(),
}


@pytest.mark.parametrize("phase", [pytest.param(each, id=name) for name, each in PHASES.items()])
def test_an_infrastructure_deleted_while_it_comes_up_leaves_nothing(tmp_path: Path, phase: Callable[[Rig], bool]) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(*chain())
        await rig.wait(lambda: phase(rig))
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 120)
        assert rig.world.live() == []
        if rig.made():
            _in_order(rig)
        await rig.unchanged(120)

    play(tmp_path, main)


def test_an_infrastructure_deleted_in_the_very_moment_of_its_creation_makes_nothing(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(*chain())
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 60)
        await rig.let_pass(60)
        assert rig.calls("create") == 0

    play(tmp_path, main)


def test_an_instance_deleted_before_its_machine_exists_leaves_no_fence(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        fault = rig.world.fail("prepare", errors.Transient("no answer"), after=True, times=INF)
        await rig.make(*alone(1))
        await rig.wait(lambda: bool(rig.world.fences))
        first = rig.obj("Instance", "shop-app-0")["metadata"]["uid"]
        await rig.delete("Instance", "shop-app-0")
        await rig.wait(lambda: all(each["metadata"]["uid"] != first for each in rig.instances()), 60)
        rig.world.clear(fault)
        await rig.wait(rig.ready, 120)
        assert len(rig.world.fences) <= 1

    assert len(play(tmp_path, main, steady(fences=True)).made()) == 1


def test_an_instance_deleted_while_its_launch_is_in_flight_ends_what_it_made(tmp_path: Path) -> None:
    """The call takes its time: the deletion comes before its answer."""

    async def main(rig: Rig) -> None:
        rig.hold("create", 15)
        await rig.make(*alone(1))
        await rig.wait(lambda: "launch" in (rig.find("Instance", "shop-app-0") or {}).get("status", {}))
        assert rig.made() == []
        await rig.delete("Instance", "shop-app-0")
        await rig.until("Instance", "shop-app-0", "Launching", seconds=5)
        await rig.wait(lambda: len(rig.made()) >= 1, 30)
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 1, 200)
        (ended,) = [each for each in rig.made() if each.ending < INF]
        assert ended.created <= ended.ending

    play(tmp_path, main)


def test_an_instance_deleted_by_hand_is_replaced_and_no_other(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(3))
        gone = rig.machine("shop-app-1").id
        others = ids(rig.live()) - {gone}
        await rig.delete("Instance", "shop-app-1")
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 3 and gone not in ids(rig.live()), 120)
        assert others < ids(rig.live())

    assert len(play(tmp_path, main).made()) == 4


def test_a_group_deleted_by_hand_waits_for_its_dependents_and_is_made_again(tmp_path: Path) -> None:
    """A deletionTimestamp is permission, not order; the Infrastructure still wants both."""

    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        old = rig.obj("InstanceGroup", "shop-app")["metadata"]["uid"]
        await rig.delete("InstanceGroup", "shop-app")
        await rig.wait(lambda: (rig.find("InstanceGroup", "shop-app") or {"metadata": {"uid": old}})["metadata"]["uid"] != old, 120)
        await rig.wait(rig.ready, 120)
        assert len(rig.live()) == 2

    assert len(play(tmp_path, main).made()) == 4


def test_a_deleted_group_that_others_depend_on_says_whom_it_waits_for(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        await rig.delete("InstanceGroup", "shop-db")
        await rig.until("InstanceGroup", "shop-db", "WaitingForDependents", seconds=10)
        assert "app" in rig.said("InstanceGroup", "shop-db")[2]
        await rig.unchanged(120)
        await rig.delete("InstanceGroup", "shop-app", "shop-web")
        await rig.wait(lambda: rig.ready() and len(rig.world.live()) == 4 and len(rig.made()) == 8, 400)
        old = {name: [each for each in rig.made(name) if each.ending < INF] for name in ("web", "app", "db")}
        assert max(each.ended for each in old["web"]) <= min(each.ending for each in old["app"])
        assert max(each.ended for each in old["app"]) <= min(each.ending for each in old["db"])

    play(tmp_path, main)


def test_a_group_deleted_by_hand_waits_for_none_that_waits_for_it(tmp_path: Path) -> None:
    """It does not get well, and who depends on it has no machine yet."""

    async def main(rig: Rig) -> None:
        rig.world.never_healthy = lambda machine: machine.tags["occopus.io/service"] == "db"
        await rig.make(*chain())
        await rig.until("InstanceGroup", "shop-app", "WaitingForDependencies", seconds=30)
        await rig.wait(lambda: bool(rig.live("db")), 30)
        old = rig.obj("InstanceGroup", "shop-db")["metadata"]["uid"]
        rig.world.never_healthy = lambda machine: False
        await rig.delete("Instance", "shop-db-0")
        await rig.delete("InstanceGroup", "shop-db")
        await rig.wait(lambda: (rig.find("InstanceGroup", "shop-db") or {"metadata": {"uid": old}})["metadata"]["uid"] != old, 60)
        await rig.wait(rig.ready, 300)
        assert rig.live("db")[0].healthy <= min(each.created for each in rig.made("app"))

    assert len(play(tmp_path, main).made()) == 5


def test_a_deleted_group_goes_with_the_last_machine_of_one_that_was_there_before_it_depended_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who came to depend on it later, and was never let, keeps it from going by machines alone; nobody has to look by chance."""
    monkeypatch.setattr(engine, "RESYNC_SECONDS", INF)

    async def main(rig: Rig) -> None:
        rig.world.never_healthy = lambda machine: machine.tags["occopus.io/service"] == "db"
        await rig.make(cloud(), template("app"), template("db"), infrastructure(service("app"), service("db")))
        await rig.until("InstanceGroup", "shop-app", "Ready", seconds=120)
        old = rig.obj("InstanceGroup", "shop-db")["metadata"]["uid"]
        await rig.patch("Infrastructure", "shop", {"spec": {"services": [service("app", "db"), service("db")]}})
        await rig.wait(lambda: bool(rig.obj("InstanceGroup", "shop-app")["spec"].get("dependsOn")), 30)
        await rig.delete("Instance", "shop-db-0")
        await rig.delete("InstanceGroup", "shop-db")
        await rig.until("InstanceGroup", "shop-db", "WaitingForDependents", seconds=30)
        none = {"scaling": {"min": 0, "max": 0}}
        await rig.patch("Infrastructure", "shop", {"spec": {"services": [service("app", "db", **none), service("db")]}})
        await rig.wait(lambda: (rig.find("InstanceGroup", "shop-db") or {"metadata": {"uid": old}})["metadata"]["uid"] != old, 120)
        assert rig.instances("app") == []

    play(tmp_path, main)


@pytest.mark.parametrize("restarted", [pytest.param(False, id="one process"), pytest.param(True, id="restarted meanwhile")])
def test_all_objects_marked_at_once_go_in_order(tmp_path: Path, restarted: bool) -> None:
    """Foreground cascades mark the Infrastructure, all groups and all Instances in any order: here the worst one."""

    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        await rig.delete("Instance", "shop-db-0", "shop-app-0", "shop-app-1", "shop-web-0")
        await rig.delete("InstanceGroup", "shop-db", "shop-app", "shop-web")
        await rig.delete("Infrastructure", "shop")
        await rig.until("Instance", "shop-db-0", "WaitingForDependents", seconds=5)
        if restarted:
            await rig.let_pass(3)
            await rig.restart()
        await rig.wait(rig.gone, 200)
        assert rig.world.live() == []
        _in_order(rig)

    assert len(play(tmp_path, main).made()) == 4


def test_a_service_that_is_removed_goes_against_the_edges(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        db = ids(rig.live("db"))
        await rig.patch("Infrastructure", "shop", {"spec": {"services": [service("db")]}})
        await rig.until("Infrastructure", "shop", "Reconciling", seconds=5)
        await rig.wait(lambda: rig.ready() and len(rig.world.live()) == 1, 120)
        assert ids(rig.world.live()) == db
        assert rig.spans("web")[1] <= rig.spans("app")[0]

    play(tmp_path, main)


def test_a_service_that_others_depend_on_is_removed_with_them_in_order(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        web = service("web")
        web["templateRef"] = {"name": "db"}
        await rig.patch("Infrastructure", "shop", {"spec": {"services": [web]}})
        await rig.wait(lambda: rig.ready() and len(rig.world.live()) == 1, 200)
        # Web stays and depends on nothing any more, so app may go, then db.
        assert rig.spans("app")[1] <= rig.spans("db")[0]
        assert len(rig.live("web")) == 1

    play(tmp_path, main)


def test_a_removed_service_that_comes_back_while_it_goes_is_made_again(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        await rig.patch("Infrastructure", "shop", {"spec": {"services": [service("db")]}})
        await rig.wait(lambda: any(each.ending < INF for each in rig.made("web")), 10)
        await rig.make(chain()[-1])
        await rig.wait(lambda: rig.ready() and len(rig.world.live()) == 4, 300)

    play(tmp_path, main)


def test_a_removed_dependency_that_comes_back_while_it_goes_is_made_again(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        both = infrastructure(service("db"), service("web", "db"))
        await rig.up(cloud(), template("db"), template("web"), both)
        (web,) = rig.live("web")
        await rig.make(infrastructure(service("web")))
        await rig.wait(lambda: any(each.ending < INF for each in rig.made("db")), 30)
        await rig.make(both)
        await rig.wait(lambda: rig.ready() and len(rig.live("db")) == 1, 300)
        assert rig.obj("InstanceGroup", "shop-web")["spec"]["dependsOn"] == [{"service": "db", "onChange": "Report"}]
        assert ids(rig.live("web")) == {web.id}

    play(tmp_path, main)


def test_what_depends_on_one_that_comes_back_grows_after_it(tmp_path: Path) -> None:
    """Its template reads the address, which is not there meanwhile, and is not called wrong for that."""

    async def main(rig: Rig) -> None:
        reads = template("web", "#cloud-config\nruncmd: ['{{ services.db.address }}']\n")
        await rig.up(cloud(), template("db"), reads, infrastructure(service("db"), service("web", "db")))
        await rig.make(template("web"), infrastructure(service("web")))
        await rig.wait(lambda: any(each.ending < INF for each in rig.made("db")), 30)
        await rig.make(reads, infrastructure(service("db"), service("web", "db", replicas=3)))
        await rig.wait(lambda: rig.ready() and len(rig.live("web")) == 3, 400)
        healthy = rig.live("db")[0].healthy
        assert all(each.created >= healthy for each in rig.made("web")[1:])
        assert await rig.told("TemplateInvalid") == 0

    play(tmp_path, main)


@pytest.mark.parametrize("change", ["unpaused", "fewer", "none"])
def test_what_depends_on_one_that_comes_back_follows_all_that_makes_nothing(tmp_path: Path, change: str) -> None:
    """What it depends on cannot go, so that it does not come back for hours."""

    async def main(rig: Rig) -> None:
        db, app = service("db"), service("app", scaling={"min": 2, "max": 5})
        others = (cloud(), cloud("other", "a2"), template("db", on="other"), template("app"))
        await rig.up(*others, infrastructure(db, service("app", "db", scaling={"min": 2, "max": 5})))
        fault = rig.world.fail("delete", errors.Transient("no answer"), times=float("inf"))
        await rig.make(infrastructure(app))
        await rig.wait(lambda: "deletionTimestamp" in rig.obj("InstanceGroup", "shop-db")["metadata"])
        if change == "unpaused":
            await rig.make(infrastructure(app, paused=True))
            await rig.until("InstanceGroup", "shop-app", "Paused", seconds=30)
        scaling = {"unpaused": {"min": 2, "max": 5}, "fewer": {"min": 0, "max": 1}, "none": {"min": 3, "max": 5}}[change]
        await rig.make(infrastructure(db, service("app", "db", scaling=scaling), paused=False))
        await rig.let_pass(60)
        group = rig.obj("InstanceGroup", "shop-app")
        assert group["spec"].get("dependsOn", []) == []
        assert not group["spec"].get("paused", False)
        if change == "unpaused":
            rig.world.kill(rig.live("app")[0].id)
            await rig.wait(lambda: len(rig.made("app")) == 3, 60)
        elif change == "fewer":
            await rig.wait(lambda: rig.instances("app")[-1]["metadata"].get("deletionTimestamp"), 30)
        await rig.let_pass(60)
        assert len(rig.made("app")) == (3 if change == "unpaused" else 2), "no more than there were, before what they depend on"
        rig.world.clear(fault)
        await rig.wait(rig.ready, 600)
        assert len(rig.live("app")) == {"unpaused": 2, "fewer": 1, "none": 3}[change]

    play(tmp_path, main, steady())


def test_a_deletion_waits_for_a_cloud_that_fails_and_says_so(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        lists = rig.world.fail("list", errors.Transient("no route"), times=INF)
        await rig.until("Cloud", "sim", "CloudUnreachable", seconds=30)
        await rig.delete("Infrastructure", "shop")
        await rig.until("Instance", "shop-app-0", "WaitingForCloud", seconds=30)
        await rig.let_pass(600)
        assert len(rig.instances()) == 2
        assert rig.calls("delete") == 0
        rig.world.clear(lists)
        await rig.wait(rig.gone, 60)

    play(tmp_path, main)


def test_an_end_that_is_refused_is_said_and_asked_for_again(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        fault = rig.world.fail("delete", errors.Denied("termination protection is on"), times=INF)
        await rig.delete("Infrastructure", "shop")
        await rig.until("Instance", "shop-app-0", "Terminating", seconds=30)
        await rig.wait(lambda: "termination protection" in rig.said("Instance", "shop-app-0")[2], 60)
        await rig.let_pass(300)
        assert 10 <= rig.calls("delete") <= 20
        rig.world.clear(fault)
        await rig.wait(rig.gone, 60)

    play(tmp_path, main)


def test_a_restart_in_the_middle_of_a_deletion_finishes_it(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        await rig.delete("Infrastructure", "shop")
        for _ in range(12):
            if rig.gone():
                break
            await rig.let_pass(4)
            await rig.restart()
        await rig.wait(rig.gone, 200)
        assert rig.world.live() == []
        _in_order(rig)
        assert rig.calls(*MUTATING) >= 8

    play(tmp_path, main)


def test_a_machine_that_its_cloud_has_forgotten_keeps_nothing_from_going(tmp_path: Path) -> None:
    """It was seen to end, and nobody could make another; when all is deleted the cloud shows it no more."""

    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": True}})
        await rig.let_pass(10)
        rig.world.kill(rig.live()[0].id)
        await rig.until("Instance", "shop-app-0", "MachineEnded")
        await rig.let_pass(rig.world.settings.shown_seconds + 600)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 600)

    play(tmp_path, main)
