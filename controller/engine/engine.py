"""The loop: what the watch brings goes into the cache, whom it concerns into the queue, workers run passes over keys.

One engine is one process' work on one store. It decides nothing: the reconcilers do, and are passed in as values. It ends
when a part of it dies (crash-only): everything it knows can be rebuilt from the store and the clouds.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from controller import errors
from controller.api import meta
from controller.api.infrastructure import Infrastructure
from controller.api.instance import Instance
from controller.api.reasons import Reason
from controller.engine import metrics
from controller.engine.clouds import Clouds, cloud_key
from controller.engine.launcher import MAY_NOT_ACT, Launcher
from controller.engine.launcher import Parts as LauncherParts
from controller.engine.objects import Objects, Trouble, key_of
from controller.engine.prober import Prober
from controller.engine.queue import RETRY_MOST_SECONDS, Lane, WorkQueue
from controller.engine.sweep import Parts as SweepParts
from controller.engine.sweep import Policy, Sweep
from controller.engine.terminator import Asker, Terminator
from controller.logs import bound
from controller.ports import Checker, CloudPlugin, Event, Key, Now, Obj, Renderer, Snapshot, Store, Threads
from controller.reconcilers.conditions import MESSAGE_LIMIT
from controller.reconcilers.instance.observed import Acts
from controller.reconcilers.wakes import How, Wake

log = logging.getLogger(__name__)

#: Roll-ups into groups and Infrastructures are made at most so often (design section 4).
ROLL_UP_SECONDS = 1.0
#: Of more than so many objects they are made half as often, and these tell less: a large fleet that comes up moves all the time.
MANY = 20
#: Everything is looked at again so often, ± 20 %: a backstop, not what anything relies on (reference of kopf, section 6).
RESYNC_SECONDS = 300.0
#: The longest back-off after a conflict.
CONFLICT_MOST_SECONDS = 2.0
#: What SIGTERM leaves for calls that are on their way.
DRAIN_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Ports:
    """The edges, passed in as values."""

    store: Store
    plugins: tuple[CloudPlugin, ...]
    renderer: Renderer
    checker: Checker
    threads: Threads
    now: Now


@dataclass(frozen=True, slots=True)
class Options:
    """What the flags say. `controller_id` is in the tags of all our machines."""

    controller_id: str
    state_directory: str
    allow_local: bool = False
    ambient_credentials: bool = False
    sweep: Policy = "Report"
    workers: int = 32
    #: Those that are served; none: all. And those that are to be, and may not be now.
    namespaces: tuple[str, ...] = ()
    unserved: tuple[str, ...] = ()


#: Longer than any cloud takes to show what was launched.
_GONE_FOR = timedelta(minutes=15)
#: One pass over one object; answers after how many seconds it wants to be called again, if nothing wakes it before.
Reconcile = Callable[["Engine", Key], Awaitable[float | None]]
Wakes = Callable[[Objects, Obj | None, Obj | None], Iterator[Wake]]


@dataclass(frozen=True, slots=True)
class Refused:
    """The least number of machines for which a place had no room: when that was seen last, and until when it is remembered."""

    size: int
    at: float
    until: float


@dataclass(slots=True)
class Memory:
    """What this process observed itself do; losing it costs a repetition of idempotent calls and nothing else."""

    acts: dict[str, Acts] = field(default_factory=dict[str, Acts])
    #: By Instance, since when the lists were good by which this process has judged it last.
    judged: dict[str, datetime] = field(default_factory=dict[str, datetime])
    #: When the first member of a batch was seen to be gone.
    firsts_gone: dict[str, datetime] = field(default_factory=dict[str, datetime])
    avoided: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    halved: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict[tuple[str, str], tuple[int, float]])
    refused: dict[tuple[str, str], Refused] = field(default_factory=dict[tuple[str, str], Refused])
    cached: dict[Any, Any] = field(default_factory=dict[Any, Any])
    #: UIDs of Infrastructures and groups that were seen to be deleted with `--cascade=orphan`, until they are gone.
    orphaning: set[str] = field(default_factory=set[str])

    def note_gone(self, batch: str, now: datetime) -> None:
        """The first member of the batch is gone; those of long ago are forgotten, what they sent has shown by now."""
        self.firsts_gone = {id: at for id, at in self.firsts_gone.items() if now - at < _GONE_FOR} | {batch: now}


class Engine:
    """All parts of one process, wired."""

    def __init__(self, ports: Ports, options: Options, reconcilers: Mapping[str, Reconcile], wakes: Wakes) -> None:
        self.ports = ports
        self.options = options
        self.plugins = {each.kind: each for each in ports.plugins}
        self.queue: WorkQueue[Key] = WorkQueue()
        self.objects = Objects(ports.store)
        self.clouds = Clouds(self.objects, ports.threads, ports.now, self.wake, options.namespaces)
        self.clouds.wake_groups = self._wake_groups
        self.launcher = Launcher(LauncherParts(self.objects, self.clouds, ports.renderer, ports.now, options.controller_id, self.wake))
        self.terminator = Terminator(ports.store.holds, self._told_end, self.clouds.doubt, MAY_NOT_ACT)
        self.prober = Prober(ports.checker, self.wake)
        self.sweep = Sweep(SweepParts(self.objects, self.clouds, ports.now, options.sweep, self._wake_groups))
        self.memory = Memory()
        #: What an earlier process sent it sent before this.
        self.began = ports.now()
        self.synced = asyncio.Event()
        self._reconcilers = reconcilers
        self._wakes = wakes
        self._rolled_up: dict[Key, float] = {}
        self._rolling_up: set[Key] = set()
        self._looked: set[Key] = set()
        self._passed = asyncio.Event()
        self.objects.listen(self._changed)

    # --- waking
    def wake(self, key: Key) -> None:
        """Let the key be looked at."""
        self.queue.add(key)

    def _told_end(self, asker: Asker, trouble: str) -> None:
        acts = self.memory.acts.get(asker.uid)
        if acts is not None:
            self.memory.acts[asker.uid] = replace(acts, trouble=trouble)
            self.wake(asker.key)

    def _wake_groups(self) -> None:
        for kind in ("InstanceGroup", "Infrastructure"):
            for obj in self.objects.list(kind):
                self._roll_up(Key(kind, obj["metadata"].get("namespace", "default"), obj["metadata"]["name"]))

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is not None and new is None:
            self._forget(old)
        if new is not None and new["kind"] in ("Infrastructure", "InstanceGroup") and _is_orphaning(new["metadata"]):
            self.memory.orphaning.add(new["metadata"]["uid"])
        for each in self._wakes(self.objects, old, new):
            match each.how:
                case How.USER:
                    self.queue.add(each.key, Lane.USER)
                case How.SOON:
                    self.queue.add(each.key)
                case How.ROLL_UP:
                    self._roll_up(each.key)

    def _forget(self, gone: Obj) -> None:
        """By whosever hand it went."""
        uid, key = gone["metadata"]["uid"], key_of(gone)
        self._rolled_up.pop(key, None)
        self.memory.orphaning.discard(uid)
        match key.kind:
            case "Instance":
                self._looked.discard(key)
                self.launcher.forget(uid)
                self.prober.forget(uid)
                self.memory.acts.pop(uid, None)
                self.memory.judged.pop(uid, None)
                batch = gone["spec"]["batch"]
                if batch["size"] > 1 and batch["index"] == 0:
                    self.memory.note_gone(batch["id"], self.ports.now())
            case "InstanceGroup":
                self.launcher.forget_group(uid)
                self.memory.cached.pop(("trial", uid), None)
            case "InstanceTemplate":
                self.memory.cached.pop(("facts", key.namespace, key.name), None)
            case _:
                return

    def _roll_up(self, key: Key) -> None:
        obj = self.objects.get(key)
        pause = 2 * ROLL_UP_SECONDS if obj is not None and self.objects.owns_more_than(obj["metadata"]["uid"], MANY) else ROLL_UP_SECONDS
        since = asyncio.get_running_loop().time() - self._rolled_up.get(key, -pause)
        if since >= pause:
            self.queue.add(key)
        else:
            self._rolling_up.add(key)
            self.queue.add_after(key, pause - since)

    # --- running
    async def run(self) -> None:
        """Work until cancelled; raises what a part of it died of."""
        try:
            await self._run()
        except BaseExceptionGroup as died:
            # The others fell with the first one. As a group it would be no error that anybody knows a way out of.
            raise died.exceptions[0] from (died if len(died.exceptions) > 1 else None)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(), name="watch")
            group.create_task(self._fall_with_lists(), name="lists")
            await self.synced.wait()
            group.create_task(self.prober.run(), name="prober")
            group.create_task(self.sweep.run(), name="sweep")
            group.create_task(self._resync(), name="resync")
            for number in range(self.options.workers):
                group.create_task(self._work(), name=f"worker {number}")

    async def close(self) -> None:
        """After `run` was cancelled: let calls that are on their way end within `DRAIN_SECONDS`, then let go of all."""
        self.queue.close()
        await asyncio.gather(self.launcher.drain(DRAIN_SECONDS), self.terminator.drain(DRAIN_SECONDS))
        await self.prober.close()
        await self.clouds.close()

    async def _fall_with_lists(self) -> None:
        raise await self.clouds.died.get()

    async def verified(self, infrastructure: str, asked: str = "") -> None:
        """Wait until this process itself has seen the infrastructure's machines, and said what it saw.

        Until then the status is what an earlier process left, and may be long untrue. With `asked` all is seen too that was written
        before somebody put that into the annotation (`meta.ASKED`).
        """
        while not self._is_verified(infrastructure, asked):
            self._passed.clear()
            await self._passed.wait()

    def _is_verified(self, infrastructure: str, asked: str) -> bool:
        if not self.queue.idle or self._rolling_up:
            return False
        found = (each for each in self.objects.models("Infrastructure", Infrastructure) if each.metadata.name == infrastructure)
        if asked and not any(each.metadata.annotations.get(meta.ASKED) == asked for each in found):
            return False
        for instance in self.objects.models("Instance", Instance):
            if instance.spec.infrastructure.name != infrastructure:
                continue
            key = Key("Instance", instance.metadata.namespace, instance.metadata.name)
            if key not in self._looked or not self.prober.known(instance.metadata.uid):
                return False
        return True

    async def _watch(self) -> None:
        async for change in self.ports.store.watch():
            self.objects.take(change)
            if isinstance(change, Snapshot):
                self.synced.set()

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_SECONDS * random.uniform(0.8, 1.2))
            for kind in self._reconcilers:
                for obj in self.objects.list(kind):
                    self.queue.add(Key(kind, obj["metadata"].get("namespace", "default"), obj["metadata"]["name"]))

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                await self._pass(key)
            finally:
                self.queue.done(key)
                self._passed.set()

    async def _pass(self, key: Key) -> None:
        self._rolling_up.discard(key)
        if key.kind in ("InstanceGroup", "Infrastructure") and self.objects.get(key) is not None:
            self._rolled_up[key] = asyncio.get_running_loop().time()
        with bound(kind=key.kind, namespace=key.namespace, name=key.name), metrics.reconcile_seconds.labels(key.kind).time():
            result = await self._guarded(key)
        metrics.reconciles.labels(key.kind, result).inc()

    async def _guarded(self, key: Key) -> str:
        """One pass, and what its failure means. A failure stops this key alone."""
        try:
            again = await self._reconcilers[key.kind](self, key)
        except (errors.Conflict, errors.ObjectNotFound, errors.AlreadyExists) as error:
            return await self._stale(key, error)
        except errors.Rejected as error:
            await self._refused(key, Reason.REJECTED, error)
            return "rejected"
        except errors.Forbidden as error:
            await self._refused(key, Reason.FORBIDDEN, error)
            return "forbidden"
        except errors.OccopusError as error:
            log.warning("The pass failed and is tried again: %s", error)
            self.queue.retry(key)
            return "failed"
        except Exception as error:
            log.exception("The pass met a defect and is tried again")
            self.queue.retry(key)
            await self._defective(key, error)
            return "defect"
        self.queue.forget(key)
        self._note_look(key)
        if self.objects.clear_trouble(key):
            self.queue.add(key)
        if again is not None:
            self.queue.add_after(key, again)
        return "ok"

    async def _stale(self, key: Key, error: errors.StoreError) -> str:
        """Somebody was faster: read again, silently. However often others write, what is read is soon tried: it has to win once."""
        try:
            await self.objects.refresh(key)
        except errors.StoreError as unread:
            log.warning("The pass failed and is tried again: %s", unread)
            self.queue.retry(key)
            return "failed"
        self.queue.retry(key, CONFLICT_MOST_SECONDS if isinstance(error, errors.Conflict) else RETRY_MOST_SECONDS)
        return "conflict"

    def _note_look(self, key: Key) -> None:
        instance = self.objects.model(key, Instance) if key.kind == "Instance" else None
        if instance is None:
            self._looked.discard(key)
            return
        binding = self.clouds.binding(cloud_key(instance))
        if binding is not None and binding.inventory.listed is not None:
            self._looked.add(key)

    async def _refused(self, key: Key, reason: Reason, error: errors.StoreError) -> None:
        log.error("The API refused a request: %s", error)
        metrics.store_writes_refused.labels(key.kind, reason.value).inc()
        self.queue.retry(key)
        since = self.ports.now().replace(microsecond=0).isoformat().replace("+00:00", "Z")
        try:
            await self.objects.say_trouble(key, Trouble(reason.value, " ".join(str(error).split())[:MESSAGE_LIMIT], since))
        except errors.StoreError as unsaid:
            # Where not even the status may be written, the log and the metric say so.
            log.error("The condition of %s cannot say so: %s", key, unsaid)
            metrics.store_writes_refused.labels(key.kind, "status").inc()
        await self.say(key, "Warning", reason, str(error))

    async def _defective(self, key: Key, error: Exception) -> None:
        try:
            await self.say(key, "Warning", Reason.DEFECT, f"{type(error).__name__} in the controller, whose log has the whole of it")
        except errors.StoreError as unsaid:
            log.error("An event of %s cannot say so: %s", key, unsaid)

    async def say(self, key: Key, type: Any, reason: Reason, message: str) -> None:
        """Record an event about the object: what has changed, once, in one line."""
        message = " ".join(message.split())
        log.log(logging.INFO if type == "Normal" else logging.WARNING, "%s: %s", reason.value, message)
        obj = self.objects.get(key)
        if obj is not None:
            await self.objects.event(Event(key, obj["metadata"]["uid"], type, reason.value, message))


def _is_orphaning(metadata: Obj) -> bool:
    """Whether it is deleted with `--cascade=orphan`, by its metadata."""
    return "deletionTimestamp" in metadata and meta.ORPHAN in metadata.get("finalizers", ())
