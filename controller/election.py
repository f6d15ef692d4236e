"""Which one of several operators leads: the holder of one Lease (coordination.k8s.io/v1).

`observe`, `decide` and `written` are the rules, pure; `Election` asks and writes. The operator calls `acquire`, then `keep` beside its
work, `holds` before each mutation, and `release` after the last one. What a leader does is not known here. The Lease keeps two
operators from working against each other and fences nothing: that a machine is made once is the cloud's doing (design section 5,
rule 9).

No two machines' wall clocks are ever compared. A candidate waits for the holder's whole duration on its own clock, from when it saw
the last renewal; the holder counts from when it began that renewal, which was earlier, and stops `margin_seconds` before.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import random
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import aiohttp

from controller import errors
from controller.ports import Obj
from controller.stores.access import Access
from controller.stores.answers import Asked
from controller.stores.requests import Requests
from controller.stores.resources import Resource

log = logging.getLogger(__name__)

#: Whoever ends waits no longer than this to hand over.
RELEASE_SECONDS = 2.0
# CLOCK_MONOTONIC goes on while a process is stopped (SIGSTOP), but on Linux not while the machine sleeps, and then another one's
# candidate takes over unseen: CLOCK_BOOTTIME counts that too. Where there is none (macOS) CLOCK_MONOTONIC does.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_seconds() -> float:
    """Seconds on a clock that nobody sets, and that goes on while the process is stopped or the machine sleeps."""
    return time.clock_gettime(_CLOCK)


def new_identity(environ: Mapping[str, str]) -> str:
    """A holder's name that is used once: a restarted process is another one, which cannot know what the first had begun.

    By the pod's name (`POD_NAME`, as a manifest gives it), else the host's, so that `kubectl get lease` shows where the leader is.
    """
    return f"{environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4()}"


LEASES = Resource("Lease", "coordination.k8s.io/v1", "leases")


# --- the rules ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Settings:
    """Which Lease, who we are, and the times: 15, 10 and 2 s are client-go's, the margin is design section 5, rule 2."""

    namespace: str
    name: str
    identity: str
    duration_seconds: int = 15
    renew_deadline_seconds: float = 10.0
    retry_seconds: float = 2.0
    margin_seconds: float = 5.0

    def __post_init__(self) -> None:
        """Raises UsageError where a leader would go on for longer than it holds the Lease."""
        if not 0 < self.retry_seconds < self.renew_deadline_seconds <= self.duration_seconds - self.margin_seconds:
            raise errors.UsageError(
                f"lease times do not fit: 0 < retry ({self.retry_seconds:g} s) < renewal deadline ({self.renew_deadline_seconds:g} s)"
                f" <= duration ({self.duration_seconds} s) - margin ({self.margin_seconds:g} s)"
            )


@dataclass(frozen=True, slots=True)
class Lease:
    """A Lease as it was last seen, at that resourceVersion; without `exists` it has been deleted since."""

    holder: str
    duration_seconds: float
    transitions: int
    #: The holder's wall clock and acquisition: only whether they are the same matters.
    stamp: tuple[str, str]
    version: str = field(compare=False)
    exists: bool = True


@dataclass(frozen=True, slots=True)
class Observation:
    """The Lease (None: there never was one), and since when on our clock it has been so."""

    lease: Lease | None = None
    since: float = 0.0


class Step(enum.Enum):
    """What a candidate does next."""

    CREATE = "create"
    TAKE = "take"
    RENEW = "renew"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Decision:
    """The step; of WAIT for how long, if nothing changes meanwhile."""

    step: Step
    wait_seconds: float = 0.0


def observe(before: Observation, obj: Obj | None, now: float, settings: Settings) -> Observation:
    """What is known after the Lease was read: its time starts again with each renewal, not with a label that was put on it.

    Of one that has been deleted the last holder is still waited for: it may not know yet, and puts it back at its next renewal.
    """
    if obj is None:
        return replace(before, lease=before.lease and replace(before.lease, exists=False))
    lease = _read(obj, settings)
    return Observation(lease, before.since if lease == before.lease else now)


def decide(lease: Lease | None, observed_at: float, me: str, now: float) -> Decision:
    """What to do about the Lease as it has been since `observed_at`; both times are on this process's own clock."""
    if lease is None:
        return Decision(Step.CREATE)
    if lease.holder == me:
        return Decision(Step.RENEW if lease.exists else Step.CREATE)
    left = observed_at + lease.duration_seconds - now
    if lease.holder and left > 0:
        return Decision(Step.WAIT, left)
    return Decision(Step.TAKE if lease.exists else Step.CREATE)


