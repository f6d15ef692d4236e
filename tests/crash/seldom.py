"""Scenarios for the calls that the main ones do not come to: restores, edits by other hands, the sweep, the end of a Cloud."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from controller import errors
from controller.ports import Identity, Key, Obj
from tests.crash.scenarios import Scenario, all_live, nothing, put_all, scale_in_one, settled, up
from tests.simulated.harness import CONTROLLER, SHOP, System, condition

CLOUD = SHOP.split("---")[0]
WITH_ID = SHOP.replace("spec:\n  services:", "spec:\n  id: shop-1\n  services:")
FIXED = SHOP.replace("name: app}, scaling: {min: 2, max: 5}", "name: app}, replicas: 2")
#: Another text for web, from a ConfigMap, and more room for app.
CHANGED = (
    SHOP.replace(
        '{template: "#cloud-config\\nruncmd: [web, \'{{ services.app.addresses | join(\\",\\") }}\']\\n"}',
        "{template: null, configMapRef: {name: texts, key: web}}",
    ).replace("max: 5", "max: 6")
    + """---
kind: ConfigMap
apiVersion: v1
metadata: {name: texts}
data: {web: "#cloud-config\\nruncmd: [web, new, '{{ services.app.address }}']\\n"}
"""
)
#: By which a step knows that it was done.
MARK = "example.org/done"
#: Of the first of app's implementations there are three: a batch of five is halved, and the second makes the rest.
NO_ROOM = (
    SHOP.replace(
        '[{name: one, cloudRef: {name: sim}, simulated: {image: debian}}]\n  context: {cloudInit: {template: "#cloud-config\\nruncmd: [app',
        "[{name: one, cloudRef: {name: sim}, simulated: {image: debian, size: medium}}, "
        "{name: two, cloudRef: {name: sim}, simulated: {image: debian, size: large}}]\n"
        '  context: {cloudInit: {template: "#cloud-config\\nruncmd: [app',
    )
    .replace("min: 2", "min: 5")
    .split("  - {name: web")[0]
)
_ROOM = 3
_INFRASTRUCTURE = Key("Infrastructure", "default", "shop")


# --- a restore ------------------------------------------------------------------------------------------------------
async def _store_lost(system: System) -> None:
    await _apply_with_id(system)
    await system.wait(system.ready)
    await system.crash()
    await system.lose_objects()
    system.start()


async def _apply_with_id(system: System) -> None:
    await put_all(system, WITH_ID)


def _claimed(system: System) -> bool:
    return settled(system, 2) and all_live(system) and len(system.world.machines) == 4


async def _force_away(system: System) -> None:
    """As `kubectl replace` without finalizers and a deletion do: the garbage collector marks what it owned."""
    with contextlib.suppress(errors.ObjectNotFound):
        while True:
            seen = await _patch(system, _INFRASTRUCTURE, finalizers=None)
            with contextlib.suppress(errors.Conflict):
                await system.store.delete(_INFRASTRUCTURE, uid=seen["uid"], version=seen["resourceVersion"])


# --- edits ----------------------------------------------------------------------------------------------------------
_TOUCHED: dict[Key, dict[str, Any]] = {
    Key("Instance", "default", "shop-app-1"): {"finalizers": None, "ownerReferences": None},
    Key("InstanceGroup", "default", "shop-web"): {"finalizers": None},
    Key("InstanceGroup", "default", "shop-app"): {"ownerReferences": None},
}


async def _touch(system: System) -> None:
    """Somebody takes away what is ours. Another Instance has to be made, for which the revision that nobody owns is made anew."""
    group = await system.store.get(Key("InstanceGroup", "default", "shop-app"))
    for key, lost in _TOUCHED.items():
        await _patch(system, key, annotations={MARK: "yes"}, **lost)
    if MARK in group["metadata"].get("annotations", {}):
        # What has this name now is the other one.
        return
    key = Key("Instance", "default", "shop-app-0")
    with contextlib.suppress(errors.ObjectNotFound):
        seen = await system.store.get(key)
        if "deletionTimestamp" not in seen["metadata"]:
            await _patch(system, Key("ControllerRevision", "default", seen["spec"]["revision"]), ownerReferences=None)
            await system.store.delete(key, uid=seen["metadata"]["uid"])


def _mended(system: System) -> bool:
    found = [each for key in _TOUCHED if (each := system.engine.objects.get(key)) is not None]
    anew = settled(system, 2) and all_live(system) and len(system.world.machines) > 4
    return anew and all(MARK in each["metadata"].get("annotations", {}) and _whole(each) for each in found)


def _whole(obj: Obj) -> bool:
    return bool(obj["metadata"].get("finalizers") and obj["metadata"].get("ownerReferences"))


async def _up_fixed(system: System) -> None:
    await put_all(system, FIXED)
    await system.wait(system.ready)


def _replaced(system: System, name: str) -> bool:
    return settled(system, 2) and not any(each["metadata"]["name"] == name for each in system.instances())


async def _change(system: System) -> None:
    """Another text, other bounds; and the old machine goes, so that its revision is needed no more."""
    await put_all(system, CHANGED)
    key = Key("Instance", "default", "shop-web-0")
    with contextlib.suppress(errors.ObjectNotFound):
        await system.store.delete(key, uid=(await system.store.get(key))["metadata"]["uid"])


def _changed(system: System) -> bool:
    group = system.engine.objects.get(Key("InstanceGroup", "default", "shop-app"))
    revisions = [each for each in system.engine.objects.list("ControllerRevision") if each["metadata"]["name"].startswith("shop-web")]
    return (
        _replaced(system, "shop-web-0")
        and group is not None
        and group["spec"]["scaling"]["max"] == 6
        and [each["metadata"]["name"] for each in revisions] == [each["spec"]["revision"] for each in system.instances("web")]
    )


# --- a lack of room -------------------------------------------------------------------------------------------------
async def _fill_up(system: System) -> None:
    """The database alone comes up."""
    await put_all(system, NO_ROOM.split("  - {name: app,")[0])
    await system.wait(system.ready)
    system.world.settings.capacity = dict.fromkeys(("medium", "t3.medium"), _ROOM)


async def _apply_all(system: System) -> None:
    await put_all(system, NO_ROOM)


def _spread(system: System) -> bool:
    names = [each["spec"]["implementation"]["name"] for each in system.instances("app")]
    return system.ready() and all_live(system) and (names.count("one"), len(names)) == (_ROOM, 5)


# --- the sweep, the end of a Cloud ----------------------------------------------------------------------------------
async def _cloud(system: System) -> None:
    await put_all(system, CLOUD)
    await system.wait(lambda: _cloud_is("True", system))


def _cloud_is(status: str, system: System) -> bool:
    found = system.engine.objects.get(Key("Cloud", "default", "sim"))
    return condition(found or {}, "Ready") == status


async def _stray(system: System) -> None:
    """A machine of ours that has neither Instance nor group, under the policy Terminate."""
    await system.crash()
    system.options = replace(system.options, sweep="Terminate")
    system.start()
    await _cloud(system)
    account = (await system.store.get(Key("Cloud", "default", "sim")))["status"]["account"]
    tags = {"controller": CONTROLLER, "namespace": "default", "infrastructure": "ghost", "infrastructure-id": "ghost-1", "service": "ghost"}
    system.world.insert((account["id"], account["region"]), Identity("stray", 0), {f"occopus.io/{name}": tags[name] for name in tags})


async def _leave(system: System) -> None:
    key = Key("Cloud", "default", "sim")
    with contextlib.suppress(errors.ObjectNotFound):
        await system.store.delete(key, uid=(await system.store.get(key))["metadata"]["uid"])


async def _patch(system: System, key: Key, **metadata: Any) -> dict[str, Any]:
    """Change an object's metadata, whoever else writes; its metadata then."""
    while True:
        seen = await system.store.get(key)
        with contextlib.suppress(errors.Conflict):
            return (await system.store.patch(key, {"metadata": metadata}, version=seen["metadata"]["resourceVersion"]))["metadata"]


SELDOM = {
    each.name: each
    for each in (
        Scenario("restore", _store_lost, _apply_with_id, _claimed),
        Scenario("forced-away", up, _force_away, lambda system: system.gone() and len(system.world.live()) == 4, leaves=True),
        Scenario("no-room", _fill_up, _apply_all, _spread, apps=5),
        Scenario("touch", up, _touch, _mended, apps=3),
        Scenario("scale-in-refused", _up_fixed, scale_in_one, lambda system: _replaced(system, "shop-app-0"), apps=3),
        Scenario("change", up, _change, _changed, webs=2),
        Scenario("sweep", _stray, nothing, lambda system: not system.world.live()),
        Scenario("leave", _cloud, _leave, lambda system: not system.engine.objects.list("Cloud")),
    )
}
