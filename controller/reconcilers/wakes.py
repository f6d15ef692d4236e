"""Whom a change of an object wakes. Pure: old and new object in, keys out.

What wakes a key: a change of the object's own generation, deletion, finalizers, annotations or owners; of a child; of what it reads.
Never a status write of its own (design section 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from controller.api import meta
from controller.ports import Key, Obj


class How(Enum):
    """How soon: at once in the user's lane, at once, or gathered with others as a roll-up."""

    USER = "user"
    SOON = "soon"
    ROLL_UP = "roll-up"


@dataclass(frozen=True, slots=True)
class Wake:
    key: Key
    how: How


class Lookup(Protocol):
    """The cache, as far as it is asked here."""

    def list(self, kind: str) -> list[Obj]: ...
    def get(self, key: Key) -> Obj | None: ...
    def has(self, uid: str, kind: str) -> bool: ...


def wakes(objects: Lookup, old: Obj | None, new: Obj | None) -> Iterator[Wake]:
    """Everybody whom the change from `old` to `new` may concern."""
    obj = new if new is not None else old
    if obj is None:
        return
    kind, namespace = obj["kind"], _namespace(obj)
    if kind in _RECONCILED and (new is None or old is None or _own(old) != _own(new)) and (new is not None or kind == "Cloud"):
        # Of a Cloud that is gone what is known of its account is forgotten.
        yield Wake(Key(kind, namespace, obj["metadata"]["name"]), How.USER)
    match kind:
        case "Instance":
            yield from _instance(objects, old, new, obj)
        case "InstanceGroup":
            yield from _group(objects, old, new, obj)
        case "Infrastructure" if new is None or old is None or _own(old) != _own(new):
            yield from _all(objects, namespace, "Infrastructure")
            yield from _of_its_id(objects, obj)
            if new is None or old is None:
                yield from _groups_of(objects, obj)
        case "Cloud" if old is None or new is None or _ready(old) != _ready(new) or _own(old) != _own(new):
            yield from _all(objects, namespace, "Infrastructure", "InstanceGroup", "Instance")
        case "InstanceTemplate":
            yield from _all(objects, namespace, "Infrastructure", "InstanceGroup")
        case "Secret" | "ConfigMap":
            yield from _all(objects, namespace, "Cloud", "Infrastructure", "InstanceGroup", "Instance")
        case _:
            return


_RECONCILED = frozenset({"Cloud", "Infrastructure", "InstanceGroup", "Instance"})


def _instance(objects: Lookup, old: Obj | None, new: Obj | None, obj: Obj) -> Iterator[Wake]:
    yield from _owner(obj, "InstanceGroup", How.SOON if new is None or old is None else How.ROLL_UP)
    for each in (old, new):
        if each is not None:
            yield from _labelled(each)
    yield from _batch(objects, old, new, obj)
    if new is None:
        yield from _cloud(objects, obj)
        yield from _who_wait_for_the_last(objects, obj)


def _groups_of(objects: Lookup, infrastructure: Obj) -> Iterator[Wake]:
    """Groups whose Infrastructure comes or goes (`--cascade=orphan`): without it they make nothing."""
    for each in objects.list("InstanceGroup"):
        if _namespace(each) == _namespace(infrastructure) and each["spec"]["infrastructure"]["name"] == infrastructure["metadata"]["name"]:
            yield Wake(Key("InstanceGroup", _namespace(each), each["metadata"]["name"]), How.SOON)


def _of_its_id(objects: Lookup, infrastructure: Obj) -> Iterator[Wake]:
    """Infrastructures that name its identity, in whichever namespace: the younger one waits for the older one to go."""
    identity = infrastructure["spec"].get("id") or infrastructure["metadata"]["uid"]
    for each in objects.list("Infrastructure"):
        if each["spec"].get("id") == identity:
            yield Wake(Key("Infrastructure", _namespace(each), each["metadata"]["name"]), How.SOON)


def _labelled(instance: Obj) -> Iterator[Wake]:
    """The group that its label names, where that does not own it: the group waits for it to go, or takes it over."""
    group = instance["metadata"].get("labels", {}).get(meta.GROUP_LABEL)
    owners = {each["name"] for each in instance["metadata"].get("ownerReferences", ()) if each["kind"] == "InstanceGroup"}
    if group and group not in owners:
        yield Wake(Key("InstanceGroup", _namespace(instance), group), How.SOON)


def _own(obj: Obj) -> tuple[Any, ...]:
    metadata = obj["metadata"]
    return (*(metadata.get(each) for each in ("uid", "generation", "deletionTimestamp", "finalizers", "annotations")), _owners(obj))


def _owners(obj: Obj) -> tuple[str, ...]:
    return tuple(each["uid"] for each in obj["metadata"].get("ownerReferences", ()))


def _ready(obj: Obj) -> tuple[str, str]:
    """Whether a Cloud can be used, and why not: who waits for it says so too."""
    conditions: list[dict[str, str]] = obj.get("status", {}).get("conditions", [])
    return next(((each["status"], each.get("reason", "")) for each in conditions if each["type"] == "Ready"), ("", ""))