def written(step: Step, lease: Lease | None, wall: datetime, settings: Settings) -> Obj:
    """What to create, or the merge patch that is done only where nobody wrote since; of each step but WAIT. `wall` is for people."""
    now_text = wall.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec: Obj = {"leaseDurationSeconds": settings.duration_seconds, "renewTime": now_text}
    if step is not Step.RENEW:
        spec |= {"holderIdentity": settings.identity, "acquireTime": now_text, "leaseTransitions": _transitions(lease, settings.identity)}
    if step is Step.CREATE:
        metadata = {"name": settings.name, "namespace": settings.namespace}
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}
    return {"metadata": {"resourceVersion": lease.version if lease else ""}, "spec": spec}


def _transitions(lease: Lease | None, me: str) -> int:
    """How often the Lease went from one holder to another, with this time."""
    if lease is None:
        return 0
    return lease.transitions if lease.holder == me else lease.transitions + 1


def _read(obj: Obj, settings: Settings) -> Lease:
    """Fields that somebody left out are an unheld Lease, or our own duration."""
    spec: dict[str, Any] = obj.get("spec") or {}
    return Lease(
        holder=spec.get("holderIdentity") or "",
        duration_seconds=spec.get("leaseDurationSeconds") or settings.duration_seconds,
        transitions=spec.get("leaseTransitions") or 0,
        stamp=(spec.get("renewTime") or "", spec.get("acquireTime") or ""),
        version=obj["metadata"]["resourceVersion"],
    )


