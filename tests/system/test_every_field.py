"""An odd value at every field of what a user writes: CR → CR' → CR again ends as it began.

After Acto's differential and rollback properties: of a system that has come up, one field is changed (`tests/system/mutations.py`);
it comes to rest or says why not; a service is scaled out by one, so that a machine is made by the new description; and all is put
back. Then all must stand as before (`tests/system/trial.py`). What was changed has to be seen in something else than the change,
but for what `UNSEEN` names; and each field has to be taken with some other value, but for those of `FIXED`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller import errors
from controller.api import crd
from controller.ports import Obj
from controller.stores.rules import Rules
from tests.simulated.cloud import plugin
from tests.simulated.world import World
from tests.system import clouds, everything, mutations
from tests.system.mutations import Field, Mutation
from tests.system.rig import Rig, play, steady
from tests.system.trial import SETTING, Outcome, Trial

pytestmark = pytest.mark.long

#: Fields that have no other value with which an object would be taken, and why.
FIXED = {
    "Cloud.spec": "the kind of a Cloud and its region never change",
    "Cloud.spec.simulated": "the kind of a Cloud and its region never change",
    "Cloud.spec.simulated.region": "the region of a Cloud never changes",
    "InstanceTemplate.spec.health.probes[].icmp": "it has no fields; its probe is tried as another kind of probe",
    "Infrastructure.spec": "an identity never changes, being unset included",
    "Infrastructure.spec.id": "an identity never changes, being unset included",
}
#: Changes that show in nothing else, and why that is right.
UNSEEN = {
    r"\w+\.metadata\.(labels|annotations): .*": "they are their user's, and ours are there for selectors",
    r"\w+\.metadata\.finalizers: .*": "ours is put back at once, others' are not ours",
    r"Cloud\.spec\.maxInstances: (removed|maximum|doubled|one more)": "there is room enough in any case",
    r".*\.(services|variables): other way round": "their order means nothing",
    r".*\.variables: one more": "no template reads it",
    r"InstanceTemplate\.spec\.implementations: one more": "the first one has room",
    r"InstanceTemplate\.spec\.implementations\[\]\.simulated: (empty|example)": "the driver's defaults are the values of the base",
    r"InstanceTemplate\.spec\.implementations\[\]\.simulated\.(image|size): (removed|null)": "so are the driver's defaults",
    r"InstanceTemplate\.spec\.health\.(address|probes\[\]\.\w+(Seconds|Threshold)): (removed|null)": "the default is the value of the base",
    r"InstanceTemplate\.spec\.health\.probes\[\]\.http\.(path|method|scheme|statusM..): (removed|null)": "so are these defaults",
    r"Infrastructure\.spec\.services\[\]\.replicas: (removed|null)": "the number stays what it was until somebody changes it",
    r"Infrastructure\.spec\.services\[\]\.scaling\.max: (removed|null|maximum|doubled|one more)": "nobody asks for so many",
    r"Infrastructure\.spec\.services\[\]\.dependsOn\[\]\.onChange: Replace": "it acts as Report for now",
    r"Infrastructure\.spec\.(paused|services\[\]\.dependsOn\[\]\.onChange): (removed|null)": "the default is the value of the base",
}


@functools.cache
def _documents() -> dict[str, mutations.Schema]:
    return dict(crd.crds((clouds.guarded(plugin(World(lambda: 0.0)), lambda _, __: None),)))


@functools.cache
def _objects() -> list[Obj]:
    return everything.objects(SETTING)


@functools.cache
def _mutations() -> dict[str, list[Mutation]]:
    """What is tried, by part of the kinds: fields at the top of a spec that hold others, and the rest of each kind."""
    found: dict[str, list[Mutation]] = {}
    for each in mutations.mutations(mutations.fields(_documents()), _objects(), everything.HINTS):
        found.setdefault(_part(each.field), []).append(each)
    return found


def _part(field: Field) -> str:
    top = field
    while top.above is not None and top.above.above is not None:
        top = top.above
    large = (
        field.kind in ("InstanceTemplate", "Infrastructure") and top.path.startswith("spec.") and top.schema["type"] in ("array", "object")
    )
    return str(top) if large else field.kind


def _is_unseen(mutation: Mutation) -> bool:
    return any(re.fullmatch(pattern, str(mutation)) for pattern in UNSEEN)


@pytest.mark.parametrize("part", sorted(_mutations()))
def test_there_and_back_again(tmp_path: Path, caplog: pytest.LogCaptureFixture, part: str) -> None:
    outcomes = _tried(tmp_path, caplog, _mutations()[part])
    wrong = [str(each) for each, found in outcomes if not found.refused and found.seen is _is_unseen(each)]
    assert not wrong, "these show nowhere and are not in UNSEEN, or the other way round"


def _tried(path: Path, caplog: pytest.LogCaptureFixture, mutations: list[Mutation]) -> list[tuple[Mutation, Outcome]]:
    """What came of each, one after the other on one system."""
    outcomes: list[tuple[Mutation, Outcome]] = []

    async def main(rig: Rig) -> None:
        one = Trial(rig, caplog.records)
        await one.begin()
        for each in mutations:
            try:
                outcomes.append((each, await one.there_and_back(each)))
            except BaseException as error:
                error.add_note(str(each))
                raise

    play(path, main, steady(5, 2, terminating_seconds=2, shown_seconds=60))
    return outcomes


def test_every_field_is_taken_with_some_other_value() -> None:
    taken = {str(each.field) for each in _taken()}
    refused = {str(each) for each in mutations.fields(_documents())} - taken
    assert refused == set(FIXED)


def test_what_shows_nowhere_is_still_tried() -> None:
    tried = [str(each) for each in _taken()]
    assert [pattern for pattern in UNSEEN if not any(re.fullmatch(pattern, each) for each in tried)] == []


def _taken() -> Iterator[Mutation]:
    """What the API takes, by the rules of the file home."""
    rules: Rules = clouds.rules()
    objects = {(each["kind"], each["metadata"]["name"]): rules.check(each) for each in _objects()}
    for each in (one for part in _mutations().values() for one in part):
        before = objects[each.field.kind, each.name]
        try:
            rules.check(each.of(before), before)
        except errors.Rejected:
            continue
        yield each


def test_a_field_that_is_added_is_tried_by_itself() -> None:
    schema = {"type": "object", "properties": {"depth": {"type": "integer", "minimum": 1, "maximum": 9}}}
    documents = dict(_documents())
    documents["clouds.yaml"] = _with_property(documents["clouds.yaml"], "tuning", schema)
    added = [each for each in mutations.fields(documents) if "tuning" in each.path]
    tried = {str(each): each.value for each in mutations.mutations(added, _objects(), everything.HINTS)}
    assert tried["Cloud.spec.tuning.depth: maximum"] == {"depth": 9}
    assert tried["Cloud.spec.tuning: empty"] == {}


def _with_property(document: mutations.Schema, name: str, schema: mutations.Schema) -> mutations.Schema:
    return mutations.placed(
        dict(document), ("spec", "versions", 0, "schema", "openAPIV3Schema", "properties", "spec", "properties", name), schema
    )
