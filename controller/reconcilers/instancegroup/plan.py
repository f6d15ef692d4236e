"""How one service becomes n Instances: release, create, scale, claim. Pure.

A plan is one step. Creation comes from a deficit alone, so a replacement (`replacing.py`) is nothing but a deletion: the next step (or
this one) makes another.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controller.api import meta
from controller.api.group import Replacement
from controller.api.instance import Instance
from controller.api.reasons import Reason
from controller.ports import MachineState
from controller.reconcilers.instancegroup import batches
from controller.reconcilers.instancegroup.observed import Hold, Observed, Unclaimed, ready, unmet, wanted, why
from controller.reconcilers.instancegroup.replacing import replacing, stood_in_for


@dataclass(frozen=True, slots=True)
class Create:
    """New Instances in batches of these sizes; `replaces` has the UIDs of those that the first ones stand in for."""

    sizes: tuple[int, ...]
    replaces: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return sum(self.sizes)


@dataclass(frozen=True, slots=True)
class Claim:
    unclaimed: tuple[Unclaimed, ...]


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the Instance; `reason` says why to its user."""

    name: str
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Free:
    """Take our name off an Instance that is to outlive the group."""

    name: str


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


Action = AddFinalizer | Create | Claim | Delete | Free | ScaleIn | RefuseScaleIn | Release


@dataclass(frozen=True, slots=True)
class Plan:
    """`lacks_room` says that it waits for room on its Cloud, which wakes no group by itself."""

    actions: tuple[Action, ...]
    wanted: int
    progress: Hold | None = None  # what is under way or held back; None: converged
    replacement: Replacement | None = None
    again: datetime | None = None
    lacks_room: bool = False


def plan(o: Observed) -> Plan:
    """The acts that are due for the group, all of which may run at once."""
    if o.group.metadata.deleting:
        return _ending(o)
    if meta.FINALIZER not in o.group.metadata.finalizers:
        return Plan((AddFinalizer(),), wanted(o.group), Hold(Reason.RECONCILING, "its finalizer is put back"), o.group.status.replacement)
    again = () if o.in_doubt else batches.to_plan_again(o.instances, o.launched, o.room)
    if again:
        broken = tuple(Delete(name, Reason.BATCH_BROKEN, why) for name, why in again)
        return Plan(broken, wanted(o.group), Hold(Reason.SCALING, "machines of one call are planned again"), _planned_again(o, broken))
    scale_in = _scale_in(o)
    if scale_in:
        return Plan(scale_in, wanted(o.group), Hold(Reason.SCALING, "an Instance is scaled in"), o.group.status.replacement)
    if o.group.spec.paused:
        return Plan((), wanted(o.group), Hold(Reason.PAUSED, "spec.paused of the Infrastructure is true"), o.group.status.replacement)
    return _steady(o)


# --- the parts of a step --------------------------------------------------------------------------------------------
def _steady(o: Observed) -> Plan:
    held = _held(o)
    stranded = () if o.in_doubt else _stranded(o)
    if stranded:
        hold = Hold(Reason.WAITING_FOR_CLOUD, "its Cloud is being deleted, and what has no machine yet is planned again")
        return Plan(stranded, wanted(o.group), hold, _planned_again(o, stranded))
    outdated = () if o.in_doubt else _outdated(o)
    if outdated and held is None:
        # No failure, and no machine that the brake would keep; what a denied launch may have made is looked for while it ends.
        hold = Hold(Reason.SCALING, "the description has changed, and what has no machine yet is planned again")
        return Plan(outdated, wanted(o.group), hold, _planned_again(o, outdated))
    live = tuple(each for each in o.instances if not each.metadata.deleting)
    want = wanted(o.group)
    surplus = _surplus(o, live, want)
    going = {each.metadata.name for each in surplus}
    failing = replacing(o, tuple(each for each in live if each.metadata.name not in going), held)
    deficit = want - (len(live) - len(surplus) - len(failing.now))
    gone = {each.metadata.name for each in (*surplus, *failing.now)}
    standing = stood_in_for(o, failing.now)[: max(0, deficit)]
    creating, hold = _creating(o, deficit, standing, tuple(each for each in live if each.metadata.name not in gone))
    actions: list[Action] = [
        *(Delete(each.metadata.name, Reason.SCALING, f"{len(live)} machines, {want} wanted") for each in surplus),
        *(Delete(each.metadata.name, *why(each)) for each in failing.now),
        *creating,
    ]
    progress = hold or failing.held or (held if outdated else None) or _progress(o, live, deficit, bool(surplus))
    lacks_room = batches.lacks_room(live) or (failing.held is not None and failing.held.reason is Reason.LIMIT_REACHED)
    brake = _noted(failing.brake or o.group.status.replacement, standing)
    return Plan(tuple(actions), want, progress, brake, failing.again, lacks_room)


def _planned_again(o: Observed, deletes: tuple[Delete, ...]) -> Replacement | None:
    """The brake, where Instances without a machine go for others to be made: who stood in for a failed one has somebody stand in for it."""
    names = {each.name for each in deletes}
    return _noted(o.group.status.replacement, stood_in_for(o, tuple(each for each in o.instances if each.metadata.name in names)))


def _noted(brake: Replacement | None, unmade: tuple[str, ...]) -> Replacement | None:
    return None if brake is None else brake.model_copy(update={"unmade": unmade})


