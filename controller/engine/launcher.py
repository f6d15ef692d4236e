"""Sends launches, exactly once: prepare, read live, record the intent, send; or repeat what was recorded (design section 5).

The Instance's pass calls `launch` or `resend`; the call to the cloud runs on beside the passes, and its outcome is kept here
until the pass has put it into status. What this process does not remember is in the object (`status.launch`) and in the cloud.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from controller import errors
from controller.api import meta
from controller.api.instance import Instance, InstanceStatus, Launch
from controller.api.reasons import Reason
from controller.engine import request
from controller.engine.clouds import Binding, Clouds, cloud_key, identity_of
from controller.engine.denials import ASKS_SECONDS, Denials, group_of
from controller.engine.objects import Objects
from controller.engine.turns import Turns, Wish
from controller.logs import bound
from controller.ports import Account, Identity, Key, Launched, LaunchRequest, Now, Obj, Renderer
from controller.reconcilers.cloud.plan import account_status
from controller.reconcilers.instance.observed import Attempt, Sent

log = logging.getLogger(__name__)

MAY_NOT_ACT = "this process may not act for its store: its lock was lost, or the state file was copied or moved (see --moved)"
#: What each refusal means for the launch. Nothing was made in any of these cases (contract of CloudDriver.create).
_REFUSED: dict[type[errors.CloudError], Reason] = {
    errors.NoCapacity: Reason.NO_CAPACITY,
    errors.QuotaExceeded: Reason.QUOTA_EXCEEDED,
    errors.Invalid: Reason.CLOUD_INVALID,
}
#: A launch that was recorded was rendered once; if this machine cannot do so again, that is tried so much later.
_RENDERED_AGAIN = timedelta(seconds=10)
#: How soon a launch is tried again that cost too much to render.
_TOO_COSTLY = timedelta(seconds=60)
#: These leave the outcome open, or open a way to send the very same call later.
_AGAIN: dict[type[errors.CloudError], Reason] = {
    errors.Throttled: Reason.THROTTLED,
    errors.Denied: Reason.DENIED,
    errors.Transient: Reason.CLOUD_UNREACHABLE,
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What the launcher works with."""

    objects: Objects
    clouds: Clouds
    renderer: Renderer
    now: Now
    controller_id: str
    wake: Callable[[Key], None]


