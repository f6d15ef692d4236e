"""Sends launches, exactly once: prepare, read live, record the intent, send; or repeat what was recorded (design section 5).

The Instance's pass calls `launch` or `resend`; the call to the cloud runs on beside the passes, and its outcome is kept here
until the pass has put it into status. What this process does not remember is in the object (`status.launch`) and in the cloud.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from controller import errors
from controller.api.instance import Instance, InstanceStatus, Launch
from controller.api.reasons import Reason
from controller.engine import metrics, request
from controller.engine.clouds import Binding, Clouds, cloud_key, identity_of
from controller.engine.objects import Objects
from controller.logs import bound
from controller.ports import Account, Identity, Key, Launched, LaunchRequest, Now, Renderer, Threads
from controller.reconcilers.instance.observed import Attempt, Sent

log = logging.getLogger(__name__)

MAY_NOT_ACT = "this process may not act for its store: its lock was lost, or the state file was copied or moved (see --moved)"
#: What each refusal means for the launch. Nothing was made in any of these cases (contract of CloudDriver.create).
_REFUSED: dict[type[errors.CloudError], Reason] = {
    errors.NoCapacity: Reason.NO_CAPACITY,
    errors.QuotaExceeded: Reason.QUOTA_EXCEEDED,
    errors.Invalid: Reason.CLOUD_INVALID,
}
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
    threads: Threads
    now: Now
    controller_id: str
    wake: Callable[[Key], None]


class Launcher:
    """One attempt per Instance at a time."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._attempts: dict[str, Attempt] = {}
        self._reserved: dict[Account, set[Identity]] = {}
        self._tasks: dict[asyncio.Task[None], str] = {}

    def attempt(self, uid: str) -> Attempt:
        return self._attempts.get(uid, Attempt())

    def forget(self, uid: str) -> None:
        """The Instance has gone, or what came of its launch is in its status."""
        self._attempts.pop(uid, None)

    def has_room(self, instance: Instance, binding: Binding, limit: int) -> bool:
        """Whether one more machine keeps within `Cloud.spec.maxInstances`, those on their way counted."""
        account = binding.inventory.account
        clouds = self._parts.clouds
        counted = clouds.live(account) | clouds.launched(account) | self._reserved.get(account, set())
        return len(counted | {identity_of(instance)}) <= limit

    async def launch(self, instance: Instance, binding: Binding, recorded: Callable[[Launch], InstanceStatus]) -> None:
        """The first attempt of an Instance whose launch is not recorded. Raises Conflict where a read was stale.

        `recorded` is the status that holds the launch: it is written, and acknowledged, before anything is sent.
        """
        key = Key("Instance", instance.metadata.namespace, instance.metadata.name)
        uid = instance.metadata.uid
        account, identity = binding.inventory.account, identity_of(instance)
        # Reserved before the first await, so that launches prepared at once do not pass the limit together.
        reserved = self._reserved.setdefault(account, set())
        reserved.add(identity)
        try:
            prepared = await self._prepare(instance, binding)
            await self._read_live(instance)
            launch = Launch(digest=request.digest(prepared), fence=prepared.fence, time=self._parts.now())
            await self._record(key, recorded(launch))
        except request.NotNow as missing:
            reserved.discard(identity)
            self._attempts[uid] = Attempt(Sent.HELD, missing.reason, str(missing), at=self._parts.now())
            return
        except Exception:
            reserved.discard(identity)
            raise
        # From here on the record counts (`Clouds.launched`).
        reserved.discard(identity)
        self._send(instance, binding, prepared)

    async def resend(self, instance: Instance, binding: Binding) -> None:
        """The launch is recorded and its outcome unknown: the same call with the same token, or never again (rule 3)."""
        recorded = instance.status.launch
        if recorded is None:
            raise ValueError("resend needs a recorded launch")
        uid = instance.metadata.uid
        try:
            again = replace(await self._build(instance, binding), fence=recorded.fence)
            await self._holds()
        except request.NotNow as missing:
            self._attempts[uid] = Attempt(Sent.MISMATCH, missing.reason, str(missing), at=self._parts.now())
            return
        if request.digest(again) != recorded.digest:
            self._attempts[uid] = Attempt(Sent.MISMATCH, Reason.LAUNCHING, "the request is not what it was", at=self._parts.now())
            return
        self._send(instance, binding, again)

    async def drain(self, seconds: float) -> None:
        """Let calls that are on their way end, for so long at most; what is cut off is repeated by the next process."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=seconds)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- the steps
    async def _prepare(self, instance: Instance, binding: Binding) -> LaunchRequest:
        built = await self._build(instance, binding)
        try:
            answers = await self._call(binding, "prepare", lambda: binding.driver.prepare((built,)))
            fence = answers[0] if len(answers) == 1 else errors.Transient(f"{len(answers)} answers to one request")
        except errors.CloudError as error:
            fence = error
        if isinstance(fence, errors.CloudError):
            raise request.NotNow(_reason(fence), str(fence))
        return replace(built, fence=fence)

    async def _build(self, instance: Instance, binding: Binding) -> LaunchRequest:
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
        await self._holds()

    async def _must_stay(self, key: Key, uid: str) -> None:
        try:
            obj = await self._parts.objects.store.get(key)
        except errors.ObjectNotFound:
            raise request.NotNow(Reason.WAITING_FOR_GROUP, f"{key.kind} {key.name} is gone") from None
        metadata: dict[str, Any] = obj["metadata"]
        if metadata.get("deletionTimestamp") or (uid and metadata["uid"] != uid):
            raise request.NotNow(Reason.WAITING_FOR_GROUP, f"{key.kind} {key.name} is being deleted")

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

    def _send(self, instance: Instance, binding: Binding, prepared: LaunchRequest) -> None:
        uid = instance.metadata.uid
        self._attempts[uid] = Attempt(Sent.IN_FLIGHT, at=self._parts.now(), tries=self.attempt(uid).tries)
        task = asyncio.get_running_loop().create_task(self._carry(instance, binding, prepared), name=f"launch {instance.metadata.name}")
        self._tasks[task] = uid
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _carry(self, instance: Instance, binding: Binding, prepared: LaunchRequest) -> None:
        uid, now = instance.metadata.uid, self._parts.now
        with bound(kind="Instance", namespace=instance.metadata.namespace, name=instance.metadata.name):
            outcome = await self._outcome(binding, prepared)
        self._attempts[uid] = replace(_attempt(outcome), at=now(), tries=self.attempt(uid).tries + 1)
        binding.inventory.hurry()
        self._parts.wake(Key("Instance", instance.metadata.namespace, instance.metadata.name))

    async def _outcome(self, binding: Binding, prepared: LaunchRequest) -> Launched | errors.CloudError:
        try:
            outcomes = await self._call(binding, "create", lambda: binding.driver.create((prepared,)))
            outcome: Launched | errors.CloudError = (
                outcomes[0] if len(outcomes) == 1 else errors.Transient(f"{len(outcomes)} answers to one request")
            )
        except errors.CloudError as error:
            outcome = error
        if isinstance(outcome, errors.CloudError):
            log.warning("The launch failed: %s", outcome)
        return outcome

    async def _call(self, binding: Binding, action: str, call: Callable[[], Any]) -> Any:
        return await metrics.cloud_call(self._parts.threads, binding.inventory.account, action, call)


def _attempt(outcome: Any) -> Attempt:
    """What the cloud's answer means."""
    if not isinstance(outcome, errors.CloudError):
        (machine,) = outcome
        return Attempt(machine=machine)
    refused = _REFUSED.get(type(outcome))
    if refused is not None:
        return Attempt(Sent.REFUSED, refused, str(outcome))
    again = _AGAIN.get(type(outcome))
    if again is not None:
        after = outcome.after_seconds if isinstance(outcome, errors.Throttled) else None
        return Attempt(Sent.UNKNOWN, again, str(outcome), after=timedelta(seconds=after or 0.0))
    return Attempt(Sent.MISMATCH, Reason.LAUNCHING, str(outcome))


def _reason(error: errors.CloudError) -> Reason:
    return {**_REFUSED, **_AGAIN}.get(type(error), Reason.CLOUD_UNREACHABLE)