def _group(objects: Lookup, old: Obj | None, new: Obj | None, obj: Obj) -> Iterator[Wake]:
    yield from _owner(obj, "Infrastructure", How.SOON if new is None or old is None else How.ROLL_UP)
    if new is None or old is None or _owners(old) != _owners(new):
        yield from _who_want(objects, obj)
    if new is not None and old is not None and _lets(old) != _lets(new):
        for each in objects.list("Instance"):
            if new["metadata"]["uid"] in _owners(each):
                yield Wake(Key("Instance", _namespace(each), each["metadata"]["name"]), How.SOON)
    if new is not None and old is not None and _told(old) == _told(new):
        return
    infrastructure, service = obj["spec"]["infrastructure"]["name"], obj["spec"]["service"]
    let_go = _needs(old) - _needs(new)
    for other in objects.list("InstanceGroup"):
        if _namespace(other) != _namespace(obj) or other["spec"]["infrastructure"]["name"] != infrastructure:
            continue
        # One that is deleted waits for those who depend on it.
        if service in _needs(other) or other["spec"]["service"] in let_go or new is None:
            yield Wake(Key("InstanceGroup", _namespace(other), other["metadata"]["name"]), How.SOON)
    if new is None or new["metadata"].get("deletionTimestamp") or old is None or _own(old) != _own(new):
        yield from _going(objects, obj)


def _going(objects: Lookup, group: Obj) -> Iterator[Wake]:
    """Deleting Instances of the group's infrastructure: they wait for their turn, or to be counted out."""
    for each in objects.list("Instance"):
        of_it = _namespace(each) == _namespace(group) and each["spec"]["infrastructure"]["name"] == group["spec"]["infrastructure"]["name"]
        if of_it and each["metadata"].get("deletionTimestamp"):
            yield Wake(Key("Instance", _namespace(each), each["metadata"]["name"]), How.SOON)


def _who_wait_for_the_last(objects: Lookup, instance: Obj) -> Iterator[Wake]:
    """Groups that go, and their Instances, once one that depends on them, and stays, has lost its last machine."""
    for owner in instance["metadata"].get("ownerReferences", ()):
        group = objects.get(Key("InstanceGroup", _namespace(instance), owner["name"])) if owner["kind"] == "InstanceGroup" else None
        if group is None or objects.has(owner["uid"], "Instance"):
            continue
        infrastructure, before = group["spec"]["infrastructure"]["name"], _needs(group)
        for each in objects.list("InstanceGroup") if before else ():
            of_it = _namespace(each) == _namespace(group) and each["spec"]["infrastructure"]["name"] == infrastructure
            if of_it and each["spec"]["service"] in before and each["metadata"].get("deletionTimestamp"):
                yield Wake(Key("InstanceGroup", _namespace(each), each["metadata"]["name"]), How.SOON)
                yield from _going(objects, each)


def _who_want(objects: Lookup, group: Obj) -> Iterator[Wake]:
    """Infrastructures that want a group of this name, whoever owns it: they make it once it has gone, or take it over."""
    for each in objects.list("Infrastructure"):
        name = each["metadata"]["name"]
        names = (f"{name}-{service['name']}" for service in each["spec"].get("services", ()))
        if _namespace(each) == _namespace(group) and group["metadata"]["name"] in names:
            yield Wake(Key("Infrastructure", _namespace(each), name), How.SOON)


def _lets(group: Obj) -> tuple[Any, ...]:
    """By what its Instances may be launched, or not."""
    return (group["spec"].get("paused"), _owners(group))


def _needs(group: Obj | None) -> set[str]:
    """The services that a group depends on."""
    return {each["service"] for each in group["spec"].get("dependsOn", ())} if group is not None else set()


def _told(group: Obj) -> tuple[Any, ...]:
    """What others of the graph read of a group."""
    status: Obj = group.get("status", {})
    said: list[Obj] = [each for each in status.get("conditions", ()) if each["type"] == "Available"]
    available = [(each["status"], each.get("observedGeneration") == group["metadata"].get("generation")) for each in said]
    return (*_own(group), available, status.get("readyReplicas"), tuple(status.get("addresses", ())))


def _cloud(objects: Lookup, instance: Obj) -> Iterator[Wake]:
    """A Cloud that is going waits for its last Instance."""
    key = Key("Cloud", _namespace(instance), instance["spec"]["implementation"]["cloudRef"]["name"])
    cloud = objects.get(key)
    if cloud is not None and cloud["metadata"].get("deletionTimestamp"):
        yield Wake(key, How.SOON)


def _batch(objects: Lookup, old: Obj | None, new: Obj | None, instance: Obj) -> Iterator[Wake]:
    """The later members of a batch hear of its first one: that it is launched, why not, that it goes."""
    batch = instance["spec"]["batch"]
    if batch["size"] == 1 or batch["index"] != 0 or (old is not None and new is not None and _heard(old) == _heard(new)):
        return
    for each in objects.list("Instance"):
        if each["spec"]["batch"]["id"] == batch["id"] and each["spec"]["batch"]["index"] != 0:
            yield Wake(Key("Instance", _namespace(each), each["metadata"]["name"]), How.SOON)


def _heard(first: Obj) -> tuple[Any, ...]:
    status = first.get("status", {})
    said = next(((each["reason"], each["message"]) for each in status.get("conditions", ()) if each["type"] == "Launched"), None)
    return (first["metadata"].get("deletionTimestamp"), "launch" in status, said)


def _owner(obj: Obj, kind: str, how: How) -> Iterator[Wake]:
    for owner in obj["metadata"].get("ownerReferences", ()):
        if owner["kind"] == kind:
            yield Wake(Key(kind, _namespace(obj), owner["name"]), how)


def _all(objects: Lookup, namespace: str, *kinds: str) -> Iterator[Wake]:
    for kind in kinds:
        for each in objects.list(kind):
            if _namespace(each) == namespace:
                yield Wake(Key(kind, namespace, each["metadata"]["name"]), How.SOON)


def _namespace(obj: Obj) -> str:
    return obj["metadata"].get("namespace", "default")
