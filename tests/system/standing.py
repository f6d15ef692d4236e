"""How things stand, without what differs from run to run: two systems that stand alike are alike to their user.

Tests that lead a system away and back compare with it. It reads objects alone, as the API gives them, and knows no home.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, cast

from controller.ports import Obj

#: What is a time, an id, a count of writes, or (owner references) the name of one.
_PASSING = frozenset(
    {
        *("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "ownerReferences"),
        *("lastTransitionTime", "observedGeneration", "batch", "index", "launch", "readyTime"),
    }
)
#: The record of the last replacement of a failed machine: kept until the next one, as it paces that.
_KEPT = frozenset(("replacement",))
#: What follows from the name of a revision, whatever changed in the template: these fields, and what Progressing says at rest.
_OF_REVISIONS = frozenset(("revision", "updatedReplicas"))
_AT_REST = ("Converged", "RevisionChanged")
#: Addresses and ids of machines, simulated and local, and the number at the end of an Instance's name: another machine has others.
_ADDRESS = re.compile(r"\b(?:10|127|198\.18)(?:\.\d+){2,3}\b")
_MACHINE = re.compile(r"\bm-\d{6}\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-\d+\b")
_NUMBER = re.compile(r"\b([a-z][-a-z0-9]*-[a-z]+)-\d{1,4}\b")

Standing = dict[str, str]


def standing(objects: Iterable[Obj]) -> Standing:
    """Each object but Events, Secrets and ConfigMaps, by kind and name; Instances by their order. Equal where all stands alike."""
    found: dict[str, list[str]] = {}
    for obj in objects:
        kind, metadata = obj["kind"], obj["metadata"]
        part = {"metadata": {name: value for name, value in metadata.items() if value}, **_without(obj, ("metadata",))}
        name = obj["spec"]["service"] if kind == "Instance" else metadata["name"]
        found.setdefault(f"{kind} {name}", []).append(_text(_stripped(part, _PASSING | _KEPT)))
    return {name: "\n".join(sorted(texts)) for name, texts in found.items()}


def effects(objects: Iterable[Obj], written: tuple[str, ...]) -> Standing:
    """As `standing`, of what a change has brought about: not what a user writes of the kinds `written`, nor that a revision is another."""
    derived: list[Obj] = []
    for obj in objects:
        if obj["kind"] == "ControllerRevision":
            continue
        parts = ("spec", "metadata") if obj["kind"] in written else ("metadata",)
        kept = _stripped(_without(obj, parts), _OF_REVISIONS)
        status: Obj = kept.get("status", {})
        said = [each for each in status.get("conditions", ()) if (each["type"], each["reason"] in _AT_REST) != ("Progressing", True)]
        named = {"metadata": {"name": obj["metadata"]["name"]}, "spec": kept.get("spec", {})}
        derived.append({**kept, **named, "status": {**status, "conditions": said}})
    return standing(derived)


def difference(before: Standing, after: Standing) -> str:
    """What differs, for a failing test's reader."""
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return "\n".join(f"{name}\n  - {before.get(name)}\n  + {after.get(name)}" for name in names)


def _without(obj: Obj, parts: tuple[str, ...]) -> Obj:
    return {name: value for name, value in obj.items() if name not in parts}


def _stripped(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {name: _stripped(each, names) for name, each in cast(Obj, value).items() if name not in names}
    if isinstance(value, list):
        return [_stripped(each, names) for each in cast(list[Any], value)]
    return value


def _text(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return _NUMBER.sub(r"\1-N", _MACHINE.sub("<machine>", _ADDRESS.sub("<address>", text)))


__all__ = ["Standing", "difference", "effects", "standing"]
