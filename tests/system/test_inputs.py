"""What machines were told: said when it is no longer so, waited for when it is not there, refused when it is too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from controller.ports import Change, Changed, Key, Obj
from tests.bench.counting import CountingStore
from tests.system.documents import chain, cloud, config, infrastructure, service, template
from tests.system.rig import Rig, ids, play

ADDRESS = "#cloud-config\nruncmd: ['{{ services.db.address }}']\n"


def test_an_address_that_changed_is_reported_and_replaces_nothing(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        old = rig.live("db")[0]
        dependents = ids(rig.live("app"))
        rig.world.kill(old.id)
        await rig.wait(lambda: len(rig.made("db")) == 2 and rig.ready(), 200)
        new = rig.live("db")[0]
        assert new.private_address != old.private_address
        status, reason, message = rig.said("InstanceGroup", "shop-app", "InputsCurrent")
        assert (status, reason) == ("False", "InputChanged")
        assert "shop-app-0" in message
        assert "shop-app-1" in message
        assert rig.said("InstanceGroup", "shop-web", "InputsCurrent")[0] == "True"
        assert ids(rig.live("app")) == dependents
        # One that is made anew is told the new address and is named no more.
        await rig.delete("Instance", "shop-app-0")
        await rig.wait(lambda: rig.find("Instance", "shop-app-0") is None and rig.ready(), 200)
        message = rig.said("InstanceGroup", "shop-app", "InputsCurrent")[2]
        assert "shop-app-1" in message
        assert "shop-app-2" not in message
        assert new.private_address.encode() in rig.machine("shop-app-2").user_data

    play(tmp_path, main)


class SlowToSay(CountingStore):
    """A store in which what becomes of shop-db-0 is written late."""

    async def patch(self, key: Key, patch: Obj, *, version: str, subresource: Literal["", "status"] = "") -> Obj:
        if key.name == "shop-db-0" and patch.get("status", {}).get("phase") == "Ended":
            await asyncio.sleep(20)
        return await super().patch(key, patch, version=version, subresource=subresource)


def test_a_replacement_is_not_told_the_address_of_a_machine_that_ended_with_it(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        rig.wrap_store = SlowToSay
        await rig.restart()
        await rig.up(*chain())
        (gone,) = rig.live("db")
        for machine in (gone, rig.live("app")[0]):
            rig.world.kill(machine.id)
        await rig.wait(lambda: rig.ready() and len(rig.made("app")) == 3, 400)
        assert gone.private_address.encode() not in rig.made("app")[-1].user_data

    play(tmp_path, main)


def test_a_dependency_scaled_to_nothing_has_no_address(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        await rig.patch("InstanceGroup", "shop-db", {"spec": {"replicas": 0}})
        await rig.wait(lambda: rig.instances("db") == [], 60)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 3}})
        await rig.until("InstanceGroup", "shop-app", "NoAddress", seconds=30)
        assert "db" in rig.said("InstanceGroup", "shop-app")[2]
        await rig.unchanged(120)
        await rig.patch("InstanceGroup", "shop-db", {"spec": {"replicas": 1}})
        await rig.wait(lambda: rig.ready() and len(rig.live("app")) == 3, 200)

    play(tmp_path, main)


def test_a_dependency_of_none_from_the_first_makes_its_reader_wait(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(
            cloud(),
            template("db"),
            template("app", ADDRESS),
            template("mail"),
            infrastructure(service("db", scaling={"min": 0}), service("app", "db"), service("mail", "db")),
        )
        # Zero wanted is Available, so those who do not read its address go on.
        await rig.until("InstanceGroup", "shop-mail", "Ready")
        await rig.until("InstanceGroup", "shop-app", "NoAddress", seconds=10)
        assert rig.made("app") == []

    play(tmp_path, main)


def test_inputs_that_are_too_large_are_said_and_make_nothing(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        many = [{"name": f"v{number}", "value": "x" * 4000} for number in range(5)]
        text = "#cloud-config\n" + "".join(f"# {{{{ variables.v{number} | length }}}}\n" for number in range(5))
        await rig.make(cloud(), template("app", text), infrastructure(service("app"), variables=many))
        await rig.until("InstanceGroup", "shop-app", "InputsTooLarge")
        assert "16384" in rig.said("InstanceGroup", "shop-app")[2]
        assert await rig.told("InputsTooLarge", "shop-app") == 1
        await rig.unchanged(60)
        await rig.patch("Infrastructure", "shop", {"spec": {"variables": [{**each, "value": "x"} for each in many]}})
        await rig.wait(rig.ready, 120)

    play(tmp_path, main)


def test_a_variable_of_a_config_map_is_waited_for_and_its_change_reported(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        variables = [{"name": "domain", "valueFrom": {"configMapKeyRef": {"name": "site", "key": "domain"}}}]
        text = "#cloud-config\nruncmd: ['{{ variables.domain }}']\n"
        await rig.make(cloud(), template("app", text), infrastructure(service("app"), variables=variables))
        await rig.until("InstanceGroup", "shop-app", "ConfigMapNotFound")
        assert "site" in rig.said("InstanceGroup", "shop-app")[2]
        await rig.make(config("site", domain="example.org"))
        await rig.wait(rig.ready, 120)
        assert b"example.org" in rig.live()[0].user_data
        await rig.patch("ConfigMap", "site", {"data": {"domain": "example.com"}})
        await rig.until("InstanceGroup", "shop-app", "InputChanged", "InputsCurrent", 30)
        await rig.unchanged(120)

    play(tmp_path, main)


class Unwatched(CountingStore):
    """A store that tells of no ConfigMap, as an API server's does."""

    async def watch(self) -> AsyncIterator[Change]:
        async for change in super().watch():
            if not isinstance(change, Changed) or change.object["kind"] != "ConfigMap":
                yield change


def test_a_config_map_that_comes_late_is_asked_for_where_none_is_watched(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        rig.wrap_store = Unwatched
        await rig.restart()
        variables = [{"name": "domain", "valueFrom": {"configMapKeyRef": {"name": "site", "key": "domain"}}}]
        text = "#cloud-config\nruncmd: ['{{ variables.domain }}']\n"
        await rig.make(cloud(), template("app", text), infrastructure(service("app"), variables=variables))
        await rig.until("InstanceGroup", "shop-app", "ConfigMapNotFound")
        await rig.make(config("site", domain="example.org"))
        await rig.wait(lambda: len(rig.made("app")) == 1, 15)

    play(tmp_path, main)


def test_the_infrastructures_variable_wins_over_the_services_and_the_templates(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        text = "#cloud-config\nruncmd: ['{{ variables.a }} {{ variables.b }} {{ variables.c }}']\n"

        def named(value: str, *names: str) -> list[dict[str, str]]:
            return [{"name": each, "value": f"{value}-{each}"} for each in names]

        await rig.up(
            cloud(),
            template("app", text, variables=named("template", "a", "b", "c")),
            infrastructure(service("app", variables=named("service", "a", "b")), variables=named("infrastructure", "a")),
        )
        assert b"infrastructure-a service-b template-c" in rig.live()[0].user_data

    play(tmp_path, main)