class Launcher:
    """One attempt per Instance at a time."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._attempts: dict[str, Attempt] = {}
        self._reserved: dict[Account, frozenset[Identity]] = {}
        #: Where each Instance that waits has asked for its turn within an account's rate.
        self._asked: dict[str, Turns] = {}
        self._denials = Denials(self._driver, parts.wake)
        self._tasks: dict[asyncio.Task[None], str] = {}

    def attempt(self, uid: str) -> Attempt:
        found = self._attempts.get(uid, Attempt())
        denied = found.sent is Sent.BEHIND or (found.sent is Sent.UNKNOWN and found.reason is Reason.DENIED)
        # Allowed by now, or to be asked by other credentials: that is due at once.
        if denied and not self._denials.stands(uid):
            return replace(found, sent=Sent.PACED, after=timedelta(0), reason=None, message="")
        return found

    def forget(self, uid: str) -> None:
        """The Instance has gone, or what came of its launch is in its status."""
        self._attempts.pop(uid, None)
        self._denials.forget(uid)
        self._leave(uid)

    def forget_group(self, uid: str) -> None:
        """The group has gone: what its launches were answered matters no more."""
        self._denials.forget_group(uid)

    def room(self, account: Account, limit: int) -> int:
        """How many more machines keep within `Cloud.spec.maxInstances`, those on their way counted."""
        return limit - len(self._counted(account))

    def has_room(self, instance: Instance, binding: Binding, limit: int) -> bool:
        """Whether the machines of the Instance's batch keep within `Cloud.spec.maxInstances`, those on their way counted."""
        return len(self._counted(binding.inventory.account) | _identities(instance)) <= limit

    def _counted(self, account: Account) -> set[Identity]:
        clouds = self._parts.clouds
        return clouds.live(account) | clouds.launched(account) | self._reserved.get(account, frozenset[Identity]())

    def _let_go(self, account: Account, identities: Set[Identity]) -> None:
        """These are reserved no longer."""
        left = self._reserved.pop(account, frozenset[Identity]()) - identities
        if left:
            self._reserved[account] = left

    async def launch(self, instance: Instance, binding: Binding, recorded: Callable[[Launch], InstanceStatus]) -> None:
        """The first attempt of an Instance whose launch is not recorded. Raises Conflict where a read was stale.

        `recorded` is the status that holds the launch: it is written, and acknowledged, before anything is sent.
        """
        key = Key("Instance", instance.metadata.namespace, instance.metadata.name)
        uid = instance.metadata.uid
        if self._is_behind(instance) or not self._has_turn(instance, binding):
            return
        account, identities = binding.inventory.account, _identities(instance)
        # Reserved before the first await, so that launches prepared at once do not pass the limit together.
        self._reserved[account] = self._reserved.get(account, frozenset[Identity]()) | identities
        try:
            prepared = await self._prepare(instance, binding)
            await self._read_live(instance)
            launch = Launch(digest=prepared.digest, fence=prepared.request.fence, time=self._parts.now(), account=account_status(account))
            await self._record(key, recorded(launch))
        except request.NotNow as missing:
            self._let_go(account, identities)
            binding.inventory.calls.turns.give_back(machines=len(identities))
            # The renderer answers by what it remembers for longer; a Secret that the template reads may be mended meanwhile.
            after = _TOO_COSTLY if missing.passing and missing.reason is Reason.TEMPLATE_INVALID else timedelta(0)
            self._attempts[uid] = Attempt(Sent.HELD, missing.reason, str(missing), at=self._parts.now(), after=after)
            return
        except Exception:
            self._let_go(account, identities)
            binding.inventory.calls.turns.give_back(machines=len(identities))
            raise
        # From here on the record counts (`Clouds.launched`); of later members once they have it.
        self._let_go(account, {identity_of(instance)})
        self._send(instance, binding, prepared.request, unanswered=False)

    async def resend(self, instance: Instance, binding: Binding) -> None:
        """The launch is recorded and its outcome unknown: the same call with the same token, or never again (rule 3)."""
        recorded = instance.status.launch
        if recorded is None:
            raise ValueError("resend needs a recorded launch")
        if self._is_behind(instance) or not self._has_turn(instance, binding):
            return
        again: LaunchRequest | None = None
        try:
            again = await self._as_recorded(instance, binding, recorded)
        finally:
            if again is None:
                binding.inventory.calls.turns.give_back(machines=instance.spec.batch.size)
        if again is not None:
            before = self.attempt(instance.metadata.uid)
            # A first call that this process has no answer to was sent by the one before it, or was not: nobody knows.
            self._send(instance, binding, again, unanswered=before.unanswered or not before.tries)

    async def _as_recorded(self, instance: Instance, binding: Binding, recorded: Launch) -> LaunchRequest | None:
        """The request that was recorded; None where it cannot be made again, byte for byte, or not now."""
        uid = instance.metadata.uid
        try:
            again = await self._build(instance, binding)
        except request.NotNow as missing:
            if missing.passing:
                failed = replace(self.attempt(uid), sent=Sent.UNKNOWN, reason=Reason.RENDERER_FAILED, message=str(missing))
                self._attempts[uid] = replace(failed, at=self._parts.now(), after=_RENDERED_AGAIN)
                return None
            self._attempts[uid] = Attempt(Sent.MISMATCH, missing.reason, str(missing), at=self._parts.now())
            return None
        if again.digest != recorded.digest:
            self._attempts[uid] = Attempt(Sent.MISMATCH, Reason.LAUNCHING, "the request is not what it was", at=self._parts.now())
            return None
        return replace(again.request, fence=recorded.fence)

    def _is_behind(self, instance: Instance) -> bool:
        """Whether another launch that is denied asks again for this one too."""
        uid = instance.metadata.uid
        why = self._denials.waits(instance, _now())
        if why:
            self._leave(uid)
            again = timedelta(seconds=random.uniform(ASKS_SECONDS, 2 * ASKS_SECONDS))
            before = self.attempt(uid)
            behind = Attempt(Sent.BEHIND, Reason.DENIED, why, at=self._parts.now(), tries=before.tries, after=again)
            self._attempts[uid] = replace(behind, unanswered=before.unanswered)
        return bool(why)

    def _has_turn(self, instance: Instance, binding: Binding) -> bool:
        """Whether the launch's turn has come; a turn is taken before the launch is committed, and asked for once."""
        uid, turns = instance.metadata.uid, binding.inventory.calls.turns
        if self._asked.get(uid) is not turns:
            self._leave(uid)
            self._asked[uid] = turns
        key = Key("Instance", instance.metadata.namespace, instance.metadata.name)
        wait = turns.ask(Wish(uid, group_of(instance), instance.spec.batch.size, lambda: self._come(uid, key)))
        if wait > 0:
            self._attempts[uid] = replace(self.attempt(uid), sent=Sent.PACED, at=self._parts.now(), after=timedelta(seconds=wait))
            return False
        del self._asked[uid]
        return True

    def _come(self, uid: str, key: Key) -> None:
        """The turn has come, before or after it was thought to."""
        attempt = self._attempts.get(uid)
        if attempt is not None and attempt.sent is Sent.PACED:
            self._attempts[uid] = replace(attempt, after=timedelta(0))
        self._parts.wake(key)

    def _leave(self, uid: str) -> None:
        asked = self._asked.pop(uid, None)
        if asked is not None:
            asked.forget(uid)

    def _driver(self, cloud: Key) -> object | None:
        binding = self._parts.clouds.binding(cloud)
        return binding.driver if binding is not None else None

    async def drain(self, seconds: float) -> None:
        """Let calls that are on their way end, for so long at most; what is cut off is repeated by the next process."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=seconds)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- the steps
    async def _prepare(self, instance: Instance, binding: Binding) -> request.Built:
        built = await self._build(instance, binding)
        try:
            answers = await binding.inventory.calls("prepare", lambda: binding.driver.prepare((built.request,)))
            fence = answers[0] if len(answers) == 1 else errors.Transient(f"{len(answers)} answers to one request")
        except errors.CloudError as error:
            fence = error
        if isinstance(fence, errors.CloudError):
            raise request.NotNow(_reason(fence), str(fence))
        return replace(built, request=replace(built.request, fence=fence))

    async def _build(self, instance: Instance, binding: Binding) -> request.Built:
        parts = self._parts
        return await request.build(parts.objects, parts.renderer, parts.controller_id, binding.driver.user_data_limit_bytes, instance)

    async def _read_live(self, instance: Instance) -> None:
        """None of those that the machine is made for may be going: a zombie must not create under a deleting owner."""
        namespace, spec = instance.metadata.namespace, instance.spec
        owner = next((each for each in instance.metadata.owner_references if each.kind == "InstanceGroup"), None)
        if owner is None:
            raise request.NotNow(Reason.WAITING_FOR_GROUP, "it names no group as its owner")
        for key, uid in (
            (Key("InstanceGroup", namespace, owner.name), owner.uid),
            (Key("Infrastructure", namespace, spec.infrastructure.name), ""),
            (cloud_key(instance), ""),
        ):
            await self._must_stay(key, uid)
        if spec.batch.size > 1:
            await self._must_be_whole(instance, owner.name)
        await self._holds()

    async def _must_be_whole(self, instance: Instance, group: str) -> None:
        """Each member of the batch must be there and stay: a machine is made for each (rule 2)."""
        batch = await self._batch(instance, {meta.GROUP_LABEL: group})
        if len(batch) < instance.spec.batch.size:
            batch = await self._batch(instance, None)  # somebody took a label away
        if len(batch) != instance.spec.batch.size or any(each["metadata"].get("deletionTimestamp") for each in batch):
            raise request.NotNow(Reason.WAITING_FOR_GROUP, "its batch is not whole")
        if any(part in each.get("status", {}) for each in batch for part in ("launch", "machine")):
            raise request.NotNow(Reason.WAITING_FOR_GROUP, "its batch was launched before")

    async def _batch(self, instance: Instance, labels: dict[str, str] | None) -> list[Obj]:
        found = await self._parts.objects.store.list("Instance", instance.metadata.namespace, labels)
        return [each for each in found if each["spec"]["batch"]["id"] == instance.spec.batch.id]

    async def _must_stay(self, key: Key, uid: str) -> None:
        why = Reason.WAITING_FOR_CLOUD if key.kind == "Cloud" else Reason.WAITING_FOR_GROUP
        try:
            obj = await self._parts.objects.store.get(key)
        except errors.ObjectNotFound:
            raise request.NotNow(why, f"{key.kind} {key.name} is gone") from None
        metadata: dict[str, Any] = obj["metadata"]
        if metadata.get("deletionTimestamp") or (uid and metadata["uid"] != uid):
            raise request.NotNow(why, f"{key.kind} {key.name} is being deleted")

    async def _holds(self) -> None:
        if not await self._parts.objects.store.holds():
            raise request.NotNow(Reason.FROZEN, MAY_NOT_ACT)

    async def _record(self, key: Key, status: InstanceStatus) -> None:
        """Write the intent at the version seen, and see it acknowledged. Whatever happens, nothing was sent before."""
        seen = self._parts.objects.get(key)
        if seen is None:
            raise errors.ObjectNotFound(str(key))
        if seen["metadata"].get("deletionTimestamp"):
            raise errors.Conflict(f"{key} is being deleted")
        await self._parts.objects.write_status(key, status)

    def _send(self, instance: Instance, binding: Binding, prepared: LaunchRequest, *, unanswered: bool) -> None:
        uid = instance.metadata.uid
        self._attempts[uid] = Attempt(Sent.IN_FLIGHT, at=self._parts.now(), tries=self.attempt(uid).tries, unanswered=unanswered)
        task = asyncio.get_running_loop().create_task(self._carry(instance, binding, prepared), name=f"launch {instance.metadata.name}")
        self._tasks[task] = uid
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _carry(self, instance: Instance, binding: Binding, prepared: LaunchRequest) -> None:
        uid, now = instance.metadata.uid, self._parts.now
        with bound(kind="Instance", namespace=instance.metadata.namespace, name=instance.metadata.name):
            outcome = await self._outcome(binding, prepared)
        before = self.attempt(uid)
        attempt = _attempt(outcome, instance.spec.batch.size, unanswered=before.unanswered)
        self._attempts[uid] = replace(attempt, at=now(), tries=before.tries + 1)
        self._learn(instance, binding, outcome)
        binding.inventory.hurry()
        identities = _identities(instance)
        for identity in sorted(identities):
            key = self._parts.clouds.instance(identity)
            if key is not None:
                self._parts.wake(key)
        self._let_go(binding.inventory.account, identities)
        if self._parts.clouds.instance(identity_of(instance)) is None:
            self.forget(uid)  # it was given up meanwhile: nobody asks for the answer

    def _learn(self, instance: Instance, binding: Binding, outcome: Launched | errors.CloudError) -> None:
        """What the answer means for other launches."""
        if isinstance(outcome, errors.Denied):
            self._parts.clouds.doubt(binding.driver)
        if isinstance(outcome, errors.Denied) and binding.driver is self._driver(cloud_key(instance)):
            self._denials.denied(instance, str(outcome), _now())
        elif not isinstance(outcome, errors.Denied | errors.Throttled | errors.Transient):
            self._denials.allowed(instance)
        if isinstance(outcome, (errors.Denied, errors.Throttled, *_REFUSED)):
            # Nothing was made: what EC2 counts by machines is not used.
            binding.inventory.calls.turns.give_back(calls=0, machines=instance.spec.batch.size)

    async def _outcome(self, binding: Binding, prepared: LaunchRequest) -> Launched | errors.CloudError:
        try:
            # The last look before the call: the Lease may have been lost while the intent was written.
            if not await self._parts.objects.store.holds():
                raise errors.Transient(MAY_NOT_ACT)
            outcomes = await binding.inventory.calls.admitted("create", lambda: binding.driver.create((prepared,)))
            outcome: Launched | errors.CloudError = (
                outcomes[0] if len(outcomes) == 1 else errors.Transient(f"{len(outcomes)} answers to one request")
            )
        except errors.StoreError as error:
            outcome = errors.Transient(str(error))
        except errors.CloudError as error:
            outcome = error
        if isinstance(outcome, errors.Throttled):
            binding.inventory.calls.throttled("create")
        if isinstance(outcome, errors.CloudError):
            log.warning("The launch failed: %s", outcome)
        return outcome


def _identities(instance: Instance) -> set[Identity]:
    """Those of all machines that the Instance's launch makes."""
    return {Identity(instance.spec.batch.id, index) for index in range(instance.spec.batch.size)}


