"""Every field of what a user writes, changed and changed back under a real operator on a real API server.

Each field is changed once at least, several of an object at a time, so that it stays within a minute; one at a time and to every odd
value is what `tests/system/test_every_field.py` does. And of every change there both homes say the same: taken or refused.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from controller import errors
from controller.api import crd
from controller.clouds import plugins
from controller.ports import Obj
from controller.stores import merge, resources
from controller.stores.rules import Rules
from tests.api import samples
from tests.cluster.fixtures import Cluster
from tests.cluster.operator import Place, Story, at_a_place
from tests.system import everything, mutations
from tests.system.everything import NUMBERS, Setting
from tests.system.mutations import Field, Mutation, writable
from tests.system.mutations import Place as At
from tests.system.standing import Standing, difference, standing

SETTING = Setting(
    "local",
    {},
    {"bootSeconds": 0},
    serve="(exec python3 -m http.server 8080 --bind $OCCOPUS_ADDRESS) &",
    port=8080,
)
#: A directory that nobody can make.
NOWHERE = "/dev/null/nowhere"
#: Fields that have no other value with which an object would be taken, and why.
FIXED = {
    "Cloud.spec.local": "the kind of a Cloud never changes",
    "Infrastructure.spec": "an identity never changes, being unset included",
    "Infrastructure.spec.id": "an identity never changes, being unset included",
}
#: So many fields of an object are changed at once: few enough that one that stops all does not hide many.
TOGETHER = 6
#: It has come to rest when for so long nothing was written. A machine that serves is found healthy within a second.
QUIET_SECONDS = 1.0
#: What does not come to rest by then is left to itself: that it goes back is what is asked.
REST_SECONDS = 8.0
#: How many requests about verdicts are on their way at once.
_AT_ONCE = 16
#: What a field is changed to: values with which the most goes on first, its removal last; any other value is in between.
_FIRST = ("given", "other", "one more", "toggled", "doubled", "maximum", "longest", "minimum", "odd", "example")
_LAST = ("empty", "removed", "null")


@functools.cache
def _rules() -> Rules:
    return Rules((*samples.PLUGINS, *plugins.installed()))


@functools.cache
def _mutations() -> tuple[Mutation, ...]:
    """Of the kinds of cloud `local` alone: another kind's fields cannot stand beside it."""
    local = [each for each in plugins.installed() if each.kind == SETTING.kind]
    fields = mutations.fields(crd.crds(local))
    hints = mutations.Hints(everything.HINTS.maxima, {**everything.HINTS.values, "Cloud.spec.local.directory": NOWHERE})
    return mutations.mutations(fields, everything.objects(SETTING), hints)


def _taken(old: Obj, new: Obj) -> Obj | None:
    """The object as the file home would store it; None where it would refuse it."""
    try:
        return _rules().check(new, old)
    except errors.Rejected:
        return None


# --- both homes say the same ------------------------------------------------------------------------------------------
async def verdicts(place: Place) -> None:
    stored: dict[tuple[str, str], Obj] = {}
    for each in everything.objects(SETTING):
        body = {**each, "metadata": {**each["metadata"], "namespace": place.namespace}}
        made = await place.ask("POST", resources.resource(each["kind"]).path(place.namespace), body)
        assert made.code == 201, made
        stored[each["kind"], each["metadata"]["name"]] = made.body
    limit = asyncio.Semaphore(_AT_ONCE)

    async def ask(mutation: Mutation) -> str:
        old = stored[mutation.field.kind, mutation.name]
        new = mutation.of(old)
        path = resources.resource(mutation.field.kind).path(place.namespace, mutation.name)
        async with limit:
            said = await place.ask("PUT", path, new, params={"dryRun": "All", "fieldValidation": "Strict"})
        assert said.code in (200, 400, 422), (str(mutation), said)
        ours = _taken(old, new)
        theirs = said.body if said.code == 200 else None
        same = (ours and writable(ours)) == (theirs and writable(theirs))
        return "" if same else f"{mutation}: ours {ours and writable(ours)}, the server's {said.raw[:500]!r}"

    assert list(filter(None, await asyncio.gather(*map(ask, _mutations())))) == []


