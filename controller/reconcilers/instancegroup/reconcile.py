"""One pass over an InstanceGroup: gather, plan, write the status, act. Decides nothing.

The status goes first here: it holds the brake on replacements, whose loss would let a crash loop replace without back-off.
"""

from __future__ import annotations

from controller import errors
from controller.api import meta
from controller.api.group import InstanceGroup
from controller.api.instance import Instance
from controller.api.reasons import Reason
from controller.engine import metrics
from controller.engine.engine import Engine
from controller.ports import Identity, Key, Obj
from controller.reconcilers.instancegroup import creation, makings, snapshots, status
from controller.reconcilers.instancegroup.gather import gather
from controller.reconcilers.instancegroup.makings import Makings
from controller.reconcilers.instancegroup.observed import ENDED, FAILED, Observed, failed
from controller.reconcilers.instancegroup.plan import (
    Action,
    AddFinalizer,
    Claim,
    Create,
    Delete,
    Free,
    Plan,
    RefuseScaleIn,
    Release,
    ScaleIn,
    plan,
)


async def reconcile(engine: Engine, key: Key) -> float | None:
    group = engine.objects.model(key, InstanceGroup)
    if group is None:
        return None
    await creation.adopt(engine, group)
    observed, made = await gather(engine, group)
    todo = plan(observed)
    if todo.actions:
        # The brake on replacements is written before they are made: not for those that will not be.
        engine.objects.must_be_as_planned(key, group.metadata.generation)
        _must_stand(engine, key, todo)
    wanted = status.report(observed, todo)
    if await engine.objects.write_status(key, wanted):
        await _tell(engine, key, group, todo)
    for action in todo.actions:
        if isinstance(action, Release):
            return await _release(engine, key, orphaned=action.orphaned)
        # A number may be taken back while many machines are made or ended by it, and the count is lowered from the one that was seen.
        engine.objects.must_be_as_planned(key, group.metadata.generation)
        await _act(engine, key, made, action)
    if made is not None and any(snapshots.needs(each, made) for each in observed.instances):
        await snapshots.ensure(engine, group, made)
    await snapshots.prune(engine, group, observed.revision)
    if todo.lacks_room:
        engine.clouds.wait_for_room(key)
    if any(isinstance(each, Free) for each in todo.actions):
        return 0.0  # They are its own no more, so that nothing that becomes of them has to wake it.
    return _again(engine, todo, observed)


#: After how many seconds who did not answer, or knew a name not, is asked again: nothing would wake the group.
_ASK_AGAIN_SECONDS = {
    Reason.WAITING_FOR_CLOUD: 10.0,
    Reason.CONFIG_MAP_NOT_FOUND: 10.0,
    Reason.RENDERER_FAILED: 10.0,
    Reason.CLOUD_INVALID: makings.RESOLVED_SECONDS + 1,
    # Nobody is asked but where a verdict is old enough.
    Reason.TEMPLATE_INVALID: 60.0,
}


def _again(engine: Engine, todo: Plan, observed: Observed) -> float | None:
    """After how many seconds the group is looked at again, if nothing wakes it before."""
    due = [] if todo.again is None else [max(0.05, (todo.again - engine.ports.now()).total_seconds())]
    asked = _ASK_AGAIN_SECONDS.get(observed.hold.reason) if observed.hold is not None else None
    return min((*due, *(() if asked is None else (asked,))), default=None)


async def _act(engine: Engine, key: Key, made: Makings | None, action: Action) -> None:
    group = engine.objects.model(key, InstanceGroup)
    if group is None:
        return
    match action:
        case AddFinalizer():
            await engine.objects.set_finalizer(key, meta.FINALIZER, wanted=True)
        case Create():
            if made is not None:
                await snapshots.ensure(engine, group, made)
                await creation.create(engine, group, made, action)
        case Claim(unclaimed):
            await creation.claim(engine, group, unclaimed)
        case Delete(name, reason, message):
            await _delete(engine, Key("Instance", key.namespace, name), reason)
            if reason not in (Reason.SCALING, Reason.DELETED, *_UNLAUNCHED):
                metrics.replacements.labels(reason.value).inc()
            await engine.say(key, "Normal", reason, f"Instance {name} is deleted: {message}")
        case Free(name):
            await engine.objects.disown(Key("Instance", key.namespace, name), group.metadata.uid)
        case ScaleIn():
            await _scale_in(engine, key, action)
        case RefuseScaleIn(name):
            await engine.say(key, "Warning", Reason.SCALE_IN_REFUSED, f"Instance {name}: services[].replicas fixes the count")
        case Release():
            raise ValueError("released by reconcile")


