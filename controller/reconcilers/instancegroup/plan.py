"""How one service becomes n Instances: release, create, scale, replace, claim. Pure.

A plan is one step. Creation comes from a deficit alone, so a replacement is nothing but a deletion: the next step (or this
one) makes another. What brakes it (`Replacement`, the annotation `replaces`) is read from the objects, never remembered.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from controller.api import meta
from controller.api.group import InstanceGroup, Replacement
from controller.api.instance import Instance
from controller.api.meta import condition
from controller.api.reasons import Reason
from controller.ports import Identity, Machine
from controller.reconcilers.instance.observed import BURNT
from controller.reconcilers.instancegroup import batches

#: Reasons of an Instance's Ready condition at which it is replaced.
FAILED = BURNT | {
    Reason.STARTUP_TIMEOUT,
    Reason.MACHINE_ENDED,
    Reason.MACHINE_STOPPED,
    Reason.MACHINE_MISSING,
    Reason.MACHINE_ERROR,
    Reason.PROBE_FAILED,
}
#: Of these the machine is certainly gone, so replacing it takes nothing away: the 20 % brake does not count it.
ENDED = BURNT | {Reason.MACHINE_ENDED}
#: The back-off between replacements: the first at once, then doubling (design section 3, issue 5).
BACK_OFF_FIRST = timedelta(seconds=10)
BACK_OFF_MOST = timedelta(minutes=5)
#: Refusals that say nothing of fewer machines, or of another implementation.
_FULL = frozenset({Reason.NO_CAPACITY, Reason.QUOTA_EXCEEDED, Reason.CLOUD_INVALID})
#: A group in which nothing failed for so long, beyond the time its machines have to start, starts its back-off anew.
BACK_OFF_FORGOTTEN = timedelta(minutes=10)
#: At most this part of a group, and at least one, is replaced at once (design section 5, rule 8).
BRAKE = 0.2


@dataclass(frozen=True, slots=True)
class Hold:
    """Why no Instance is made now."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """A machine with this group's infrastructure and service in its tags, that no Instance claims.

    `sure` once it is old enough and was missed twice against live lists (rule 7): then it is claimed. `clouds` are the Clouds of its
    account that implementations of the template name; there may be none. `stranger` is the identity in its tags where that is not
    this Infrastructure's.
    """

    machine: Machine
    clouds: tuple[str, ...]
    sure: bool = False
    stranger: str = ""


@dataclass(frozen=True, slots=True)
class Dependency:
    """A service depended on: whether it is Available, else why not."""

    service: str
    available: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known of one group.

    `hold` is what the gatherer found that forbids creation (no template, no address to tell, …); `revision` the newest
    revision; `stale` names Instances whose inputs are no longer so; `in_doubt` says why nothing may be destroyed.
    `blockers` are the services that have to go first while the group is deleted; `orphaned` says that its Infrastructure is gone.
    `most` is how many alike machines one call may make, `room` how many more the Cloud may have, `launched` the batches of
    which any machine is listed; `another` that an implementation is left which was not refused lately. `narrow` is the implementation
    that new Instances would be of, if its Cloud had no room lately for as many as were asked for; `full` are all that had none for one.
    """

    group: InstanceGroup
    instances: tuple[Instance, ...]
    now: datetime
    hold: Hold | None = None
    dependencies: tuple[Dependency, ...] = ()
    revision: str = ""
    stale: frozenset[str] = frozenset()
    unclaimed: tuple[Unclaimed, ...] = ()
    duplicates: tuple[Identity, ...] = ()
    blockers: tuple[str, ...] = ()
    orphaned: bool = False
    in_doubt: str = ""
    most: int = 1
    room: int = 0
    launched: frozenset[str] = frozenset()
    another: bool = False
    narrow: str = ""
    full: frozenset[str] = frozenset()

    def is_asked(self, instance: Instance) -> bool:
        """Whether its machine is still to come from the narrow implementation, or was refused by it."""
        return instance.spec.implementation.name == self.narrow and instance.status.machine is None


@dataclass(frozen=True, slots=True)
class Create:
    """New Instances in batches of these sizes; `replaces` names those that the first ones stand in for."""

    sizes: tuple[int, ...]
    replaces: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return sum(self.sizes)