# --- there and back under an operator ---------------------------------------------------------------------------------
Key = tuple[str, str]


@dataclass(slots=True)
class Round:
    """Changes that are made together."""

    changes: list[Mutation] = field(default_factory=list[Mutation])

    def of(self, key: Key, obj: Obj) -> Obj:
        """The object, its part of the changes made."""
        mine = [each for each in self.changes if _key(each) == key]
        return functools.reduce(lambda changed, each: each.of(changed), mine, obj)

    def takes(self, mutation: Mutation, stored: Obj) -> bool:
        """Whether it can stand beside the others: in no part of what they change, and taken by the API together with them."""
        spots = [_spot(each) for each in self.changes if _key(each) == _key(mutation)]
        at = _spot(mutation)
        beside = not any(at[: len(spot)] == spot or spot[: len(at)] == at for spot in spots)
        return beside and len(self.changes) < TOGETHER and _taken(stored, mutation.of(self.of(_key(mutation), stored))) is not None


def _key(mutation: Mutation) -> Key:
    return mutation.field.kind, mutation.name


def _spot(mutation: Mutation) -> At:
    """What it changes; an entry that goes moves those after it, and so changes its list."""
    return mutation.place[:-1] if isinstance(mutation.place[-1], int) else mutation.place


def _rounds(chosen: Callable[[Field], bool]) -> list[Round]:
    """As few as change each field once, with a value that is taken, where there is one."""
    rounds: list[Round] = []
    stored = {(each["kind"], each["metadata"]["name"]): _rules().check(each) for each in everything.objects(SETTING)}
    for options in _by_field(chosen):
        for each in sorted(options, key=_preference):
            obj = stored[_key(each)]
            if _taken(obj, each.of(obj)) is not None:
                fitting = next((one for one in rounds if one.takes(each, obj)), None)
                if fitting is None:
                    rounds.append(fitting := Round())
                fitting.changes.append(each)
                break
    return rounds


def _by_field(chosen: Callable[[Field], bool]) -> Iterator[list[Mutation]]:
    found: dict[str, list[Mutation]] = {}
    for each in _mutations():
        if chosen(each.field):
            found.setdefault(str(each.field), []).append(each)
    yield from found.values()


def _preference(mutation: Mutation) -> int:
    if mutation.what in _FIRST:
        return _FIRST.index(mutation.what)
    return len(_FIRST) + 1 + _LAST.index(mutation.what) if mutation.what in _LAST else len(_FIRST)


