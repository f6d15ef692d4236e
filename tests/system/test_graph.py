"""Descriptions that are or become wrong: Stalled with the reason, nothing is made, what runs stays, and repaired it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from controller.ports import Key, Obj
from tests.bench.counting import CountingStore
from tests.system.documents import Document, alone, chain, cloud, infrastructure, service, template
from tests.system.rig import Rig, ids, play

_TELLS_WEB = "#cloud-config\nruncmd: ['{{ services.web.address }}']\n"

_RING = infrastructure(service("db", "web"), service("app", "db"), service("web", "app"))

WRONG = [
    pytest.param([_RING], "Cycle", "app → db → web → app", id="cycle"),
    pytest.param([infrastructure(*chain()[-1]["spec"]["services"], service("mail"))], "TemplateNotFound", "mail", id="unknown template"),
    pytest.param([template("db", _TELLS_WEB)], "UndeclaredDependency", "services.web", id="undeclared service"),
    pytest.param([template("db", "#cloud-config\na: {{ variables.nope }}\n")], "UnknownVariable", "nope", id="unknown variable"),
    pytest.param([template("db", "#cloud-config\na: {{ x\n")], "TemplateInvalid", "line 2", id="syntax"),
    pytest.param([template("db", on="moon")], "CloudNotFound", "moon", id="unknown cloud"),
]


@pytest.mark.parametrize(("change", "why", "words"), WRONG)
def test_a_description_that_becomes_wrong_stalls_and_keeps_what_runs(tmp_path: Path, change: list[Document], why: str, words: str) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        before = ids(rig.world.live())
        await rig.make(*change)
        await rig.until("Infrastructure", "shop", why, seconds=30)
        status, reason, message = rig.said("Infrastructure", "shop", "Stalled")
        assert (status, reason) == ("True", why)
        assert words in message
        await rig.unchanged(300)
        assert await rig.told(why, "shop") == 1
        await rig.make(*chain())
        await rig.wait(rig.ready, 60)
        assert ids(rig.world.live()) == before

    play(tmp_path, main)


@pytest.mark.parametrize(("change", "why", "words"), WRONG)
def test_a_description_that_is_wrong_from_the_first_makes_nothing(tmp_path: Path, change: list[Document], why: str, words: str) -> None:
    async def main(rig: Rig) -> None:
        right = {(each["kind"], each["metadata"]["name"]): each for each in chain()}
        wrong = {(each["kind"], each["metadata"]["name"]): each for each in change}
        await rig.make(*(right | wrong).values())
        await rig.until("Infrastructure", "shop", why, seconds=30)
        assert words in rig.said("Infrastructure", "shop", "Stalled")[2]
        await rig.let_pass(120)
        assert rig.engine.objects.list("InstanceGroup") == []
        assert rig.made() == []
        await rig.make(*chain())
        await rig.wait(rig.ready)

    play(tmp_path, main)


def test_a_wrong_description_is_still_deleted_in_the_order_that_was_accepted(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        await rig.make(_RING)
        await rig.until("Infrastructure", "shop", "Cycle", seconds=30)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 200)
        assert rig.spans("web")[1] <= rig.spans("app")[0]
        assert rig.spans("app")[1] <= rig.spans("db")[0]

    play(tmp_path, main)


def test_a_template_deleted_while_machines_run_is_said_and_ends_nothing(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        await rig.delete("InstanceTemplate", "app")
        await rig.until("Infrastructure", "shop", "TemplateNotFound", seconds=30)
        await rig.unchanged(300)
        # One that ended cannot be made again without it.
        rig.world.kill(rig.live()[0].id)
        await rig.until("InstanceGroup", "shop-app", "TemplateNotFound", seconds=60)
        await rig.let_pass(120)
        assert len(rig.made()) == 2
        await rig.make(template("app"))
        await rig.wait(rig.ready, 120)
        await rig.delete("InstanceTemplate", "app")
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 120)

    assert len(play(tmp_path, main).made()) == 3


def test_a_changed_template_leaves_running_machines_and_says_how_many_are_older(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(3))
        await rig.make(template("app", "#cloud-config\nruncmd: [newer]\n"))
        await rig.until("InstanceGroup", "shop-app", "RevisionChanged", "Progressing", 30)
        assert "3 of 3" in rig.said("InstanceGroup", "shop-app", "Progressing")[2]
        await rig.unchanged(300)
        assert rig.obj("InstanceGroup", "shop-app")["status"]["updatedReplicas"] == 0
        rig.world.kill(rig.machine("shop-app-0").id)
        await rig.wait(lambda: len(rig.made()) == 4 and rig.ready())
        assert rig.obj("InstanceGroup", "shop-app")["status"]["updatedReplicas"] == 1
        assert b"newer" in rig.made()[-1].user_data
        assert len(await rig.store.list("ControllerRevision")) == 2
        # Back to what the others were made of: the old revision again, and the newer one of the one that was replaced.
        await rig.make(template("app"))
        await rig.wait(lambda: rig.obj("InstanceGroup", "shop-app")["status"]["updatedReplicas"] == 2, 30)
        for each in rig.instances():
            if each["spec"]["revision"] != rig.obj("InstanceGroup", "shop-app")["status"]["revision"]:
                await rig.delete("Instance", each["metadata"]["name"])
        await rig.until("InstanceGroup", "shop-app", "Converged", "Progressing", 200)
        await rig.let_pass(400)
        assert len(await rig.store.list("ControllerRevision")) == 1

    play(tmp_path, main)


class ListingStore(CountingStore):
    """Counts the lists of Instances too."""

    lists = 0

    async def list(self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> list[Obj]:
        ListingStore.lists += kind == "Instance"
        return await super().list(kind, namespace, labels)


def test_no_pass_lists_the_instances_of_a_revision_that_is_in_use(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        rig.wrap_store = ListingStore
        await rig.restart()
        await rig.up(*alone(3))
        await rig.make(template("app", "#cloud-config\nruncmd: [newer]\n"))
        await rig.until("InstanceGroup", "shop-app", "RevisionChanged", "Progressing", 30)
        await rig.let_pass(5)
        ListingStore.lists = 0
        for number in range(10):
            await rig.patch("InstanceGroup", "shop-app", {"metadata": {"annotations": {"look": str(number)}}})
            await rig.let_pass(5)
        # One list may be that of the sweep.
        assert ListingStore.lists <= 1

    play(tmp_path, main)


def test_one_wrong_infrastructure_stops_no_other(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(infrastructure(service("ghost"), name="wrong"), *alone(1))
        await rig.wait(rig.ready, 120)
        assert rig.why("Infrastructure", "wrong") == "TemplateNotFound"

    play(tmp_path, main)


def test_a_name_that_another_infrastructures_group_holds_is_said(tmp_path: Path) -> None:
    """`a` with a service `b-c` and `a-b` with a service `c` want the same group."""

    async def main(rig: Rig) -> None:
        await rig.make(cloud(), template("b-c"), template("c"), infrastructure(service("b-c"), name="a"))
        await rig.wait(lambda: rig.ready("a"))
        await rig.make(infrastructure(service("c"), name="a-b"))
        await rig.until("Infrastructure", "a-b", "NameTaken", seconds=30)
        assert "a-b-c" in rig.said("Infrastructure", "a-b", "Stalled")[2]
        await rig.unchanged(120)
        await rig.delete("Infrastructure", "a")
        await rig.wait(lambda: rig.ready("a-b"), 200)

    play(tmp_path, main)


def test_a_name_that_is_free_again_is_taken_at_once(tmp_path: Path) -> None:
    """The Infrastructure that held it stays, and its service is called otherwise."""

    async def main(rig: Rig) -> None:
        await rig.make(cloud(), template("b-c"), template("c"), infrastructure(service("b-c"), name="a"))
        await rig.wait(lambda: rig.ready("a"))
        await rig.make(infrastructure(service("c"), name="a-b"))
        await rig.until("Infrastructure", "a-b", "NameTaken", seconds=30)
        await rig.let_pass(20)
        renamed = service("d", templateRef={"name": "b-c"})
        await rig.make(infrastructure(renamed, name="a"))
        await rig.wait(lambda: rig.ready("a-b"), 90)

    play(tmp_path, main)


def test_a_dependency_that_is_added_is_waited_for_by_new_machines_alone(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        *others, shop = chain()
        await rig.up(*others, shop)
        before = ids(rig.world.live())
        rig.world.never_healthy = lambda machine: machine.tags["occopus.io/service"] == "queue"
        db, app, web = shop["spec"]["services"]
        app = service("app", "db", "queue", scaling={"min": 3, "max": 5})
        await rig.make(template("queue"), infrastructure(db, app, web, service("queue")))
        await rig.until("InstanceGroup", "shop-app", "WaitingForDependencies", seconds=30)
        assert "queue" in rig.said("InstanceGroup", "shop-app")[2]
        assert "db" not in rig.said("InstanceGroup", "shop-app")[2]
        await rig.let_pass(100)
        assert ids(rig.live("app")) < before
        rig.world.never_healthy = lambda machine: False
        await rig.wait(lambda: rig.ready() and len(rig.live("app")) == 3)
        assert rig.obj("InstanceGroup", "shop-app")["status"]["dependenciesMet"] == ["db", "queue"]

    play(tmp_path, main)


class PutBack(CountingStore):
    """A store in which somebody puts a service back when another one, removed with it, was deleted."""

    armed = False

    async def delete(self, key: Key, *, uid: str, version: str | None = None) -> Obj | None:
        answer = await super().delete(key, uid=uid, version=version)
        if key.kind == "InstanceGroup" and PutBack.armed:
            PutBack.armed = False
            shop = Key("Infrastructure", "default", "shop")
            services = {"spec": {"services": [service("db"), service("web")]}}
            await self.patch(shop, services, version=(await self.get(shop))["metadata"]["resourceVersion"])
            await asyncio.sleep(0.1)  # the watch tells it
        return answer


def test_a_service_that_is_put_back_while_others_are_removed_keeps_its_machines(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        PutBack.armed = False
        rig.wrap_store = PutBack
        await rig.restart()
        await rig.up(
            cloud(), *(template(each) for each in ("app", "db", "web")), infrastructure(service("app"), service("db"), service("web"))
        )
        (web,) = rig.live("web")
        PutBack.armed = True
        await rig.make(infrastructure(service("db")))
        await rig.wait(lambda: not PutBack.armed, 30)
        await rig.wait(lambda: rig.ready() and not rig.live("app"), 120)
        assert ids(rig.live("web")) == {web.id}

    assert len(play(tmp_path, main).made("web")) == 1