def _stranded(o: Observed) -> tuple[Delete, ...]:
    """Instances that have no machine and never get one there, whether or not others can take their place: the Cloud waits for them."""
    why = "its Cloud is being deleted, and it was not launched"
    found = batches.unlaunched(o.instances, o.launched, o.stranded)
    return tuple(Delete(each.metadata.name, Reason.WAITING_FOR_CLOUD, why) for each in found)


def _outdated(o: Observed) -> tuple[Delete, ...]:
    """Instances that have no machine and would be made otherwise now: others take their place."""
    unlaunched, denied = batches.outdated(o.instances, o.launched, o.revision, o.overtaken)
    changed = {
        True: (Reason.INPUT_CHANGED, "its variables have changed before its launch"),
        False: (Reason.REVISION_CHANGED, "the template has changed before its launch"),
    }
    return (
        *(Delete(each.metadata.name, *changed[each.spec.revision == o.revision]) for each in unlaunched),
        *(Delete(each.metadata.name, Reason.DENIED, "its launch is denied, and the template has changed since") for each in denied),
    )


def _surplus(o: Observed, live: tuple[Instance, ...], want: int) -> tuple[Instance, ...]:
    """Which Instances go when there are too many: those not Ready first, then the youngest; last those that may not be ended."""
    if o.in_doubt or len(live) <= want:
        return ()
    order = sorted(live, key=lambda each: (_not_ours(each), ready(each), -_born(each), -each.spec.index))
    return tuple(order[: len(live) - want])


def _not_ours(instance: Instance) -> bool:
    """Whether its machine lacks our tag: what the cloud calls it is known, and nothing is done about it all the same."""
    machine = instance.status.machine
    return machine is not None and machine.state != MachineState.UNKNOWN.value and why(instance)[0] is Reason.MACHINE_UNKNOWN


def _creating(o: Observed, deficit: int, replaced: tuple[str, ...], kept: tuple[Instance, ...]) -> tuple[tuple[Action, ...], Hold | None]:
    sure = {each.machine.identity: each for each in reversed(o.unclaimed) if each.sure and each.clouds and not each.stranger}
    claims = (Claim(tuple(sure[identity] for identity in sorted(sure))),) if sure else ()
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
        sizes = () if any(map(o.tries_narrow, kept)) else sizes[:1]
    if not sizes:
        return (), None
    return (Create(sizes, replaced[: sum(sizes)]),), None


def _held(o: Observed) -> Hold | None:
    """What forbids to make Instances now."""
    return _unclaimed(o) if o.unclaimed or o.duplicates else _unmet(o) or o.hold


def _unmet(o: Observed) -> Hold | None:
    waits = "; ".join(f"{each.service} is not Available ({each.why})" for each in unmet(o) if not each.available)
    return Hold(Reason.WAITING_FOR_DEPENDENCIES, waits) if waits else None


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


def _scale_in(o: Observed) -> tuple[Action, ...]:
    """Deleting Instances marked for scale-in lower the count once each; the note goes when the Instance has gone.

    Those that are to go as the count was lowered already are noted before.
    """
    noted = frozenset(filter(None, o.group.metadata.annotations.get(meta.SCALED_IN, "").split(",")))
    deleting = {each.metadata.name for each in o.instances if each.metadata.deleting}
    marked = {each.metadata.name for each in o.instances if each.metadata.annotations.get(meta.SCALE_IN) == "true"}
    fresh = sorted((deleting & marked) - noted)
    live = tuple(each for each in o.instances if not each.metadata.deleting)
    surplus = () if o.group.spec.paused else _surplus(o, live, wanted(o.group))
    kept = (noted & deleting) | ({each.metadata.name for each in surplus} & marked)
    if o.group.spec.fixed_replicas is not None:
        # The note keeps the refusal from being said again at each pass.
        refused: list[Action] = [RefuseScaleIn(name) for name in fresh]
        return (*refused, ScaleIn(o.group.spec.replicas, tuple(sorted(kept | set(fresh))), ())) if fresh or kept != noted else ()
    if not fresh and kept == noted:
        return ()
    lowest = o.group.spec.scaling.min if o.group.spec.scaling else 0
    return (ScaleIn(max(lowest, wanted(o.group) - len(fresh)), tuple(sorted(kept | set(fresh))), tuple(fresh)),)


_LET_GO = Hold(Reason.TERMINATING, "its Instances are let go, not ended")


def _ending(o: Observed) -> Plan:
    if o.orphaned:
        # That the owner is missing is never a ground to end machines (design section 5, rule 5).
        hold = Hold(Reason.OWNER_MISSING, "its Infrastructure does not exist; its machines are left alone")
        return Plan((Release(orphaned=True),), 0, hold, o.group.status.replacement)
    if meta.ORPHAN in o.group.metadata.finalizers:
        # `--cascade=orphan`: its Instances are taken from it, and go on without it.
        return Plan((), 0, _LET_GO, o.group.status.replacement)
    if o.orphaning and o.instances:
        # The garbage collector lets go of those that it knows; of one made a moment ago it may not have heard.
        return Plan(tuple(Free(each.metadata.name) for each in o.instances), 0, _LET_GO, o.group.status.replacement)
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
        said = f"{coming[0].metadata.name}: {why(coming[0])[1] or 'its launch is awaited'}"
        # Of a batch the first one alone has a launch to await.
        waiting = any(not each.status.conditions for each in coming[1:] if each.spec.batch.index == 0)
        return Hold(Reason.RECONCILING, said + ("; others await their launch" if waiting else ""))
    return None


def _born(instance: Instance) -> float:
    made = instance.metadata.creation_timestamp
    return made.timestamp() if made is not None else 0.0
