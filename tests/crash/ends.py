"""What a run leaves, told apart from what the same run without a fault leaves: which machines were made and ended, what its objects say.

Masked is what no two runs have in common: identities, addresses, times, and the number in an Instance's name, which depends on whether
another has it still. Of a status the conditions' reasons are compared. What the garbage collector is yet to take is as good as gone:
that of an API server works in real time.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.ports import Obj
from tests.simulated.harness import System
from tests.simulated.world import NEVER, SimulatedMachine

_KINDS = ("Cloud", "InstanceTemplate", "Infrastructure", "InstanceGroup", "ControllerRevision")
_MASKED = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "uid"),
    # Of a machine, or of the light EC2.
    (re.compile(r"\d+\.\d+\.\d+\.\d+(:\d+)?"), "address"),
    # Of another Instance, in what an Instance is told.
    (re.compile(r'"index": \d+, "name": "(.*?)-\d+"'), r'"name": "\1"'),
)


@dataclass(frozen=True, slots=True)
class End:
    """What there is at the end: machines ever made and those that ended, by service and size; what each object says, by kind and name."""

    made: Mapping[str, int]
    ended: Mapping[str, int]
    objects: Mapping[str, Mapping[str, str]]


def end(system: System) -> End:
    """What the system has come to; while its engine runs."""
    machines = system.world.machines.values()
    there = without_garbage([each for kind in _KINDS for each in system.engine.objects.list(kind)])
    objects = {f"{each['kind']} {each['metadata']['name']}": _said(each) for each in there}
    alike: Counter[str] = Counter()
    for each in system.instances():
        kind = f"Instance of {each['spec']['service']} by {each['spec']['implementation']['name']}"
        alike[kind] += 1
        objects[f"{kind}, number {alike[kind]}"] = _said(each)
    return End(_counted(machines), _counted(each for each in machines if each.ending != NEVER), objects)


def without_garbage(objects: Sequence[Obj]) -> list[Obj]:
    """The objects without those whose owners have all gone."""
    there = {each["metadata"]["uid"] for each in objects}
    owners = [{owner["uid"] for owner in each["metadata"].get("ownerReferences", ())} for each in objects]
    return [each for each, by in zip(objects, owners, strict=True) if not by or by & there]


def unlike(free: End, other: End) -> list[str]:
    """What is otherwise than without a fault."""
    found = {
        "made": _differences(free.made, other.made),
        "ended": _differences(free.ended, other.ended),
        "objects": _differences(dict.fromkeys(free.objects, "there"), dict.fromkeys(other.objects, "there")),
    }
    for name in sorted(free.objects.keys() & other.objects.keys()):
        found["objects"] += [f"{name}: {each}" for each in _differences(free.objects[name], other.objects[name])]
    return [f"{word}: {each}" for word, differences in found.items() for each in differences]


def _differences(wanted: Mapping[str, object], got: Mapping[str, object]) -> list[str]:
    keys = sorted(each for each in {*wanted, *got} if wanted.get(each) != got.get(each))
    return [f"{each} is {got.get(each)}, without a fault {wanted.get(each)}" for each in keys]


def _counted(machines: Iterable[SimulatedMachine]) -> Counter[str]:
    return Counter(f"{each.tags['occopus.io/service']} {each.spec.get('size', '')}" for each in machines)


def _said(obj: Obj) -> dict[str, str]:
    """Its fields and its conditions, each for itself."""
    fields = {**obj.get("data", {}), **obj.get("spec", {}), "deleted": "deletionTimestamp" in obj["metadata"]}
    said = {name: _masked(value) for name, value in fields.items() if name not in ("batch", "index")}
    return said | {each["type"]: f"{each['status']} {each['reason']}" for each in obj.get("status", {}).get("conditions", [])}


def _masked(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    for found, instead in _MASKED:
        text = found.sub(instead, text)
    return text
