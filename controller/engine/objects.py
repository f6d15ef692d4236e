"""What the engine knows of the store's objects: a cache fed by the watch and by the answers to our own writes.

An answer to a write goes in at once and an older event is dropped, so a pass never sees less than it wrote. Reads that
must be live go to the store. Every write of the engine goes through here: one way to write, a JSON merge patch of the
difference between the object as last seen and as wanted, at the resourceVersion it was seen at (design section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from controller import errors
from controller.api import meta
from controller.api.kinds import BY_KIND
from controller.api.meta import API_VERSION, Metadata
from controller.ports import Change, Changed, Event, Gone, Key, Obj, Snapshot, Store
from controller.stores import merge

M = TypeVar("M", bound=BaseModel)

#: UIDs of objects that have gone are remembered so that a late event does not bring one back; so many.
_GONE_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pass over an object cannot be finished: the API refuses a write. It stands in the object's Ready condition meanwhile."""

    reason: str
    message: str
    since: str


Listener = Callable[[Obj | None, Obj | None], None]


def key_of(obj: Obj) -> Key:
    metadata = obj["metadata"]
    return Key(obj["kind"], metadata.get("namespace", "default"), metadata["name"])


class Objects:
    """The cache and the writer. One worker holds a key at a time, so writes to one object do not meet each other here."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.writes = 0
        self._by_kind: dict[str, dict[Key, Obj]] = {}
        self._models: dict[Key, tuple[str, BaseModel]] = {}
        self._children: dict[str | Key, set[Key]] = {}
        #: What `children` answered, until another child comes or one goes.
        self._sorted: dict[tuple[str | Key, str], tuple[Key, ...]] = {}
        self._gone: dict[str, None] = {}
        self._listeners: list[Listener] = []
        self._troubles: dict[Key, Trouble] = {}

    # --- reading
    def listen(self, listener: Listener) -> None:
        """Call `listener(old, new)` at each change: of an object that is new, `old` is None; of one that goes, `new`."""
        self._listeners.append(listener)

    def get(self, key: Key) -> Obj | None:
        return self._by_kind.get(key.kind, {}).get(key)

    def list(self, kind: str) -> list[Obj]:
        return list(self._by_kind.get(kind, {}).values())

    def keys(self, kind: str) -> tuple[Key, ...]:
        return tuple(self._by_kind.get(kind, ()))

    def children(self, parent: str | Key, kind: str) -> tuple[Key, ...]:
        """Keys of the objects of a kind that the object with this UID owns, or that carry this group's label; sorted."""
        known = self._sorted.get((parent, kind))
        if known is None:
            known = tuple(sorted(key for key in self._children.get(parent, ()) if key.kind == kind))
            if known:
                self._sorted[parent, kind] = known
        return known

    def strays(self, group: Key) -> list[Obj]:
        """Instances with the label of this group that belong to no group there is: who restored them left the owner out, or it is gone."""
        own = self.get(group)
        owned = self._children.get(own["metadata"]["uid"], frozenset[Key]()) if own is not None else frozenset[Key]()
        others = self._children.get(group, frozenset[Key]()) - owned
        found = (self.get(key) for key in sorted(others) if key.kind == "Instance")
        return [each for each in found if each is not None and not self._has_owner(each)]

    def _has_owner(self, obj: Obj) -> bool:
        namespace = obj["metadata"].get("namespace", "default")
        owners: list[Obj] = obj["metadata"].get("ownerReferences", [])
        known = (self.get(Key(each["kind"], namespace, each["name"])) for each in owners)
        return any(there is not None and there["metadata"]["uid"] == each["uid"] for each, there in zip(owners, known, strict=True))

    def count(self, uid: str, kind: str) -> int:
        """How many objects of a kind belong to the object with this UID."""
        return sum(1 for key in self._children.get(uid, ()) if key.kind == kind)

    def has(self, uid: str, kind: str) -> bool:
        """Whether any object of a kind belongs to the object with this UID."""
        return any(key.kind == kind for key in self._children.get(uid, ()))

    def owns_more_than(self, uid: str, number: int) -> bool:
        """Whether so many objects belong to the object with this UID, or to those that do."""
        own = self._children.get(uid, set())
        if len(own) > number:
            return True
        uids = (obj["metadata"]["uid"] for key in own if (obj := self.get(key)) is not None)
        return sum(len(self._children.get(each, ())) for each in uids) > number

    def model(self, key: Key, model: type[M]) -> M | None:
        """The object parsed, once for each version of it."""
        obj = self.get(key)
        if obj is None:
            return None
        version = obj["metadata"]["resourceVersion"]
        kept = self._models.get(key)
        if kept is None or kept[0] != version:
            kept = (version, BY_KIND[key.kind].model.model_validate(obj))
            self._models[key] = kept
        if not isinstance(kept[1], model):
            raise TypeError(f"{key} is not a {model.__name__}")
        return kept[1]

    def must_be_as_planned(self, key: Key, generation: int) -> None:
        """What is done is what the user wants now, who may have changed the object since the plan was made. Raises Conflict."""
        seen = self.get(key)
        if seen is not None and seen["metadata"]["generation"] != generation:
            raise errors.Conflict(f"{key} was changed since")

    def models(self, kind: str, model: type[M]) -> list[M]:
        found = (self.model(key, model) for key in list(self._by_kind.get(kind, {})))
        return [each for each in found if each is not None]

    # --- the watch
    def take(self, change: Change) -> None:
        """Take in what the watch said."""
        match change:
            case Snapshot(objects):
                self._relist(objects)
            case Changed(obj):
                self._put(obj)
            case Gone(obj):
                self._remove(key_of(obj), obj["metadata"]["uid"])

    def _relist(self, objects: Iterable[Obj]) -> None:
        listed = {key_of(obj): obj for obj in objects}
        for kind in list(self._by_kind.values()):
            for key in [key for key in kind if key not in listed]:
                self._remove(key, kind[key]["metadata"]["uid"])
        for obj in listed.values():
            self._put(obj)

    def _put(self, obj: Obj) -> None:
        key, uid = key_of(obj), obj["metadata"]["uid"]
        old = self.get(key)
        if uid in self._gone or (old is not None and not _newer(obj, old)):
            return  # Of another UID: told late of one that stood here before.
        if old is not None and old["metadata"]["uid"] != uid:
            self._remove(key, old["metadata"]["uid"])
            old = None
        self._by_kind.setdefault(key.kind, {})[key] = obj
        before, after = set(() if old is None else _parents(old)), set(_parents(obj))
        self._disown(key, before - after)
        for parent in after - before:
            self._children.setdefault(parent, set()).add(key)
            self._sorted.pop((parent, key.kind), None)
        self._tell(old, obj)

    def _remove(self, key: Key, uid: str) -> None:
        self._gone[uid] = None
        while len(self._gone) > _GONE_REMEMBERED:
            del self._gone[next(iter(self._gone))]
        old = self.get(key)
        if old is None or old["metadata"]["uid"] != uid:
            return
        del self._by_kind[key.kind][key]
        self._models.pop(key, None)
        self._troubles.pop(key, None)
        self._disown(key, _parents(old))
        self._tell(old, None)

    def _disown(self, key: Key, parents: Iterable[str | Key]) -> None:
        for parent in parents:
            self._sorted.pop((parent, key.kind), None)
            siblings = self._children.get(parent, set())
            siblings.discard(key)
            if not siblings:
                self._children.pop(parent, None)

    def _tell(self, old: Obj | None, new: Obj | None) -> None:
        for listener in self._listeners:
            listener(old, new)

    # --- writing
    async def create(self, obj: Obj) -> Obj:
        self.writes += 1
        made = await self.store.create(obj)
        self._put(made)
        return made

    async def write_status(self, key: Key, status: BaseModel) -> bool:
        """Make the status what it is wanted to be; False where it is so already. Raises Conflict.

        Fields that the model does not know stay: a newer version may have written them.
        """
        seen, wanted = self._seen(key), dump(status)
        trouble = self._troubles.get(key)
        if trouble is not None:
            wanted = _troubled(wanted, trouble, seen)
        stands: Obj = seen.get("status", {})
        # What else a newer version has put there, however deep, is no difference.
        patch = merge.difference(_understood(stands, dump(type(status).model_validate(stands))), wanted)
        if not patch:
            return False
        self.writes += 1
        await self._patched(key, seen, {"status": patch}, "status")
        return True

    async def say_trouble(self, key: Key, trouble: Trouble) -> None:
        """Let the Ready condition say why nothing goes on, now and in each status that is written until `clear_trouble`."""
        self._troubles[key] = trouble
        seen = self.get(key)
        status: Obj = seen.get("status", {}) if seen is not None else {}
        if seen is not None and "status" in BY_KIND[key.kind].model.model_fields:
            self.writes += 1
            patch = {"conditions": _troubled(status, trouble, seen)["conditions"]}
            if patch["conditions"] != status.get("conditions"):
                await self._patched(key, seen, {"status": patch}, "status")

    def clear_trouble(self, key: Key) -> bool:
        """A pass was finished; whether there was trouble, so that the status is to be written once more."""
        return self._troubles.pop(key, None) is not None

    async def write_launch(self, key: Key, launch: Obj) -> None:
        """Record the launch in status, alone, at the version seen. Raises Conflict."""
        self.writes += 1
        await self._patched(key, self._seen(key), {"status": {"launch": launch}}, "status")

    async def write(self, key: Key, part: Obj) -> bool:
        """Merge `part` (of metadata or spec) into the object; False where that changes nothing. Raises Conflict."""
        seen = self._seen(key)
        if merge.apply(seen, part) == seen:
            return False
        self.writes += 1
        await self._patched(key, seen, part, "")
        return True

    async def disown(self, key: Key, owner: str) -> None:
        """Take the owner of that UID off the object, and leave others. Raises Conflict."""
        owners = [each for each in self._seen(key)["metadata"].get("ownerReferences", ()) if each["uid"] != owner]
        await self.write(key, {"metadata": {"ownerReferences": owners or None}})

    async def _patched(self, key: Key, seen: Obj, patch: Obj, subresource: Any) -> None:
        try:
            answer = await self.store.patch(key, patch, version=seen["metadata"]["resourceVersion"], subresource=subresource)
        except errors.ObjectNotFound:
            self._remove(key, seen["metadata"]["uid"])
            raise
        except errors.Conflict:
            await self.refresh(key)
            raise
        if answer["metadata"].get("deletionTimestamp") and not answer["metadata"].get("finalizers"):
            self._remove(key, answer["metadata"]["uid"])
        else:
            self._put(answer)

    async def delete(self, key: Key, *, as_seen: bool = False) -> None:
        """Delete the very object that was seen; one that is gone is no error. Raises Conflict, with `as_seen` after any change too."""
        obj = self.get(key)
        if obj is None or obj["metadata"].get("deletionTimestamp"):
            return
        self.writes += 1
        uid, version = obj["metadata"]["uid"], obj["metadata"]["resourceVersion"] if as_seen else None
        try:
            marked = await self.store.delete(key, uid=uid, version=version)
        except errors.ObjectNotFound:
            self._remove(key, uid)
            return
        if marked is not None and marked["metadata"].get("finalizers"):
            # A pass that comes before the watch has told it must not take the object for one that stays.
            self._put(marked)

    async def refresh(self, key: Key) -> Obj | None:
        """Read the object live and take it in."""
        old = self.get(key)
        try:
            obj = await self.store.get(key)
        except errors.ObjectNotFound:
            # What was made since under this name is another object.
            if old is not None:
                self._remove(key, old["metadata"]["uid"])
            return None
        self._put(obj)
        return obj

    async def set_finalizer(self, key: Key, finalizer: str, *, wanted: bool) -> None:
        """Add or remove one finalizer, leaving others as they are."""
        seen = self._seen(key)
        now: list[str] = seen["metadata"].get("finalizers", [])
        then = [*(each for each in now if each != finalizer), *([finalizer] if wanted else [])]
        if then != now:
            await self.write(key, {"metadata": {"finalizers": then or None}})

    async def guard(self, key: Key, finalizer: str, *, wanted: bool) -> None:
        """Add or remove one finalizer of an object that is read live and never kept here: a Secret. Raises Conflict."""
        try:
            seen = await self.store.get(key)
            now: list[str] = seen["metadata"].get("finalizers", [])
            then = [*(each for each in now if each != finalizer), *([finalizer] if wanted else [])]
            if then == now or (wanted and seen["metadata"].get("deletionTimestamp")):
                return
            self.writes += 1
            await self.store.patch(key, {"metadata": {"finalizers": then or None}}, version=seen["metadata"]["resourceVersion"])
        except errors.ObjectNotFound:
            return

    async def event(self, event: Event) -> None:
        await self.store.record(event)

    def _seen(self, key: Key) -> Obj:
        seen = self.get(key)
        if seen is None:
            raise errors.ObjectNotFound(str(key))
        return seen


