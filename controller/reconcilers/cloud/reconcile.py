"""One pass over a Cloud: gather, plan, act, write the status. Decides nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from controller import errors
from controller.api import meta
from controller.api.cloud import AccountStatus, Cloud, CloudStatus
from controller.api.instance import Instance
from controller.api.reasons import Reason
from controller.engine import metrics, request
from controller.engine.clouds import cloud_key
from controller.engine.engine import Engine
from controller.ports import Account, CloudConfig, CloudDriver, Key
from controller.reconcilers.cloud import status
from controller.reconcilers.cloud.plan import AddFinalizer, AskIdentity, Contact, FreeSecret, GuardSecret, Observed, Plan, Release, plan

_REASONS: dict[type[errors.CloudError], Reason] = {
    errors.Denied: Reason.DENIED,
    errors.Throttled: Reason.THROTTLED,
    errors.Invalid: Reason.CLOUD_INVALID,
}


#: The account, or the right to act for it, is not what it was: what was opened before is used no more.
_WITHDRAWN = frozenset(
    {
        *(Reason.ACCOUNT_CHANGED, Reason.CONTROLLER_CHANGED, Reason.UNKNOWN_KIND),
        *(Reason.DENIED, Reason.SECRET_NOT_FOUND, Reason.CLOUD_INVALID),
    }
)
#: How often the number of machines is written while it moves little.
COUNT_SECONDS = 10.0


async def reconcile(engine: Engine, key: Key) -> float | None:
    cloud = engine.objects.model(key, Cloud)
    if cloud is None:
        engine.clouds.forget(key)
        for place in [each for each in engine.memory.cached if each[1] == key]:
            del engine.memory.cached[place]
        return None
    try:
        return await _look(engine, key, cloud)
    except errors.Forbidden:
        # It is the controller that lacks a right; it is told and tried again.
        engine.clouds.not_awaited(key)
        raise


async def _look(engine: Engine, key: Key, cloud: Cloud) -> float | None:
    secret = await _secret(engine, cloud)
    observed = _gather(engine, key, cloud, secret)
    todo = plan(observed)
    for action in todo.actions:
        match action:
            case AddFinalizer():
                await engine.objects.set_finalizer(key, meta.FINALIZER, wanted=True)
            case GuardSecret(name):
                await _note(engine, key, name)
                await engine.objects.guard(Key("Secret", key.namespace, name), meta.FINALIZER, wanted=True)
            case FreeSecret(name):
                await _free(engine, key, (name,))
            case AskIdentity():
                await _ask(engine, key, observed, secret.texts)
            case Release(secrets):
                return await _release(engine, key, secrets)
    if any(isinstance(each, AskIdentity) for each in todo.actions):
        return 0.0  # the answer is looked at by a pass of its own
    # The account is recorded before anything can be made on it.
    await _report(engine, key, observed, todo)
    _bind(engine, key, observed, todo)
    return None if todo.again is None else max(0.0, (todo.again - engine.ports.now()).total_seconds())


async def _report(engine: Engine, key: Key, observed: Observed, todo: Plan) -> None:
    wanted = _paced(engine, key, observed, status.report(observed, todo))
    if not await engine.objects.write_status(key, wanted) or todo.reason is Reason.RECONCILING:
        return
    before = meta.condition(observed.cloud.status.conditions, "Ready")
    said = meta.condition(wanted.conditions, "Ready")
    if said is not None and (before is None or before.reason != said.reason):
        good = said.reason in (Reason.READY.value, Reason.TERMINATING.value)
        await engine.say(key, "Normal" if good else "Warning", Reason(said.reason), said.message)


def _paced(engine: Engine, key: Key, observed: Observed, wanted: CloudStatus) -> CloudStatus:
    """The number of machines is written where it has doubled or halved, else every ten seconds: a large fleet moves it each second."""
    seen, now = observed.cloud.status.machines, engine.ports.now().timestamp()
    if seen is None or wanted.machines is None or 2 * abs(wanted.machines - seen) >= max(wanted.machines, seen):
        return wanted
    place = ("counted", key)
    if now < engine.memory.cached.get(place, 0.0) + COUNT_SECONDS:
        engine.queue.add_after(key, COUNT_SECONDS)
        return wanted.model_copy(update={"machines": seen})
    engine.memory.cached[place] = now
    return wanted


@dataclass(frozen=True, slots=True)
class _Secret:
    """What the Secret that the arm names holds, or what is wrong with it; whether our finalizer stands on it."""

    texts: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    problem: str = ""
    guarded: bool = True


async def _secret(engine: Engine, cloud: Cloud) -> _Secret:
    """Read live: a Secret is in no cache of ours."""
    name = cloud.spec.secret_name()
    if not name:
        return _Secret()
    try:
        found = await request.secret(engine.objects, cloud.metadata.namespace, name)
        return _Secret(request.texts(found), guarded=meta.FINALIZER in found["metadata"].get("finalizers", ()))
    except request.NotNow as missing:
        return _Secret(problem=str(missing))


def _gather(engine: Engine, key: Key, cloud: Cloud, secret: _Secret) -> Observed:
    kind, arm = cloud.spec.arm()
    text = json.dumps([kind, arm, sorted(secret.texts.items())])
    binding = engine.clouds.binding(key)
    inventory = binding.inventory if binding is not None else None
    trouble = inventory.trouble if inventory is not None else None
    return Observed(
        cloud=cloud,
        now=engine.ports.now(),
        controller_id=engine.options.controller_id,
        config=hashlib.sha256(text.encode()).hexdigest(),
        installed=kind in engine.plugins,
        secret=cloud.spec.secret_name(),
        secret_problem=secret.problem,
        guarded=secret.guarded,
        users=_users(engine, key) if cloud.metadata.deleting else 0,
        launched_in=_launched_in(engine, key) if cloud.status.account is None else (),
        contact=engine.clouds.contacts.get(key),
        machines=len(engine.clouds.live(inventory.account)) if inventory is not None and inventory.listed is not None else None,
        trouble=str(trouble) if trouble is not None else "",
        trouble_reason=_reason(trouble) if trouble is not None else Reason.CLOUD_UNREACHABLE,
    )


def _users(engine: Engine, key: Key) -> int:
    """How many Instances are made on the Cloud."""
    return sum(1 for each in engine.objects.models("Instance", Instance) if cloud_key(each) == key)


def _launched_in(engine: Engine, key: Key) -> tuple[AccountStatus, ...]:
    """The accounts in which machines of the Cloud's Instances live, by what these have recorded."""
    accounts = (each.status.launch.account for each in engine.clouds.launched_on(key) if each.status.launch is not None)
    return tuple(each for each in accounts if each is not None)