def _attempt(outcome: Launched | errors.CloudError, size: int, *, unanswered: bool) -> Attempt:
    """What the cloud's answer means; `unanswered` that an earlier call of the same launch had none."""
    if not isinstance(outcome, errors.CloudError):
        if len(outcome) != size:
            said = f"the cloud answered with {len(outcome)} machines instead of {size}"
            return Attempt(Sent.UNKNOWN, Reason.CLOUD_UNREACHABLE, said, unanswered=True)
        return Attempt(machine=outcome[0], batch=outcome)
    refused = _REFUSED.get(type(outcome))
    if refused is not None:
        fewer = not isinstance(outcome, errors.NoCapacity) or outcome.fewer
        # A refusal tells of its own call alone: one that is still on its way may find room.
        return Attempt(Sent.DOUBTFUL if unanswered else Sent.REFUSED, refused, str(outcome), fewer=fewer, unanswered=unanswered)
    again = _AGAIN.get(type(outcome))
    if again is not None:
        after = outcome.after_seconds if isinstance(outcome, errors.Throttled) else None
        unanswered = unanswered or isinstance(outcome, errors.Transient)
        return Attempt(Sent.UNKNOWN, again, str(outcome), after=timedelta(seconds=after or 0.0), unanswered=unanswered)
    return Attempt(Sent.MISMATCH, Reason.LAUNCHING, str(outcome))


def _now() -> float:
    return asyncio.get_running_loop().time()


def _reason(error: errors.CloudError) -> Reason:
    return {**_REFUSED, **_AGAIN}.get(type(error), Reason.CLOUD_UNREACHABLE)
