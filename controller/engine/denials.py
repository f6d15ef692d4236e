"""Which launches a cloud denies, and who of them asks again for all of its kind (docs/decisions/0006-denied-launch.md).

Launches of one group on one Cloud with the same implementation are denied or allowed together: one of them is sent again, the
others wait for what it is answered. Not those of other groups, for a policy may ask for tags, which name the service. Who asks is
whoever asked last, as long as it goes on asking. The launcher asks here before each launch.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from controller.api.instance import Instance
from controller.api.meta import condition
from controller.api.reasons import Reason
from controller.engine.clouds import cloud_key
from controller.ports import Key

#: Who has not asked for so long asks for others no more: longer than its pauses are.
ASKS_SECONDS = 15.0
#: What those that wait add to the cloud's words.
WAITS = "; another Instance of its group asks again, and it goes on once that one may"

#: So many places are remembered as allowed; in one that was forgotten, what an earlier process was denied is asked again by one.
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class _Place:
    """What is denied or allowed as one: a group on a Cloud, with all that an implementation says of its machines."""

    cloud: Key
    group: str
    implementation: str


@dataclass(slots=True)
class _Denial:
    driver: object
    words: str
    asker: str
    at: float
    waiting: dict[str, Key] = field(default_factory=dict[str, Key])
    #: All that asked or wait, by uid.
    concerned: set[str] = field(default_factory=set[str])


class Denials:
    """See the module. `driver` gives what a Cloud is asked through: another one has other credentials, so it is asked at once."""

    def __init__(self, driver: Callable[[Key], object | None], wake: Callable[[Key], None]) -> None:
        self._driver = driver
        self._wake = wake
        self._denials: dict[_Place, _Denial] = {}
        self._allowed: dict[_Place, None] = {}
        self._places: dict[str, _Place] = {}

    def waits(self, instance: Instance, now: float) -> str:
        """Empty if the launch may be sent; else why it waits."""
        uid, place = instance.metadata.uid, _place(instance)
        denial = self._standing(place)
        if denial is None:
            words = _said(instance)
            if place in self._allowed or not words:
                return ""
            # A process before this one, or by other credentials, was denied.
            denial = self._denials[place] = _Denial(self._driver(place.cloud), words, uid, now)
        self._places[uid] = place
        denial.concerned.add(uid)
        if uid == denial.asker or now - denial.at > ASKS_SECONDS:
            denial.asker, denial.at = uid, now
            denial.waiting.pop(uid, None)
            return ""
        denial.waiting[uid] = Key("Instance", instance.metadata.namespace, instance.metadata.name)
        return denial.words + WAITS

    def denied(self, instance: Instance, words: str, now: float) -> None:
        """The launch was sent and denied."""
        uid, place = instance.metadata.uid, _place(instance)
        self._allowed.pop(place, None)
        self._places[uid] = place
        denial = self._standing(place)
        if denial is None:
            denial = self._denials[place] = _Denial(self._driver(place.cloud), words, uid, now)
        elif denial.asker == uid:
            denial.words, denial.at = words, now
        denial.concerned.add(uid)

    def allowed(self, instance: Instance) -> None:
        """The launch was sent and not denied: all others may be sent."""
        place = _place(instance)
        self._allowed[place] = None
        if len(self._allowed) > _REMEMBERED:
            del self._allowed[next(iter(self._allowed))]
        denial = self._denials.pop(place, None)
        for key in denial.waiting.values() if denial is not None else ():
            self._wake(key)

    def stands(self, uid: str) -> bool:
        """Whether what the Instance was denied, or waits for, is as it was."""
        place = self._places.get(uid)
        return place is not None and self._standing(place) is not None

    def forget(self, uid: str) -> None:
        """The Instance has gone. What nobody waits for any more is asked anew by who comes."""
        place = self._places.pop(uid, None)
        denial = self._denials.get(place) if place is not None else None
        if place is None or denial is None:
            return
        denial.waiting.pop(uid, None)
        denial.concerned.discard(uid)
        if not denial.concerned:
            del self._denials[place]

    def forget_group(self, uid: str) -> None:
        """The group has gone."""
        self._allowed = {each: None for each in self._allowed if each.group != uid}
        self._denials = {place: each for place, each in self._denials.items() if place.group != uid}

    def _standing(self, place: _Place) -> _Denial | None:
        denial = self._denials.get(place)
        if denial is not None and denial.driver is not self._driver(place.cloud):
            del self._denials[place]
            return None
        return denial


def group_of(instance: Instance) -> str:
    """The uid of the group that owns the Instance."""
    return next((each.uid for each in instance.metadata.owner_references if each.kind == "InstanceGroup"), "")


def _place(instance: Instance) -> _Place:
    return _Place(cloud_key(instance), group_of(instance), json.dumps(instance.spec.implementation.arm(), sort_keys=True))


def _said(instance: Instance) -> str:
    """The cloud's words, where the Instance's condition says that its launch was denied."""
    said = condition(instance.status.conditions, "Launched")
    if said is None or said.status != "False" or said.reason != Reason.DENIED.value:
        return ""
    return said.message.removesuffix(WAITS)


__all__ = ["ASKS_SECONDS", "WAITS", "Denials", "group_of"]