# --- the shell ------------------------------------------------------------------------------------------------------
class Election:
    """One candidate, for one life: once it has led and lost or released, the process ends and another identity tries."""

    def __init__(
        self, access: Access, session: aiohttp.ClientSession, settings: Settings, clock: Callable[[], float] = boot_seconds
    ) -> None:
        self._settings = settings
        self._requests = Requests(access, session)
        self._clock = clock
        self._observed = Observation()
        #: Whether `_observed` is what our own last write was answered with: then the next renewal needs no read.
        self._current = False
        #: When the last acknowledged renewal began; None while we do not lead.
        self._renewed: float | None = None
        #: Whether a write of ours may have made us the holder, acknowledged or not.
        self._claimed = False
        self._trouble = ""
        self._told: str | None = None

    @property
    def leading(self) -> bool:
        """`holds()`, for a gauge."""
        return self.holds()

    def holds(self) -> bool:
        """Whether this process may mutate the world now. Asked before each mutation: a process that was stopped finds out here."""
        settings, now = self._settings, self._clock()
        return self._renewed is not None and now < self._renewed + settings.duration_seconds - settings.margin_seconds

    async def acquire(self) -> None:
        """Wait until we lead. Trouble with the API server is logged once and tried again, a refusal of rights too."""
        while True:
            try:
                decision = await self._attempt()
            except errors.StoreError as error:
                pause = self._after(error)
            else:
                if decision.step is not Step.WAIT and self.holds():
                    return
                pause = min(decision.wait_seconds, self._settings.retry_seconds)
            # Candidates that began together must not go on asking together.
            await asyncio.sleep(pause + random.uniform(0, self._settings.retry_seconds / 4))

    async def keep(self) -> None:
        """Renew until cancelled.

        Raises LeadershipLost where another holds the Lease, or no renewal succeeded for the deadline. The caller ends the process
        at once (`os._exit`): calls in other threads cannot be stopped in any other way, and a new life starts from what is true.
        """
        pause = self._settings.retry_seconds
        while True:
            await asyncio.sleep(min(pause, max(0.0, self._left())))
            if self._left() <= 0:
                raise self._lost(f"was not renewed for {self._settings.renew_deadline_seconds:g} s{self._because()}")
            try:
                async with asyncio.timeout(self._left()):
                    await self._renew()
                pause = self._settings.retry_seconds
            except TimeoutError:
                continue
            except errors.StoreError as error:
                # What a leader has to lose is more than what a busy server has to bear.
                pause = min(self._after(error), self._settings.retry_seconds / 4)

    async def release(self) -> None:
        """Hand over, so that a standby need not wait. Called once `keep` was cancelled and the last mutation is done.

        Never raises, takes at most RELEASE_SECONDS; where it fails the standby leads once the Lease has run out.
        """
        self._renewed = None
        if not self._claimed:
            return
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                while not await self._hand_over():
                    await asyncio.sleep(self._settings.retry_seconds / 20)
        except TimeoutError:
            log.warning("The lease %s was not released within %g s", self._name, RELEASE_SECONDS)
        except errors.StoreError as error:
            log.warning("The lease %s was not released: %s", self._name, error)
        except Exception:
            log.exception("The lease %s was not released", self._name)

    @property
    def _name(self) -> str:
        return f"{self._settings.namespace}/{self._settings.name}"

    def _left(self) -> float:
        """Seconds until a leader that cannot renew gives up."""
        return -1.0 if self._renewed is None else self._renewed + self._settings.renew_deadline_seconds - self._clock()

    async def _renew(self) -> None:
        decision = await self._attempt(may=(Step.RENEW, Step.CREATE))
        lease = self._observed.lease
        if decision.step in (Step.TAKE, Step.WAIT):
            # An empty holder too: somebody may have led and ended meanwhile.
            raise self._lost(f"is held by {lease.holder if lease and lease.holder else 'nobody'}")

    async def _attempt(self, may: tuple[Step, ...] = (Step.CREATE, Step.TAKE, Step.RENEW)) -> Decision:
        """Look if need be, decide, and write if that is a step we `may` make. Raises StoreError."""
        if not self._current:
            await self._look()
        lease = self._observed.lease
        decision = decide(lease, self._observed.since, self._settings.identity, self._clock())
        if decision.step in may:
            await self._write(decision.step, lease)
        else:
            self._trouble = ""
            self._tell(lease.holder if lease else "")
        return decision

    async def _look(self) -> None:
        try:
            obj = await self._send("get")
        except errors.ObjectNotFound:
            obj = None
        self._observed = observe(self._observed, obj, self._clock(), self._settings)

    async def _write(self, step: Step, lease: Lease | None) -> None:
        began, self._current, self._claimed = self._clock(), False, True
        obj = await self._send("create" if step is Step.CREATE else "patch", written(step, lease, datetime.now(UTC), self._settings))
        self._observed = observe(self._observed, obj, self._clock(), self._settings)
        self._current, self._renewed, self._trouble = True, began, ""
        self._tell(self._settings.identity)

    async def _hand_over(self) -> bool:
        """Whether the Lease is not ours any more. Read first: of an earlier write the answer may have been lost."""
        self._current = False
        await self._look()
        lease = self._observed.lease
        if lease is None or not lease.exists or lease.holder != self._settings.identity:
            return True
        # One second is the least that the API takes.
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._send("patch", {"metadata": {"resourceVersion": lease.version}, "spec": spec})
        except (errors.Conflict, errors.ObjectNotFound):
            return False
        log.info("Released the lease %s", self._name)
        return True

    async def _send(self, verb: str, body: Obj | None = None) -> Obj:
        """Half the deadline at most, as client-go: an answer that never comes leaves the time for another try."""
        asked = Asked(verb, LEASES, self._settings.namespace, self._settings.name)
        try:
            async with asyncio.timeout(self._settings.renew_deadline_seconds / 2):
                return await self._requests.send(asked, body, query=None if body is None else {"fieldManager": "occopus"})
        except TimeoutError as error:
            raise errors.Unavailable(f"{asked}: no answer within {self._settings.renew_deadline_seconds / 2:g} s") from error

    def _after(self, error: errors.StoreError) -> float:
        """Seconds to wait after an attempt that failed; told once, and a conflict never: it only means to look again."""
        if isinstance(error, (errors.Conflict, errors.AlreadyExists)):
            return self._settings.retry_seconds / 4
        if str(error) != self._trouble:
            self._trouble = str(error)
            log.warning("The lease %s cannot be had: %s", self._name, error)
        return self._settings.retry_seconds

    def _because(self) -> str:
        return f": {self._trouble}" if self._trouble else ""

    def _tell(self, holder: str) -> None:
        """Say who leads, once a change."""
        if holder == self._told:
            return
        self._told = holder
        if holder == self._settings.identity:
            log.info("This process leads: %s holds the lease %s", holder, self._name)
        elif holder:
            log.info("This process is standby: %s holds the lease %s", holder, self._name)

    def _lost(self, why: str) -> errors.LeadershipLost:
        self._renewed = None
        return errors.LeadershipLost(f"the lease {self._name} {why}")


__all__ = [
    "RELEASE_SECONDS",
    "Decision",
    "Election",
    "Lease",
    "Observation",
    "Settings",
    "Step",
    "boot_seconds",
    "decide",
    "new_identity",
    "observe",
    "written",
]
