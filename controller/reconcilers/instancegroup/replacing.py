"""Which failed Instances of a group are replaced now, and what holds the others back: the brake and the back-off. Pure.

`plan.py` asks. A replacement is nothing but a deletion here; what brakes it (`Replacement`, the annotation `replaces`) is read from
the objects, never remembered (docs/decisions/0005-brake.md).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.api import meta
from controller.api.group import Replacement
from controller.api.instance import Instance
from controller.api.reasons import Reason
from controller.reconcilers.instancegroup.observed import ENDED, Hold, Observed, failed, may_be_well, wanted, why

#: The back-off between replacements: the first at once, then doubling (design section 3, issue 5).
BACK_OFF_FIRST = timedelta(seconds=10)
BACK_OFF_MOST = timedelta(minutes=5)
#: By this part more or less.
JITTER = 0.1
#: Refusals that say nothing of fewer machines, or of another implementation.
_FULL = frozenset({Reason.NO_CAPACITY, Reason.QUOTA_EXCEEDED, Reason.CLOUD_INVALID})
#: A group in which nothing failed for so long, beyond the time its machines have to start, starts its back-off anew.
BACK_OFF_FORGOTTEN = timedelta(minutes=10)
#: At most this part of a group, and at least one, is replaced at once (design section 5, rule 8).
BRAKE = 0.2


@dataclass(frozen=True, slots=True)
class Replacing:
    """Which failed Instances go now, and why no more of them do."""

    now: tuple[Instance, ...] = ()
    held: Hold | None = None
    again: datetime | None = None
    brake: Replacement | None = None


def replacing(o: Observed, live: tuple[Instance, ...], held: Hold | None) -> Replacing:
    """Failed Instances that may go now, `held` being what forbids to make any: what is asked for in another way at once, others within
    the brake and after the back-off."""
    failing = [each for each in live if failed(each) is not None]
    broken = [each for each in failing if not may_be_well(o, each)]
    if failing and not broken:
        return Replacing()  # Looked at first; what holds replacements back stays as it is.
    other_way = tuple(each for each in broken if _other_way(o, each, held)) if not o.in_doubt else ()
    gone = {each.metadata.name for each in other_way}
    found = _in_turn(o, tuple(each for each in broken if each.metadata.name not in gone), held)
    return replace(found, now=(*other_way, *found.now))


def stood_in_for(o: Observed, going: tuple[Instance, ...]) -> tuple[str, ...]:
    """UIDs of those in whose place somebody is to stand and count against the brake: of those that are `going` what still might have
    served, and who stood in for such a one; and of those that went before. It is recorded before they go, as nothing tells of it then."""
    last = o.group.status.replacement
    settled = {each.metadata.annotations.get(meta.REPLACES) for each in o.instances}
    settled |= {each.metadata.uid for each in o.instances if not each.metadata.deleting}  # well again before it was deleted
    unmade = (each for each in (last.unmade if last is not None else ()) if each not in settled)
    in_turn = sorted(going, key=lambda each: each.spec.index)
    return (*unmade, *(each.metadata.uid for each in in_turn if stands_in(each) or failed(each) not in (None, *ENDED)))


def _other_way(o: Observed, instance: Instance, held: Hold | None) -> bool:
    """Whether its successor is asked for in another way: in a smaller batch, by the next implementation, or as the template has it now."""
    smaller = instance.spec.batch.size > 1 and instance.spec.implementation.name not in o.full
    corrected = held is None and o.revision != "" and instance.spec.revision not in ("", o.revision)
    return failed(instance) in _FULL and (smaller or o.another or corrected)


def _in_turn(o: Observed, failing: tuple[Instance, ...], held: Hold | None) -> Replacing:
    broken = sorted(failing, key=lambda each: (failed(each) not in ENDED, each.spec.index))
    last = o.group.status.replacement
    if not broken:
        return Replacing(brake=last.model_copy(update={"due": None}) if last is not None and last.due is not None else None)
    if o.in_doubt:
        return Replacing(held=Hold(Reason.FROZEN, f"{len(broken)} machines failed; none is replaced while {o.in_doubt}"))
    consecutive = _consecutive(o, broken)
    # Counted from when the failure was seen: a machine that never gets healthy fails long after its launch.
    due = last.due if last is not None and last.due is not None else o.now + back_off(consecutive, o.group.metadata.uid)
    # It may stand in the status by a clock that was set back since.
    due = min(due, o.now + BACK_OFF_MOST * (1 + JITTER))
    said = why(broken[0])[1]
    if last is not None and due > o.now:
        waits = Hold(Reason.BACK_OFF, f"{broken[0].metadata.name}: {said}; replaced after a back-off")
        return Replacing(held=waits, again=due, brake=last.model_copy(update={"due": due}))
    if held is None and o.room < 0:
        held = Hold(Reason.LIMIT_REACHED, f"{broken[0].metadata.name}: {said}; there are more machines than Cloud.spec.maxInstances allows")
    chosen = [each for each in broken if failed(each) in ENDED]
    chosen += _within_the_brake(o, [each for each in broken if failed(each) not in ENDED], held)
    if not chosen:
        return Replacing(held=held or Hold(Reason.BRAKED, f"{broken[0].metadata.name}: {said}; others are being replaced"))
    return Replacing(tuple(chosen), brake=Replacement(consecutive=consecutive + 1, time=o.now))


def _consecutive(o: Observed, broken: Sequence[Instance]) -> int:
    """How many replacements there were since the group was last well."""
    last = o.group.status.replacement
    if last is None:
        return 0
    starting = timedelta(seconds=max(each.spec.health.startup_seconds for each in broken))
    return 0 if o.now - last.time > BACK_OFF_FORGOTTEN + starting else last.consecutive


def _within_the_brake(o: Observed, broken: Sequence[Instance], held: Hold | None) -> list[Instance]:
    """Which of those that may still run go now: what stands in for one that went has its part of the brake, and goes before others."""
    # What may still run is not destroyed while nothing can be made in its place.
    most = 0 if held is not None else len(broken)
    if o.narrow:
        # No more than are made in their place now; each is named by its successor, which the brake counts.
        coming = (each for each in o.instances if not each.metadata.deleting and failed(each) is None)
        most = 0 if any(map(o.tries_narrow, coming)) else min(most, o.most)
    room = _room(o)
    again, others = [each for each in broken if stands_in(each)], [each for each in broken if not stands_in(each)]
    return [*again[: max(0, room + len(again))], *others[: max(0, room)]][:most]


def _room(o: Observed) -> int:
    """How many more machines that may still run can be replaced at once, beside those that are being replaced."""
    # A deleting Instance says no more why it failed; it counts until another is made in its place.
    lacking = max(0, wanted(o.group) - sum(1 for each in o.instances if not each.metadata.deleting))
    coming = sum(1 for each in o.instances if stands_in(each))
    return max(1, int(wanted(o.group) * BRAKE)) - lacking - coming


def stands_in(instance: Instance) -> bool:
    """Whether it was made in place of a machine that could still run, and was not Ready yet: it may fail, too."""
    return not instance.metadata.deleting and instance.status.ready_time is None and meta.REPLACES in instance.metadata.annotations


def back_off(consecutive: int, seed: str) -> timedelta:
    """How long the replacement after `consecutive` earlier ones waits; jittered, the same for the same seed."""
    if consecutive <= 0:
        return timedelta(0)
    plain = min(BACK_OFF_FIRST * 2 ** min(consecutive - 1, 10), BACK_OFF_MOST)
    return plain * random.Random(f"{seed}/{consecutive}").uniform(1 - JITTER, 1 + JITTER)
