"""What the API does not allow us: said where users look, tried again, mended when it is granted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from controller import errors
from controller.ports import Obj
from tests.system.documents import alone
from tests.system.rig import Rig, play

MESSAGE = "create instances.occopus.io in namespace default is forbidden"


def test_a_forbidden_verb_stands_in_the_condition_until_it_is_granted(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        create = rig.store.create

        async def refused(obj: Obj) -> Obj:
            if obj["kind"] == "Instance":
                raise errors.Forbidden(MESSAGE)
            return await create(obj)

        rig.store.create = refused
        await rig.make(*alone(1))
        await rig.until("InstanceGroup", "shop-app", "Forbidden", seconds=30)
        assert MESSAGE in rig.said("InstanceGroup", "shop-app")[2]
        await rig.hear("Forbidden", "shop-app")
        await rig.wait(lambda: "Forbidden" in rig.said("Infrastructure", "shop")[2], 10)
        before = rig.obj("InstanceGroup", "shop-app")["metadata"]["resourceVersion"]
        await rig.let_pass(600)
        assert rig.obj("InstanceGroup", "shop-app")["metadata"]["resourceVersion"] == before, "it is tried again, and said once"
        rig.store.create = create
        await rig.wait(rig.ready, 400)

    assert len(play(tmp_path, main).made()) == 1


def test_where_not_even_status_may_be_written_nothing_else_suffers(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        real = rig.store.patch

        async def refused(key: Any, patch: Obj, **options: Any) -> Obj:
            if options.get("subresource") == "status" and key.name == "shop-app":
                raise errors.Forbidden("patch instancegroups.occopus.io/status in namespace default is forbidden")
            return await real(key, patch, **options)

        rig.store.patch = refused
        await rig.make(*alone(1))
        await rig.hear("Forbidden", "shop-app")
        await rig.let_pass(60)
        assert rig.made() == [], "the brake on replacements could not be kept"
        rig.store.patch = real
        await rig.wait(rig.ready, 400)

    assert len(play(tmp_path, main).made()) == 1
