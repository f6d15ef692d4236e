"""One pass over an Instance: gather, plan, act, write the status. Decides nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from controller import errors
from controller.api import meta
from controller.api.cloud import Cloud
from controller.api.group import InstanceGroup
from controller.api.infrastructure import Infrastructure
from controller.api.instance import Instance, Launch
from controller.api.reasons import Reason
from controller.engine import metrics, prober
from controller.engine.clouds import NAMESPACE_TAG, Binding, cloud_key, identity_of
from controller.engine.denials import group_of
from controller.engine.engine import MANY, Engine
from controller.engine.objects import dump
from controller.engine.terminator import Asker
from controller.ports import Account, Key, Machine, MachineId, MachineState
from controller.reconcilers.cloud.plan import account_status
from controller.reconcilers.instance import members, observed, plan, status, steps
from controller.reconcilers.instance.observed import Acts, CloudView, Observed, Owner, Sight
from controller.reconcilers.instance.steps import Action, AddFinalizer, Close, Plan, Record, Release, Resend, Stand, Terminate
from controller.reconcilers.instancegroup.gather import blockers
from controller.reconcilers.instancegroup.observed import failed, wanted

#: What nobody needs further proof of while the Instance stays.
_GONE = frozenset({MachineState.TERMINATED.value, "missing"})
#: How soon an act that failed is tried again.
FAILED_ACT_SECONDS = 2.0


async def reconcile(engine: Engine, key: Key) -> float | None:
    instance = engine.objects.model(key, Instance)
    if instance is None:
        return None
    binding = engine.clouds.binding(cloud_key(instance))
    gathered = _gather(engine, instance, binding)
    todo = plan.plan(gathered)
    for action in todo.actions:
        if isinstance(action, Release):
            return await _release(engine, key, instance, action)
        await _act(engine, key, instance, binding, action)
    fresh = engine.objects.model(key, Instance)
    if fresh is None:
        return None
    # What is reported is how it stands after the acts, with what came of them.
    seen = plan.plan(_gather(engine, fresh, binding)) if todo.actions else todo
    if any(isinstance(each, Release) for each in seen.actions):
        return 0.0  # it goes: nobody would read its status
    _probe(engine, key, fresh, seen.stand, binding)
    if not seen.stand.untold:
        # Of a batch's later member the launch of its first one is written with the first news of its own.
        await _report(engine, key, members.gather(engine, fresh).instance, seen)
    _note_verdict(engine, engine.objects.model(key, Instance), seen.stand, binding)
    if seen.stand.reason is Reason.LIMIT_REACHED and fresh.spec.batch.index == 0:
        engine.clouds.wait_for_room(key)
    if todo.actions and seen.actions:
        # Nothing else wakes it: its machine has not changed, and a write of its own does not. An act that is due again
        # although it was done has failed.
        return FAILED_ACT_SECONDS if seen.actions == todo.actions else 0.0
    _await_proof(engine, key, engine.objects.model(key, Instance) or fresh, binding)
    if seen.again is None:
        return None
    left = (seen.again - engine.ports.now()).total_seconds()
    if left > 0:
        return max(0.05, left)
    # Overdue: a newer list is awaited, however long it takes.
    if binding is None:
        return FAILED_ACT_SECONDS
    binding.inventory.wake_after_list(key)
    return None


# --- gather ---------------------------------------------------------------------------------------------------------
def _gather(engine: Engine, instance: Instance, binding: Binding | None) -> Observed:
    if binding is not None:
        engine.prober.renew(instance.metadata.uid, binding.inventory.recovered, binding.inventory.cut_off_since)
    rival, doubtful = _rivals(engine, instance)
    batch = members.gather(engine, instance)
    instance = batch.instance
    recorded = MachineId(instance.status.machine.id) if instance.status.machine is not None else None
    sight = binding.inventory.sight(identity_of(instance), recorded) if binding is not None else Sight()
    now, probed = engine.ports.now(), engine.prober.probed_seconds(instance.metadata.uid)
    return Observed(
        instance=instance,
        now=now,
        owner=_owner(engine, instance),
        cloud=_cloud(engine, instance, binding, doubtful),
        sight=sight,
        attempt=batch.attempt,
        health=engine.prober.view(instance.metadata.uid),
        probed_since=now - timedelta(seconds=probed) if probed is not None else None,
        acts=engine.memory.acts.get(instance.metadata.uid, Acts()),
        first=batch.first,
        first_said=batch.first_said,
        batch_sent=batch.sent,
        rival=rival,
        elsewhere=_elsewhere(engine, sight),
    )


def _rivals(engine: Engine, instance: Instance) -> tuple[Instance | None, Instance | None]:
    """A copy that may have its machine; of one that goes a copy that certainly may, and one of which that is not known.

    To be let go for a copy's sake is for ever. A copy that can have no machine is none, and what can have none itself gives up nothing.
    """
    accounts, key = engine.clouds.accounts, _key_of(instance)
    found = engine.clouds.rivals(identity_of(instance), key)
    if not instance.metadata.deleting or accounts.has_none(key):
        return next(iter(found), None), None
    same = (each for each in found if accounts.same(key, _key_of(each)))
    unknown = (each for each in found if accounts.same(key, _key_of(each)) is None and not accounts.has_none(_key_of(each)))
    return next(same, None), next(unknown, None)


def _elsewhere(engine: Engine, sight: Sight) -> str:
    places = (each.tags.get(NAMESPACE_TAG, "") for each in sight.machines)
    return next((each for each in places if each in engine.options.unserved), "")


def _key_of(instance: Instance) -> Key:
    return Key("Instance", instance.metadata.namespace, instance.metadata.name)


def _doubt(copy: Instance) -> str:
    """Why nothing is ended by a Cloud that can be used."""
    place, name = f"{copy.metadata.namespace}/{copy.metadata.name}", cloud_key(copy).name
    return f"the machine may be that of Instance {place} while the account of its Cloud {name} is not known; mend that, or delete the copy"


def _owner(engine: Engine, instance: Instance) -> Owner:
    namespace = instance.metadata.namespace
    reference = next((each for each in instance.metadata.owner_references if each.kind == "InstanceGroup"), None)
    group = engine.objects.model(Key("InstanceGroup", namespace, reference.name), InstanceGroup) if reference is not None else None
    if group is None or reference is None or group.metadata.uid != reference.uid:
        return Owner(exists=False)
    infrastructure = engine.objects.model(Key("Infrastructure", namespace, instance.spec.infrastructure.name), Infrastructure)
    going = group.metadata.deleting or infrastructure is None or infrastructure.metadata.deleting
    noted = group.metadata.annotations.get(meta.SCALED_IN, "").split(",")
    return Owner(
        exists=True,
        going=going,
        paused=group.spec.paused,
        fleet=wanted(group) > MANY or engine.objects.count(reference.uid, "Instance") > MANY,
        blockers=blockers(engine, group) if going and instance.metadata.deleting else (),
        counted=instance.metadata.name in noted,
    )


def _cloud(engine: Engine, instance: Instance, binding: Binding | None, doubtful: Instance | None) -> CloudView:
    cloud = engine.objects.model(cloud_key(instance), Cloud)
    if cloud is None:
        return CloudView()
    if binding is None:
        said = meta.condition(cloud.status.conditions, "Ready")
        frozen = said is not None and said.status == "False"
        message = said.message if said is not None and frozen else "the account was not asked yet"
        return CloudView(exists=True, message=message, unasked=not frozen)
    if doubtful is not None:
        return CloudView(exists=True, message=_doubt(doubtful))
    trouble = binding.inventory.trouble
    return CloudView(
        exists=True,
        ready=trouble is None,
        message=str(trouble) if trouble is not None else "",
        settle=timedelta(seconds=binding.driver.settle_seconds),
        room=instance.status.launch is not None or engine.launcher.has_room(instance, binding, cloud.spec.max_instances),
        limit=cloud.spec.max_instances,
        unasked=trouble is None and binding.inventory.listed is None,
    )


# --- act ------------------------------------------------------------------------------------------------------------
async def _act(engine: Engine, key: Key, instance: Instance, binding: Binding | None, action: Action) -> None:
    if isinstance(action, AddFinalizer):
        await engine.objects.set_finalizer(key, meta.FINALIZER, wanted=True)
        return
    if binding is None:
        raise errors.Transient(f"Cloud {cloud_key(instance).name} is not bound")  # the plan asks for a ready cloud first
    match action:
        case steps.Launch():
            await engine.launcher.launch(instance, binding, lambda launch: status.sent(instance, launch, engine.ports.now()))
        case Resend():
            await engine.launcher.resend(instance, binding)
        case Record(machine):
            await engine.objects.write_launch(key, dump(_rebuilt(engine, machine, binding.inventory.account)))
        case Terminate(ids):
            _terminate(engine, key, instance, binding, ids)
        case Close():
            await _close(engine, instance, binding)
        case Release():
            raise ValueError("released by reconcile")


def _rebuilt(engine: Engine, machine: Machine, account: Account) -> Launch:
    """The record of a launch that a restore has dropped. No digest equals it, so the launch is never sent again."""
    return Launch(digest="restored", time=machine.created or engine.ports.now(), account=account_status(account))


def _terminate(engine: Engine, key: Key, instance: Instance, binding: Binding, ids: tuple[MachineId, ...]) -> None:
    uid = instance.metadata.uid
    engine.memory.acts[uid] = replace(engine.memory.acts.get(uid, Acts()), terminated=engine.ports.now())
    engine.terminator.end(binding, ids, Asker(uid, key))


async def _close(engine: Engine, instance: Instance, binding: Binding) -> None:
    fence = instance.status.launch.fence if instance.status.launch is not None else ""
    batch = instance.spec.batch.id
    acts = engine.memory.acts.get(instance.metadata.uid, Acts())
    try:
        await binding.inventory.calls("close", lambda: binding.driver.close(batch, fence))
    except errors.CloudError as error:
        engine.memory.acts[instance.metadata.uid] = replace(acts, trouble=str(error))
        return
    engine.memory.acts[instance.metadata.uid] = replace(acts, closed=engine.ports.now())


async def _release(engine: Engine, key: Key, instance: Instance, action: Release) -> float | None:
    if action.reason is not Reason.ABANDONED and await members.needed(engine, instance):
        return members.NEEDED_SECONDS
    if action.reason is not Reason.DELETED:
        metrics.abandoned.labels(action.reason.value).inc()
        await engine.say(key, "Warning", action.reason, action.message)
    await engine.objects.set_finalizer(key, meta.FINALIZER, wanted=False)
    uid = instance.metadata.uid
    engine.launcher.forget(uid)
    engine.prober.forget(uid)
    engine.memory.acts.pop(uid, None)
    return None


# --- report ---------------------------------------------------------------------------------------------------------
async def _report(engine: Engine, key: Key, fresh: Instance, todo: Plan) -> None:
    now = engine.ports.now()
    wanted = status.report(fresh, todo.stand, now)
    before, after = meta.condition(fresh.status.conditions, "Ready"), meta.condition(wanted.conditions, "Ready")
    if not await engine.objects.write_status(key, wanted):
        return
    if wanted.ready_time is not None and fresh.status.ready_time is None and wanted.launch is not None:
        metrics.launch_seconds.observe(max(0.0, (now - wanted.launch.time).total_seconds()))
    if after is not None and (before is None or before.reason != after.reason) and after.reason in _TOLD:
        await engine.say(key, _TOLD[after.reason], Reason(after.reason), after.message)


#: What a user is told by an event; the steps between are in the conditions.
_TOLD: dict[str, Any] = {
    Reason.READY.value: "Normal",
    Reason.TERMINATING.value: "Normal",
    **{
        each.value: "Warning"
        for each in (
            Reason.PROBE_FAILED,
            Reason.STARTUP_TIMEOUT,
            Reason.MACHINE_ENDED,
            Reason.MACHINE_STOPPED,
            Reason.MACHINE_MISSING,
            Reason.MACHINE_ERROR,
            Reason.MACHINE_UNKNOWN,
            Reason.DUPLICATE_MACHINE,
            Reason.LAUNCH_LOST,
            Reason.NO_CAPACITY,
            Reason.QUOTA_EXCEEDED,
            Reason.DENIED,
            Reason.CLOUD_INVALID,
            Reason.TEMPLATE_INVALID,
            Reason.USER_DATA_TOO_LARGE,
            Reason.SECRET_NOT_FOUND,
            Reason.LIMIT_REACHED,
        )
    },
}


def _note_verdict(engine: Engine, instance: Instance | None, stand: Stand, binding: Binding | None) -> None:
    """Tell the group of a verdict by lists that are good now: by what an earlier process or a time of doubt left nothing is replaced."""
    if instance is None or binding is None or binding.inventory.trouble is not None or binding.inventory.recovered is None:
        return
    # One that runs and cannot be probed is judged by what was said of it.
    if stand.keep and (stand.machine is None or observed.probed(instance, stand.machine)):
        return
    uid, since = instance.metadata.uid, binding.inventory.recovered
    if engine.memory.judged.get(uid) == since:
        return
    engine.memory.judged[uid] = since
    owner = next((each for each in instance.metadata.owner_references if each.kind == "InstanceGroup"), None)
    if owner is not None and failed(instance) is not None:
        engine.wake(Key("InstanceGroup", instance.metadata.namespace, owner.name))


def _probe(engine: Engine, key: Key, instance: Instance, stand: Stand, binding: Binding | None) -> None:
    """Probe what runs, and nothing else."""
    machine, uid, health = stand.machine, instance.metadata.uid, instance.spec.health
    if machine is None and stand.keep and not instance.metadata.deleting:
        return
    if machine is None or binding is None or machine.state is not MachineState.RUNNING or not health.probes or instance.metadata.deleting:
        engine.prober.forget(uid)
        return
    addresses = observed.probed(instance, machine)
    if not addresses:
        return
    loopback = binding.plugin.loopback or (engine.options.allow_local and binding.on_this_computer)
    target = prober.Target(addresses[0], health, loopback, instance.status.ready_time is not None, group_of(instance))
    engine.prober.watch(uid, key, target, binding.inventory.recovered)


def _await_proof(engine: Engine, key: Key, instance: Instance, binding: Binding | None) -> None:
    """While something waits for what the next list does not show, it is woken by it; what it shows wakes by itself."""
    if binding is None:
        return
    recorded = instance.status.machine
    if recorded is None and instance.metadata.deleting:
        binding.inventory.wake_after_list(key)
    judged = engine.memory.judged.get(instance.metadata.uid) == binding.inventory.recovered
    known = recorded is not None and recorded.state in _GONE and judged and not instance.metadata.deleting
    if recorded is not None and not known and recorded.id not in binding.inventory.machines:
        binding.inventory.wake_after_answer(key)