def _reason(error: errors.CloudError) -> Reason:
    return _REASONS.get(type(error), Reason.CLOUD_UNREACHABLE)


async def _ask(engine: Engine, key: Key, observed: Observed, secret: dict[str, str]) -> None:
    """Open the driver and ask whose account it is; the answer is remembered for the plan."""
    kind, arm = observed.cloud.spec.arm()
    plugin, options = engine.plugins[kind], engine.options
    config = CloudConfig(arm, secret, options.controller_id, options.state_directory, options.allow_local, options.ambient_credentials)
    try:
        kept: tuple[str, CloudDriver] | None = engine.memory.cached.get(("opened", key))
        driver = kept[1] if kept is not None and kept[0] == observed.config else plugin.open(config)
        engine.memory.cached["opened", key] = (observed.config, driver)
        account = await metrics.cloud_call(engine.ports.threads, Account(kind, f"of {key}", "", ""), "identity", driver.identity)
    except errors.CloudError as error:
        engine.clouds.contacts[key] = Contact(engine.ports.now(), observed.config, None, _reason(error), str(error))
        if isinstance(error, errors.Denied) and not observed.secret:
            # It has found its credentials elsewhere, and they may be others there by now: a file of them, once somebody has logged in.
            engine.memory.cached.pop(("opened", key), None)
        return
    old = engine.clouds.contacts.get(key)
    engine.clouds.contacts[key] = Contact(engine.ports.now(), observed.config, account)
    if old is None or old.with_config != observed.config or old.account != account or engine.clouds.binding(key) is None:
        engine.memory.cached["driver", key] = driver


def _bind(engine: Engine, key: Key, observed: Observed, todo: Plan) -> None:
    """Bind while the account is the recorded one; unbind a Cloud whose credentials, or whose controller, are others."""
    contact = observed.contact
    # Credentials that answer and may not list can be given the right at any moment.
    lists_in_vain = contact is not None and contact.account is not None and todo.reason is observed.trouble_reason
    if todo.reason in _WITHDRAWN and not lists_in_vain:
        if todo.reason is Reason.SECRET_NOT_FOUND:
            engine.clouds.contacts.pop(key, None)  # the same Secret, once it is back, is asked with anew
        engine.clouds.refuse(key)
        return
    driver = engine.memory.cached.pop(("driver", key), None)
    if driver is not None and contact is not None and contact.account is not None:
        kind, _ = observed.cloud.spec.arm()
        binding = engine.clouds.binding(key)
        if binding is not None and binding.inventory.account != contact.account:
            engine.clouds.unbind(key)
        engine.clouds.bind(key, engine.plugins[kind], driver, contact.account)


async def _note(engine: Engine, key: Key, secret: str) -> None:
    """Record that the Secret carries our finalizer before it does: nobody else would know of it."""
    cloud = engine.objects.model(key, Cloud)
    if cloud is not None:
        secrets = tuple(sorted({*cloud.status.secrets, secret}))
        await engine.objects.write_status(key, cloud.status.model_copy(update={"secrets": secrets}))


async def _free(engine: Engine, key: Key, secrets: tuple[str, ...]) -> None:
    """Take our finalizer off Secrets that no other Cloud names."""
    others = [each for each in engine.objects.models("Cloud", Cloud) if each.metadata.namespace == key.namespace]
    needed = {each.spec.secret_name() for each in others if each.metadata.name != key.name}
    for name in secrets:
        if name not in needed:
            await engine.objects.guard(Key("Secret", key.namespace, name), meta.FINALIZER, wanted=False)


async def _release(engine: Engine, key: Key, secrets: tuple[str, ...]) -> float | None:
    """Let the Cloud go once a live list shows no Instance of it; its Secrets first, for afterwards nobody would know of them."""
    live = await engine.objects.store.list("Instance", key.namespace)
    if any(each["spec"]["implementation"]["cloudRef"]["name"] == key.name for each in live):
        return 1.0
    await _free(engine, key, secrets)
    await engine.objects.set_finalizer(key, meta.FINALIZER, wanted=False)
    # What answered for this one is no answer for the next one of its name.
    engine.clouds.forget(key)
    # Of two that go at once each has seen the other.
    await _free(engine, key, secrets)
    return None
