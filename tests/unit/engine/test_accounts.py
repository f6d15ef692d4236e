"""Copies of an Instance by their accounts: whose the machine may be, who claims its identity, and who hears when that is known."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from controller.engine import clouds
from controller.engine.objects import dump
from controller.ports import Changed, Gone, Identity, Key, Obj
from tests.properties import build
from tests.simulated.world import Settings
from tests.unit.engine.rig import ACCOUNT, Rig, run

ORIGINAL, COPY = Key("Instance", "default", "shop-app-0"), Key("Instance", "drill", "shop-app-0")
BOTH = Identity("batch-0", 0)


def _account(id: str) -> Mapping[str, Any]:
    return {"account": {"kind": "simulated", "id": id, "region": "r1"}} if id else {}


def _instance(namespace: str, launched: str | None = None, version: str = "1", *, deleting: bool = False) -> Obj:
    """One of those two; `launched` in that account, in one that is not known where it is empty."""
    found = dump(build.instance(uid=f"uid-{namespace}", namespace=namespace, resource_version=version, deleting=deleting))
    launch = {"digest": "d", "time": "2030-01-01T00:00:00Z", **_account(launched or "")}
    return {**found, "kind": "Instance", "status": {} if launched is None else {"launch": launch}}


def _cloud(namespace: str, account: str = "", version: str = "1") -> Obj:
    metadata = {"name": "sim", "namespace": namespace, "uid": f"uid-cloud-{namespace}", "resourceVersion": version}
    return {"kind": "Cloud", "metadata": metadata, "spec": {}, "status": _account(account)}


def _take(rig: Rig, *objects: Obj) -> None:
    for each in objects:
        rig.objects.take(Changed(each))


@pytest.mark.parametrize(
    ("beside", "launched", "same"),
    [
        pytest.param("a1", None, True, id="by its Cloud: of this one"),
        pytest.param("a2", None, False, id="by its Cloud: of another"),
        pytest.param("a2", "a1", False, id="its launch was copied"),
        pytest.param("", None, None, id="its Cloud was never asked"),
        pytest.param("", "a1", True, id="by its launch: of this one"),
        pytest.param("", "a2", False, id="by its launch: of another"),
        pytest.param(None, "a2", False, id="its Cloud is gone"),
        pytest.param(None, "", None, id="launched by an older version, its Cloud is gone"),
        pytest.param(None, None, None, id="it has nothing"),
    ],
)
def test_what_is_recorded_tells_whether_a_copy_is_of_the_same_account(
    tmp_path: Path, beside: str | None, launched: str | None, same: bool | None
) -> None:
    async def scenario(rig: Rig) -> None:
        _take(rig, _cloud("default", "a1"), _instance("default", "a1"), _instance("drill", launched))
        if beside is not None:
            _take(rig, _cloud("drill", beside))
        accounts = rig.clouds.accounts
        assert accounts.same(ORIGINAL, COPY) is same
        assert accounts.same(COPY, ORIGINAL) is same
        assert len(rig.clouds.rivals(BOTH, ORIGINAL)) == (0 if same is False else 1)
        assert accounts.has_none(COPY) is (beside is None and launched is None)

    run(tmp_path, scenario)


def test_two_on_one_cloud_are_of_one_account_whatever_it_is(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        other = _instance("default")
        other["metadata"] |= {"name": "copy", "uid": "uid-copy"}
        _take(rig, _instance("default"), other)
        assert rig.clouds.accounts.same(ORIGINAL, Key("Instance", "default", "copy")) is True

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("account", "unclaimed"),
    [
        pytest.param("a1", False, id="of its account"),
        pytest.param("", False, id="of one that nobody knows"),
        pytest.param("a2", True, id="of another"),
    ],
)
@pytest.mark.parametrize("cached", [pytest.param(True, id="in the cache"), pytest.param(False, id="in the live list alone")])
def test_a_copy_claims_the_machine_that_may_be_of_its_account(tmp_path: Path, account: str, unclaimed: bool, cached: bool) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.world_of_one()
        rig.bind()
        _take(rig, {**_cloud("default", account, "9999"), "metadata": {**_cloud("default")["metadata"], "name": "drill"}})
        on_drill = {"name": "one", "cloudRef": {"name": "drill"}, "simulated": {"image": "image-1"}}
        copy = dump(build.instance(1, spec={"batch": {"id": "stray", "index": 0, "size": 1}, "implementation": on_drill}))
        await rig.put("Instance", copy)
        if not cached:
            rig.objects.take(Gone(rig.objects.get(Key("Instance", "default", "shop-app-1")) or {}))
        id = rig.insert("stray", **{clouds.NAMESPACE_TAG: "default"})
        await rig.inventory.poll()
        assert [each.id for _, each in rig.clouds.suspects()] == ([id] if unclaimed or not cached else [])
        await asyncio.sleep(61)
        for _ in range(3):
            await rig.inventory.poll()
            await rig.sweep.look()
        assert rig.sweep.sure(ACCOUNT, id) is unclaimed

    run(tmp_path, scenario, Settings(terminating_seconds=0))


def test_a_machine_is_a_suspect_once_the_account_of_the_copy_is_known(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.bind()
        _take(rig, _cloud("drill"), _instance("drill"))
        rig.insert("batch-0", **{clouds.NAMESPACE_TAG: "default"})
        await rig.inventory.poll()
        assert rig.clouds.suspects() == ()
        _take(rig, _cloud("drill", "a2", "2"))
        assert len(rig.clouds.suspects()) == 1

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(Changed(_cloud("drill", "a2", "2")), id="the account is known"),
        pytest.param(Gone(_cloud("drill")), id="the Cloud is gone"),
        pytest.param(Changed(_instance("drill", version="2", deleting=True)), id="the copy is deleted"),
        pytest.param(Gone(_instance("drill")), id="the copy is gone"),
    ],
)
def test_an_original_is_woken_by_what_settles_whose_its_machine_is(tmp_path: Path, change: Changed | Gone) -> None:
    async def scenario(rig: Rig) -> None:
        _take(rig, _cloud("default", "a1"), _instance("default", "a1"), _cloud("drill"), _instance("drill"))
        rig.woken.clear()
        _take(rig, _cloud("drill", "", "1.5"), _instance("drill", version="1.5"))
        assert rig.woken == [], "nothing that concerns it"
        rig.objects.take(change)
        assert ORIGINAL in rig.woken

    run(tmp_path, scenario)