@dataclass(frozen=True, slots=True)
class Claim:
    unclaimed: Unclaimed


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the Instance; `reason` says why to its user."""

    name: str
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class ScaleIn:
    """Lower replicas by the deleting Instances named, and note them, in one patch at the version seen."""

    replicas: int
    noted: tuple[str, ...]
    lowered: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RefuseScaleIn:
    name: str


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    pass


@dataclass(frozen=True, slots=True)
class Release:
    """Let the group go, if a live list shows none of its Instances; an orphaned one at once, its machines left alone."""

    orphaned: bool = False


Action = AddFinalizer | Create | Claim | Delete | ScaleIn | RefuseScaleIn | Release


@dataclass(frozen=True, slots=True)
class Plan:
    actions: tuple[Action, ...]
    wanted: int
    progress: Hold | None = None  # what is under way or held back; None: converged
    replacement: Replacement | None = None
    again: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Replacing:
    """Which failed Instances go now, and why no more of them do."""

    now: tuple[Instance, ...] = ()
    held: Hold | None = None
    again: datetime | None = None
    brake: Replacement | None = field(default=None)


def plan(o: Observed) -> Plan:
    """The acts that are due for the group, all of which may run at once."""
    if o.group.metadata.deleting:
        return _ending(o)
    if meta.FINALIZER not in o.group.metadata.finalizers:
        return Plan((AddFinalizer(),), wanted(o.group), Hold(Reason.RECONCILING, "its finalizer is put back"), o.group.status.replacement)
    again = () if o.in_doubt else batches.to_plan_again(o.instances, o.launched, o.room)
    if again:
        broken = tuple(Delete(name, Reason.BATCH_BROKEN, why) for name, why in again)
        return Plan(broken, wanted(o.group), Hold(Reason.SCALING, "machines of one call are planned again"), o.group.status.replacement)
    scale_in = _scale_in(o)
    if scale_in:
        return Plan(scale_in, wanted(o.group), Hold(Reason.SCALING, "an Instance is scaled in"), o.group.status.replacement)
    if o.group.spec.paused:
        return Plan((), wanted(o.group), Hold(Reason.PAUSED, "spec.paused of the Infrastructure is true"), o.group.status.replacement)
    return _steady(o)


def wanted(group: InstanceGroup) -> int:
    """replicas within the bounds of scaling."""
    scaling = group.spec.scaling
    if scaling is None:
        return group.spec.replicas
    most = group.spec.replicas if scaling.max is None else min(group.spec.replicas, scaling.max)
    return max(most, scaling.min)


def released(o: Observed) -> bool:
    """Whether each dependency was once Available; latched, so that a flapping one never freezes its dependents."""
    return o.group.status.released or all(each.available for each in o.dependencies)


def failed(instance: Instance) -> Reason | None:
    """The reason for which an Instance is to be replaced, if it is."""
    said = condition(instance.status.conditions, "Ready")
    if said is None or said.status != "False":
        return None
    return next((reason for reason in FAILED if reason.value == said.reason), None)


def ready(instance: Instance) -> bool:
    return not instance.metadata.deleting and meta.is_true(instance.status.conditions, "Ready")


def back_off(consecutive: int, seed: str) -> timedelta:
    """How long the replacement after `consecutive` earlier ones waits; jittered by ±10 %, the same for the same seed."""
    if consecutive <= 0:
        return timedelta(0)
    plain = min(BACK_OFF_FIRST * 2 ** min(consecutive - 1, 10), BACK_OFF_MOST)
    return plain * random.Random(f"{seed}/{consecutive}").uniform(0.9, 1.1)


# --- the parts of a step --------------------------------------------------------------------------------------------
def _steady(o: Observed) -> Plan:
    live = tuple(each for each in o.instances if not each.metadata.deleting)
    want = wanted(o.group)
    surplus = _surplus(o, live, want)
    going = {each.metadata.name for each in surplus}
    replacing = _replacing(o, tuple(each for each in live if each.metadata.name not in going))
    deficit = want - (len(live) - len(surplus) - len(replacing.now))
    gone = {each.metadata.name for each in (*surplus, *replacing.now)}
    creating, hold = _creating(o, deficit, replacing.now, tuple(each for each in live if each.metadata.name not in gone))
    actions: list[Action] = [
        *(Delete(each.metadata.name, Reason.SCALING, f"{len(live)} machines, {want} wanted") for each in surplus),
        *(Delete(each.metadata.name, *_why(each)) for each in replacing.now),
        *creating,
    ]
    progress = hold or replacing.held or _progress(o, live, deficit, bool(surplus))
    return Plan(tuple(actions), want, progress, replacing.brake or o.group.status.replacement, replacing.again)


def _surplus(o: Observed, live: tuple[Instance, ...], want: int) -> tuple[Instance, ...]:
    """Which Instances go when there are too many: those not Ready first, then the youngest."""
    if o.in_doubt or len(live) <= want:
        return ()
    order = sorted(live, key=lambda each: (ready(each), -_born(each), -each.spec.index))
    return tuple(order[: len(live) - want])


def _creating(
    o: Observed, deficit: int, replaced: tuple[Instance, ...], kept: tuple[Instance, ...]
) -> tuple[tuple[Action, ...], Hold | None]:
    sure = {each.machine.identity: each for each in reversed(o.unclaimed) if each.sure and each.clouds and not each.stranger}
    claims = tuple(Claim(sure[identity]) for identity in sorted(sure))
    if o.unclaimed or o.duplicates:
        return claims, _held(o)
    if deficit <= 0:
        return (), None
    hold = _held(o)
    if hold is not None:
        return (), hold
    sizes = batches.sizes(deficit, o.most, o.room)
    if o.narrow:
        # What the cloud says of one batch is heard before the next is made.
        sizes = () if any(map(o.is_asked, kept)) else sizes[:1]
    if not sizes:
        return (), None
    # A replacement counts against the brake until it is Ready, unless its predecessor was gone anyway.
    stands_in = tuple(each.metadata.name for each in replaced if failed(each) not in ENDED)
    return (Create(sizes, stands_in[: sum(sizes)]),), None


def _held(o: Observed) -> Hold | None:
    """What forbids to make Instances now."""
    return _unclaimed(o) if o.unclaimed or o.duplicates else _unreleased(o) or o.hold


def _unreleased(o: Observed) -> Hold | None:
    if released(o):
        return None
    waits = "; ".join(f"{each.service} is not Available ({each.why})" for each in o.dependencies if not each.available)
    return Hold(Reason.WAITING_FOR_DEPENDENCIES, waits)


def _unclaimed(o: Observed) -> Hold:
    if o.duplicates:
        named = ", ".join(sorted(map(str, o.duplicates)))
        return Hold(Reason.DUPLICATE_MACHINE, f"several machines share an identity: {named}")
    strangers = sorted({each.stranger for each in o.unclaimed if each.stranger})
    if strangers:
        return Hold(
            Reason.UNCLAIMED,
            f"{len(o.unclaimed)} machines of an Infrastructure of this name exist under the identity {', '.join(strangers)}; "
            f"an Infrastructure created with spec.id: {strangers[0]} claims them",
        )
    elsewhere = [each for each in o.unclaimed if not each.clouds]
    if elsewhere and o.hold is not None and o.hold.reason is Reason.TEMPLATE_NOT_FOUND:
        return o.hold
    if elsewhere:
        return Hold(
            Reason.UNCLAIMED,
            f"{len(elsewhere)} machines of this service, {elsewhere[0].machine.id} for one, are on an account of which no implementation "
            f"of InstanceTemplate {o.group.spec.template_ref.name} names a Cloud: add one, and they are claimed",
        )
    return Hold(Reason.UNCLAIMED, f"{len(o.unclaimed)} machines of this service have no Instance yet; they are claimed first")


def _replacing(o: Observed, live: tuple[Instance, ...]) -> _Replacing:
    """Failed Instances that may go now: what is asked for in another way at once, others within the brake and after the back-off."""
    broken = [each for each in live if failed(each) is not None]
    other_way = tuple(each for each in broken if _other_way(o, each)) if not o.in_doubt else ()
    found = _in_turn(o, tuple(each for each in broken if each not in other_way))
    return replace(found, now=(*other_way, *found.now))


def _other_way(o: Observed, instance: Instance) -> bool:
    """Whether its successor is asked for in another way: in a smaller batch, or by the next implementation."""
    smaller = instance.spec.batch.size > 1 and instance.spec.implementation.name not in o.full
    return failed(instance) in _FULL and (smaller or o.another)


def _in_turn(o: Observed, failing: tuple[Instance, ...]) -> _Replacing:
    broken = sorted(failing, key=lambda each: (failed(each) not in ENDED, each.spec.index))
    last = o.group.status.replacement
    if not broken:
        return _Replacing(brake=last.model_copy(update={"due": None}) if last is not None and last.due is not None else None)
    if o.in_doubt:
        return _Replacing(held=Hold(Reason.FROZEN, f"{len(broken)} machines failed; none is replaced while {o.in_doubt}"))
    consecutive = _consecutive(o, broken)
    # Counted from when the failure was seen: a machine that never gets healthy fails long after its launch.
    due = last.due if last is not None and last.due is not None else o.now + back_off(consecutive, o.group.metadata.uid)
    why = _why(broken[0])[1]
    if last is not None and due > o.now:
        held = Hold(Reason.BACK_OFF, f"{broken[0].metadata.name}: {why}; replaced after a back-off")
        return _Replacing(held=held, again=due, brake=last.model_copy(update={"due": due}))
    held = _held(o)
    # What may still run is not destroyed while nothing can be made in its place.
    room = 0 if held is not None else _room(o)
    chosen = [each for each in broken if failed(each) in ENDED]
    chosen += [each for each in broken if failed(each) not in ENDED][: max(0, room)]
    if not chosen:
        return _Replacing(held=held or Hold(Reason.BRAKED, f"{broken[0].metadata.name}: {why}; others are being replaced"))
    return _Replacing(tuple(chosen), brake=Replacement(consecutive=consecutive + 1, time=o.now))


def _consecutive(o: Observed, broken: Sequence[Instance]) -> int:
    """How many replacements there were since the group was last well."""
    last = o.group.status.replacement
    if last is None:
        return 0
    starting = timedelta(seconds=max(each.spec.health.startup_seconds for each in broken))
    return 0 if o.now - last.time > BACK_OFF_FORGOTTEN + starting else last.consecutive


def _room(o: Observed) -> int:
    """How many more machines that may still run can be replaced at once."""
    # A deleting Instance says no more why it failed; it counts until another is made in its place.
    lacking = max(0, wanted(o.group) - sum(1 for each in o.instances if not each.metadata.deleting))
    coming = sum(1 for each in o.instances if _stands_in(each))
    return max(1, int(wanted(o.group) * BRAKE)) - lacking - coming


def _stands_in(instance: Instance) -> bool:
    if instance.metadata.deleting or ready(instance) or failed(instance) is not None:
        return False
    return meta.REPLACES in instance.metadata.annotations


def _scale_in(o: Observed) -> tuple[Action, ...]:
    """Deleting Instances marked for scale-in lower the count once each; the note goes when the Instance has gone."""
    noted = frozenset(filter(None, o.group.metadata.annotations.get(meta.SCALED_IN, "").split(",")))
    here = {each.metadata.name for each in o.instances}
    marked = [each for each in o.instances if each.metadata.deleting and each.metadata.annotations.get(meta.SCALE_IN) == "true"]
    fresh = sorted(each.metadata.name for each in marked if each.metadata.name not in noted)
    kept = noted & here
    if o.group.spec.fixed_replicas is not None:
        # The note keeps the refusal from being said again at each pass.
        refused: list[Action] = [RefuseScaleIn(name) for name in fresh]
        return (*refused, ScaleIn(o.group.spec.replicas, tuple(sorted(kept | set(fresh))), ())) if fresh or kept != noted else ()
    if not fresh and kept == noted:
        return ()
    lowest = o.group.spec.scaling.min if o.group.spec.scaling else 0
    return (ScaleIn(max(lowest, wanted(o.group) - len(fresh)), tuple(sorted(kept | set(fresh))), tuple(fresh)),)


def _ending(o: Observed) -> Plan:
    if o.orphaned:
        # That the owner is missing is never a ground to end machines (design section 5, rule 5).
        hold = Hold(Reason.OWNER_MISSING, "its Infrastructure does not exist; its machines are left alone")
        return Plan((Release(orphaned=True),), 0, hold, o.group.status.replacement)
    if meta.ORPHAN in o.group.metadata.finalizers:
        # `--cascade=orphan`: its Instances are taken from it, and go on without it.
        return Plan((), 0, Hold(Reason.TERMINATING, "its Instances are let go, not ended"), o.group.status.replacement)
    if o.blockers:
        hold = Hold(Reason.WAITING_FOR_DEPENDENTS, f"{', '.join(o.blockers)} have machines that go first")
        return Plan((), 0, hold, o.group.status.replacement)
    live = [each for each in o.instances if not each.metadata.deleting]
    if o.instances:
        hold = Hold(Reason.WAITING_FOR_MACHINES, f"{len(o.instances)} machines are to end")
        return Plan(
            tuple(Delete(each.metadata.name, Reason.DELETED, "its group is deleted") for each in live), 0, hold, o.group.status.replacement
        )
    return Plan((Release(),), 0, Hold(Reason.TERMINATING, "no machine is left"), o.group.status.replacement)


def _progress(o: Observed, live: tuple[Instance, ...], deficit: int, shrinking: bool) -> Hold | None:
    if deficit > 0 or shrinking:
        step = f"; implementation {o.narrow} had no room for all, and is asked for some at a time" if o.narrow else ""
        return Hold(Reason.SCALING, f"{len(live)} machines, {wanted(o.group)} wanted{step}")
    coming = sorted((each for each in live if not ready(each)), key=lambda each: each.spec.index)
    if coming:
        return Hold(Reason.RECONCILING, f"{coming[0].metadata.name}: {_why(coming[0])[1] or 'not seen yet'}")
    return None


def _why(instance: Instance) -> tuple[Reason, str]:
    """What its Ready condition says, for the messages of its group."""
    said = condition(instance.status.conditions, "Ready")
    if said is None:
        return Reason.WAITING_FOR_LAUNCH, ""
    return Reason(said.reason), f"{said.reason}: {said.message}"


def _born(instance: Instance) -> float:
    made = instance.metadata.creation_timestamp
    return made.timestamp() if made is not None else 0.0