class Trial:
    """What has come up at a place, and how it stood then."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.began: Standing = {}

    async def begin(self) -> None:
        await self.place.lead()
        for each in everything.described(SETTING):
            body = {**each, "metadata": {**each["metadata"], "namespace": self.place.namespace}}
            made = await self.place.ask("POST", resources.resource(each["kind"]).path(self.place.namespace), body)
            assert made.code == 201, made
        await self.place.settled("shop", NUMBERS)
        await self.place.until(self._is_counted, "the Cloud says how many machines there are")
        await self._rest()
        self.began = standing(await self._objects())

    async def _is_counted(self) -> bool:
        """Whether the Cloud has counted the last of its machines too: it may do so ten seconds late (`cloud.reconcile.COUNT_SECONDS`)."""
        return [each["status"]["machines"] for each in await self.place.objects("Cloud")] == [sum(NUMBERS.values())]

    async def there_and_back(self, changed: Round) -> None:
        kept = {key: await self._now(*key) for key in dict.fromkeys(map(_key, changed.changes))}
        for key, obj in kept.items():
            await self._write(obj, changed.of(key, obj))
        await self._scale(1)
        await self._rest()
        for obj in kept.values():
            await self._write(await self._again(obj), obj)
        await self._scale(0)
        try:
            await self.place.until(self._as_before, "it ends as it began")
        except AssertionError as error:
            # The short part first: of a long output a reader may be shown the head alone.
            differs = difference(self.began, standing(await self._objects()))
            raise AssertionError(f"{'; '.join(map(str, changed.changes))}\n{differs}\n{error}") from None

    async def _as_before(self) -> bool:
        """Whether it stands as it began, once what InputChanged names is deleted, and stays so."""
        if standing(await self._objects()) != self.began:
            await self._follow_reports()
            return False
        await self._rest()
        return standing(await self._objects()) == self.began

    async def _follow_reports(self) -> None:
        if not await self.place.is_ready("shop"):
            return
        for group in await self.place.objects("InstanceGroup"):
            for each in group["status"]["conditions"]:
                if each["reason"] == "InputChanged":
                    for name in each["message"].removeprefix("what ").partition(" were told")[0].split(", "):
                        await self.place.delete("Instance", name)

    async def _scale(self, more: int) -> None:
        """So many more of app than at first: made by the description of now."""
        await self.place.patch("InstanceGroup", "shop-app", {"spec": {"replicas": NUMBERS["app"] + more}})

    async def _write(self, now: Obj, wanted: Obj) -> None:
        patch = merge.difference(writable(now), writable(wanted))
        said = await self.place.patch(now["kind"], now["metadata"]["name"], patch)
        assert said.code == 200, (patch, said)

    async def _now(self, kind: str, name: str) -> Obj:
        """The object; of Instances the first of app, whose name may be another by now."""
        found = await self.place.objects(kind)
        return next(each for each in found if each["metadata"]["name"] == name or (kind == "Instance" and each["spec"]["service"] == "app"))

    async def _again(self, obj: Obj) -> Obj:
        found = await self.place.objects(obj["kind"])
        return next(each for each in found if each["metadata"]["uid"] == obj["metadata"]["uid"])

    async def _objects(self) -> list[Obj]:
        kinds = (*mutations.WRITTEN, "InstanceGroup", "Instance", "ControllerRevision")
        return [{**each, "kind": kind} for kind in kinds for each in await self.place.objects(kind)]

    async def _rest(self) -> None:
        """Wait until nothing was written for a while, or for as long as is waited for that."""
        loop = asyncio.get_running_loop()
        until, since, seen = loop.time() + REST_SECONDS, loop.time(), list[str]()
        while loop.time() < min(until, since + QUIET_SECONDS):
            await asyncio.sleep(0.1)
            now = [each["metadata"]["resourceVersion"] for each in await self._objects()]
            since, seen = (since, seen) if now == seen else (loop.time(), now)


def there_and_back_again(chosen: Callable[[Field], bool]) -> Story:
    async def story(place: Place) -> None:
        trial = Trial(place)
        await trial.begin()
        machines = {each["id"] for each in place.live()}
        for each in _rounds(chosen):
            await trial.there_and_back(each)
        await place.one_machine_each(NUMBERS)
        if chosen is _of_templates:
            # What runs goes on, whatever its template has become; one more of app was made by each.
            assert {each["id"] for each in place.live()} == machines
            assert place.most_live() == {**NUMBERS, "app": NUMBERS["app"] + 1}
        for each in place.operators:
            assert not re.search("Traceback|ERROR", each.log()), each.log()
        await place.delete_all()

    return story


def _of_variables(field: Field) -> bool:
    return ".variables" in field.path


def _of_templates(field: Field) -> bool:
    return field.kind == "InstanceTemplate" and not _of_variables(field)


def _of_infrastructures(field: Field) -> bool:
    return field.kind == "Infrastructure" and not _of_variables(field)


def _of_others(field: Field) -> bool:
    return not _of_templates(field) and not _of_infrastructures(field)


PARTS = (_of_templates, _of_infrastructures, _of_others)


def test_every_field_is_changed() -> None:
    changed = {str(each.field) for chosen in PARTS for one in _rounds(chosen) for each in one.changes}
    assert {str(each.field) for each in _mutations()} - changed == set(FIXED)


def test_verdicts(cluster: Cluster, tmp_path: Path) -> None:
    at_a_place(cluster, tmp_path, verdicts)


def test_there_and_back_again(cluster: Cluster, tmp_path: Path) -> None:
    at_a_place(cluster, tmp_path, *map(there_and_back_again, PARTS))