def _understood(seen: Obj, known: Obj) -> Obj:
    """What a model has taken in of what was seen, as it stands there: `known` is the model's own words for it."""
    return {name: _part(value, known[name]) for name, value in seen.items() if name in known}


def _part(seen: Any, known: Any) -> Any:
    if isinstance(seen, dict) and isinstance(known, dict):
        return _understood(cast(Obj, seen), cast(Obj, known))
    if isinstance(seen, list) and isinstance(known, list):
        return [_part(*each) for each in zip(cast(list[Any], seen), cast(list[Any], known), strict=True)]
    return cast(Any, seen)


def _troubled(status: Obj, trouble: Trouble, seen: Obj) -> Obj:
    """The status with that trouble in its Ready condition."""
    stands: list[Obj] = seen.get("status", {}).get("conditions", [])
    before = next((each for each in stands if each["type"] == "Ready"), None)
    since = before["lastTransitionTime"] if before is not None and before["status"] == "False" else trouble.since
    said = {
        "type": "Ready",
        "status": "False",
        "reason": trouble.reason,
        "message": trouble.message,
        "lastTransitionTime": since,
        "observedGeneration": seen["metadata"].get("generation", 0),
    }
    others = [each for each in status.get("conditions", ()) if each["type"] != "Ready"]
    return {**status, "conditions": sorted([*others, said], key=lambda each: each["type"])}


def _newer(new: Obj, old: Obj) -> bool:
    """resourceVersions are comparable as numbers in both homes (KEP-5504 for Kubernetes)."""
    first, second = new["metadata"]["resourceVersion"], old["metadata"]["resourceVersion"]
    return int(first) > int(second) if first.isdigit() and second.isdigit() else first != second


def typed(kind: str, metadata: Obj, spec: Obj) -> Obj:
    """A new object of one of our kinds."""
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _parents(obj: Obj) -> Iterator[str | Key]:
    """The UIDs of its owners, and the group that its label names."""
    metadata = obj["metadata"]
    yield from (each["uid"] for each in metadata.get("ownerReferences", ()))
    if group := metadata.get("labels", {}).get(meta.GROUP_LABEL):
        yield Key("InstanceGroup", metadata.get("namespace", "default"), group)


def owner_reference(kind: str, metadata: Metadata) -> Obj:
    """What makes the object of that kind and metadata the owner of another."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": metadata.name,
        "uid": metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def dump(model: BaseModel) -> Obj:
    """A model as the JSON that is stored: camelCase, what is None left out."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)