#: On these grounds an Instance goes whose batch was never launched.
_UNLAUNCHED = frozenset({Reason.BATCH_BROKEN, Reason.REVISION_CHANGED, Reason.INPUT_CHANGED, Reason.WAITING_FOR_CLOUD})
#: These may hold no longer when the Instance is to go.
_PASSING = (FAILED - ENDED) | {Reason.DENIED}


async def _delete(engine: Engine, key: Key, reason: Reason) -> None:
    """Delete an Instance; one whose batch was not launched only if it is not meanwhile, of a deleted group only as it was seen: it may
    have been taken from the group (`--cascade=orphan`), which a watch shows later; one that failed, or is denied, only while that is so.
    Raises Conflict."""
    unlaunched, passing = reason in _UNLAUNCHED, reason in _PASSING
    while (instance := engine.objects.model(key, Instance)) is not None:
        if passing and _is_over(instance, reason):
            raise errors.Conflict(f"{key} is not {reason.value} any more")  # nothing is to be made in its place either
        batch = instance.spec.batch
        first = key if batch.index == 0 else engine.clouds.instance(Identity(batch.id, 0))
        if unlaunched and first is not None and "launch" in (engine.objects.get(first) or {}).get("status", {}):
            raise errors.Conflict(f"{first} was launched meanwhile")
        as_seen = (unlaunched and batch.index == 0) or reason is Reason.DELETED or passing
        try:
            await engine.objects.delete(key, as_seen=as_seen)
        except errors.Conflict:
            if not passing:
                raise
            await engine.objects.refresh(key)
            continue
        return


def _must_stand(engine: Engine, key: Key, todo: Plan) -> None:
    """What failed, or is denied, when the group was gathered is so still: clouds and the renderer were asked since. Raises Conflict."""
    for each in todo.actions:
        if isinstance(each, Delete) and each.reason in _PASSING:
            instance = engine.objects.model(Key("Instance", key.namespace, each.name), Instance)
            if instance is not None and _is_over(instance, each.reason):
                raise errors.Conflict(f"{each.name} is not {each.reason.value} any more")


def _is_over(instance: Instance, reason: Reason) -> bool:
    """Whether the ground on which it was to go has passed."""
    return instance.status.machine is not None if reason is Reason.DENIED else failed(instance) is not reason


async def _scale_in(engine: Engine, key: Key, action: ScaleIn) -> None:
    """One patch lowers the count and notes for whom, so that a crash between the two cannot lower it twice."""
    patch: Obj = {"metadata": {"annotations": {meta.SCALED_IN: ",".join(action.noted) or None}}}
    if action.lowered:
        patch["spec"] = {"replicas": action.replicas}
    await engine.objects.write(key, patch)
    for name in action.lowered:
        await engine.say(key, "Normal", Reason.SCALED_IN, f"replicas is {action.replicas} for Instance {name}")


# --- the end --------------------------------------------------------------------------------------------------------
async def _release(engine: Engine, key: Key, *, orphaned: bool) -> float | None:
    """Let go only after a live list shows no Instance; of an orphaned group they go their own way (design section 5, rule 5)."""
    if orphaned:
        await engine.say(key, "Warning", Reason.OWNER_MISSING, "its Infrastructure does not exist; its machines are left alone")
        await engine.objects.set_finalizer(key, meta.FINALIZER, wanted=False)
        return None
    live = await engine.objects.store.list("Instance", key.namespace)
    seen = engine.objects.get(key)
    if seen is None:
        return None
    if any(owner["uid"] == seen["metadata"]["uid"] for each in live for owner in each["metadata"].get("ownerReferences", ())):
        return 1.0
    await engine.objects.set_finalizer(key, meta.FINALIZER, wanted=False)
    return None


async def _tell(engine: Engine, key: Key, before: InstanceGroup, todo: Plan) -> None:
    """An event where what is under way has become something that a user should know."""
    said = meta.condition(before.status.conditions, "Progressing")
    if todo.progress is not None and todo.progress.reason in _TOLD and (said is None or said.reason != todo.progress.reason.value):
        await engine.say(key, "Warning", todo.progress.reason, todo.progress.message)


_TOLD = frozenset(
    {
        Reason.BACK_OFF,
        Reason.BRAKED,
        Reason.FROZEN,
        Reason.UNCLAIMED,
        Reason.DUPLICATE_MACHINE,
        Reason.TEMPLATE_INVALID,
        Reason.RENDERER_FAILED,
        Reason.USER_DATA_TOO_LARGE,
        Reason.INPUTS_TOO_LARGE,
        Reason.CONFIG_MAP_NOT_FOUND,
        Reason.CLOUD_INVALID,
        Reason.NO_ADDRESS,
    }
)
