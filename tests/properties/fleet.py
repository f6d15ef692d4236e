"""One group, its Instances and their machines as data: both planners drive it step by step, with no I/O at all.

What the engine would do around the planners (record a launch, list, count NotFound answers) is done here in a few lines
each; what must never happen is judged by the oracles at the very moment, against the truth and not against what was written.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from controller.api import meta
from controller.api.instance import Batch, Instance, InstanceStatus, Launch
from controller.api.reasons import Reason
from controller.ports import Identity, MachineId
from controller.reconcilers.instance import observed as instance_observed
from controller.reconcilers.instance import plan as instance_plan
from controller.reconcilers.instance import status as instance_status
from controller.reconcilers.instance import steps
from controller.reconcilers.instance.observed import Acts, Attempt, CloudView, Health, Owner, Sent, Sight
from controller.reconcilers.instancegroup import observed as group_observed
from controller.reconcilers.instancegroup import plan as group_plan
from controller.reconcilers.instancegroup import status as group_status
from tests.properties import build
from tests.properties.build import NOW, seconds
from tests.properties.cloud import SETTLE, Outcome, TruthCloud
from tests.properties.draws import Seeded
from tests.properties.oracles import Oracles

REFUSALS: dict[Outcome, Reason] = {
    "capacity": Reason.NO_CAPACITY,
    "quota": Reason.QUOTA_EXCEEDED,
    "invalid": Reason.CLOUD_INVALID,
}


@dataclass(slots=True)
class Life:
    """One Instance, and what the process remembers of it."""

    instance: Instance
    attempt: Attempt = field(default_factory=Attempt)
    acts: Acts = field(default_factory=Acts)
    probed: bool = False
    not_found: tuple[datetime, ...] = ()

    @property
    def identity(self) -> Identity:
        return Identity(self.instance.spec.batch.id, self.instance.spec.batch.index)


@dataclass(frozen=True, slots=True)
class Call:
    """A launch on its way: it lands at `due`; its answer reaches only the process that sent it."""

    due: datetime
    name: str
    identity: Identity
    outcome: Outcome
    process: int


@dataclass(slots=True)
class Faults:
    """What is commanded just now."""

    trouble: str = ""
    paused: bool = False
    available: bool = True
    hold: bool = False
    missing_secret: bool = False
    slow: timedelta = timedelta(0)
    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    #: The next pass over the group that would do more than so many acts is cut off after these: its process dies.
    cut: int | None = None


class Fleet:
    """See the module."""

    def __init__(self, rng: Seeded, *, replicas: int = 1, cloud: TruthCloud | None = None, **spec: Any) -> None:
        self.rng = rng
        self.now = NOW
        self.group = build.group("app", replicas=replicas, needs=("db",), spec=spec)
        self.cloud = cloud or TruthCloud()
        self.lives: dict[str, Life] = {}
        self.calls: list[Call] = []
        self.faults = Faults()
        self.revision = 1
        self.process = 0
        self.made = 0
        self.listed: datetime | None = None
        self.sights: dict[MachineId, Any] = {}
        self.oracles = Oracles()
        self.gone = False
        self.planned: group_plan.Plan | None = None

    # --- time
    def step(self, passed: float = 1.0) -> None:
        """Let time pass, list, then one pass over each Instance and one over the group."""
        self.now += seconds(passed)
        self._land()
        if not self.faults.trouble:
            self._list()
        for name in self.rng.sample(sorted(self.lives), len(self.lives)):
            self._pass(self.lives[name])
        self._group_pass()

    def _land(self) -> None:
        due = [call for call in self.calls if call.due <= self.now]
        self.calls = [call for call in self.calls if call.due > self.now]
        for call in due:
            self._deliver(call)

    def _list(self) -> None:
        self.listed, self.sights = self.now, self.cloud.visible(self.now)
        for life in self.lives.values():
            recorded = life.instance.status.machine
            if recorded is None or recorded.id in self.sights:
                life.not_found = ()
            else:
                life.not_found = (*life.not_found[:1], self.now)

    # --- one Instance
    def observed(self, life: Life) -> instance_observed.Observed:
        gone = len(life.not_found) > 1 and life.not_found[-1] - life.not_found[0] >= seconds(30)
        machines = tuple(each for each in self.sights.values() if each.identity == life.identity)
        trouble = self.faults.trouble
        noted = self.group.metadata.annotations.get(meta.SCALED_IN, "").split(",")
        return instance_observed.Observed(
            instance=life.instance,
            now=self.now,
            owner=Owner(going=self.group.metadata.deleting, paused=self.group.spec.paused, counted=life.instance.metadata.name in noted),
            cloud=CloudView(exists=True, ready=not trouble, message=trouble, settle=SETTLE),
            sight=Sight(self.listed, machines, gone, trouble),
            attempt=life.attempt,
            health=self._health(life),
            acts=life.acts,
        )

    def _health(self, life: Life) -> Health:
        vms = self.cloud.live(self.now, life.identity)
        serves = bool(vms) and vms[0].serves(self.now)
        if serves:
            life.probed = True
            return Health(True)
        was_ready = life.instance.status.ready_time is not None
        return Health(False, "does not serve") if life.probed or was_ready else Health(None, "does not serve yet")

    def _pass(self, life: Life) -> None:
        o = self.observed(life)
        todo = instance_plan.plan(o)
        assert instance_plan.plan(o) == todo, "plans differ and nothing has changed"
        self.oracles.instance(self, o, todo)
        for action in todo.actions:
            match action:
                case steps.Release():
                    del self.lives[life.instance.metadata.name]
                    return
                case steps.Launch():
                    self._launch(life)
                case steps.Resend():
                    self._resend(life)
                case steps.Record(machine):
                    self._write_launch(life, Launch(digest="restored", time=machine.created or self.now))
                case steps.Terminate(ids):
                    for id in ids:
                        self.cloud.terminate(id, self.now)
                    life.acts = replace(life.acts, terminated=self.now)
                case steps.Close():
                    self.cloud.close(life.identity.batch_id)
                    life.acts = replace(life.acts, closed=self.now)
                case steps.AddFinalizer():
                    raise AssertionError("it has its finalizer")
        said = instance_status.report(life.instance, todo.stand, self.now)
        life.instance = life.instance.model_copy(update={"status": said})
        assert instance_status.report(life.instance, todo.stand, self.now + seconds(1000)) == said, "the status moves by itself"

    def _write_launch(self, life: Life, launch: Launch) -> None:
        assert life.instance.status.launch is None, "the recorded launch never changes"
        life.instance = life.instance.model_copy(update={"status": life.instance.status.model_copy(update={"launch": launch})})

    def _launch(self, life: Life) -> None:
        if self.faults.missing_secret:
            life.attempt = Attempt(Sent.HELD, Reason.SECRET_NOT_FOUND, "there is no Secret", at=self.now)
            return
        self._write_launch(life, Launch(digest="sha256:1", time=self.now))
        self._send(life)

    def _resend(self, life: Life) -> None:
        launch = life.instance.status.launch
        assert launch is not None, "only what was recorded is sent again"
        if self.faults.missing_secret or launch.digest == "restored":
            life.attempt = Attempt(Sent.MISMATCH, Reason.LAUNCHING, "cannot be made again", at=self.now)
            return
        self._send(life, unanswered=life.attempt.unanswered or not life.attempt.tries)

    def _send(self, life: Life, *, unanswered: bool = False) -> None:
        outcome: Outcome = self.faults.outcomes.pop(0) if self.faults.outcomes else "ok"
        life.attempt = Attempt(Sent.IN_FLIGHT, at=self.now, tries=life.attempt.tries, unanswered=unanswered)
        call = Call(self.now + self.faults.slow, life.instance.metadata.name, life.identity, outcome, self.process)
        if self.faults.slow:
            self.calls.append(call)
        else:
            self._deliver(call)

    def _deliver(self, call: Call) -> None:
        refused = REFUSALS.get(call.outcome) if call.identity.batch_id not in self.cloud.tokens else None
        undone = call.outcome in ("transient", "denied") or refused is not None
        machine = None if undone else self.cloud.create(call.identity, self.now)
        life = self.lives.get(call.name)
        if life is None or call.process != self.process or life.identity != call.identity:
            return
        tries, unanswered = life.attempt.tries + 1, life.attempt.unanswered
        if call.outcome in ("lost", "transient"):
            life.attempt = Attempt(Sent.UNKNOWN, Reason.CLOUD_UNREACHABLE, "no answer", at=self.now, tries=tries, unanswered=True)
        elif call.outcome == "denied":
            life.attempt = Attempt(Sent.UNKNOWN, Reason.DENIED, "not allowed", at=self.now, tries=tries, unanswered=unanswered)
        elif refused is not None:
            sent = Sent.DOUBTFUL if unanswered else Sent.REFUSED
            life.attempt = Attempt(sent, refused, "refused", at=self.now, tries=tries, unanswered=unanswered)
        elif machine is None:
            life.attempt = Attempt(Sent.MISMATCH, Reason.LAUNCHING, "the token is spent", at=self.now)
        else:
            life.attempt = Attempt(machine=machine, at=self.now)

    # --- the group
    def group_observed(self) -> group_observed.Observed:
        hold = group_observed.Hold(Reason.NO_ADDRESS, "the template reads an address that is not there") if self.faults.hold else None
        return group_observed.Observed(
            group=self.group,
            instances=tuple(self.rng.sample([each.instance for each in self.lives.values()], len(self.lives))),
            now=self.now,
            hold=hold,
            dependencies=(group_observed.Dependency("db", self.faults.available, "" if self.faults.available else "0 of 1"),),
            revision=f"shop-app-{self.revision}",
            launched=frozenset(each.identity.batch_id for each in self.sights.values()),
            in_doubt=self.faults.trouble,
        )

    def _group_pass(self) -> None:
        if self.gone:
            return
        self.group = self.group.model_copy(update={"spec": self.group.spec.model_copy(update={"paused": self.faults.paused})})
        o = self.group_observed()
        todo = self.planned = group_plan.plan(o)
        assert group_plan.plan(o) == todo, "plans differ and nothing has changed"
        mixed = replace(o, instances=tuple(self.rng.sample(o.instances, len(o.instances))))
        other = group_plan.plan(mixed)
        assert replace(other, actions=()) == replace(todo, actions=()), "the order of Instances matters"
        assert Counter(map(str, other.actions)) == Counter(map(str, todo.actions)), "the order of Instances matters"
        said = group_status.report(o, todo)
        assert group_status.report(mixed, todo) == said
        self.group = self.group.model_copy(update={"status": said})
        assert group_status.report(replace(o, group=self.group, now=self.now + seconds(1000)), todo) == said, "the status moves by itself"
        before = {name: life.instance for name, life in self.lives.items()}
        done = todo.actions[: self.faults.cut]
        for action in done:
            self._group_act(action)
        self.oracles.group(self, o, replace(todo, actions=done), before)
        if len(done) < len(todo.actions):
            self.faults.cut = None
            self.crash()

    def _group_act(self, action: group_plan.Action) -> None:
        match action:
            case group_plan.Create(sizes, replaces):
                assert set(sizes) == {1}
                for number in range(len(sizes)):
                    self._make(replaces[number] if number < len(replaces) else "")
            case group_plan.Delete(name):
                self.delete(name)
            case group_plan.ScaleIn(replicas, noted, lowered):
                annotations = {**self.group.metadata.annotations, meta.SCALED_IN: ",".join(noted)}
                spec = {"replicas": replicas} if lowered else {}
                self.group = self.group.model_copy(
                    update={
                        "metadata": self.group.metadata.model_copy(update={"annotations": annotations}),
                        "spec": self.group.spec.model_copy(update=spec),
                    }
                )
            case group_plan.RefuseScaleIn():
                pass
            case group_plan.Release():
                assert not self.lives, "let go while Instances are left"
                self.gone = True
            case group_plan.Claim() | group_plan.Free() | group_plan.AddFinalizer():
                raise AssertionError(f"nothing here asks for {action}")

    def _make(self, replaces: str) -> None:
        index = next(each for each in range(len(self.lives) + 1) if f"shop-app-{each}" not in self.lives)
        self.made += 1
        annotations = {meta.REPLACES: replaces} if replaces else {}
        made = build.instance(
            index,
            spec={"batch": Batch(id=f"batch-{self.made}", index=0, size=1), "revision": f"shop-app-{self.revision}"},
            uid=f"uid-{self.made}",
            annotations=annotations,
            creation_timestamp=self.now,
        )
        self.lives[made.metadata.name] = Life(made)

    # --- what users and fate do
    def delete(self, name: str, **annotations: str) -> None:
        life = self.lives[name]
        metadata = life.instance.metadata
        if not metadata.deleting:
            update = {"deletion_timestamp": self.now, "annotations": {**metadata.annotations, **annotations}}
            life.instance = life.instance.model_copy(update={"metadata": metadata.model_copy(update=update)})

    def scale(self, replicas: int) -> None:
        self.group = self.group.model_copy(update={"spec": self.group.spec.model_copy(update={"replicas": replicas})})

    def crash(self) -> None:
        """A new process: what was remembered is lost, what was sent goes on."""
        self.process += 1
        self.listed, self.sights = None, {}
        for life in self.lives.values():
            life.attempt, life.acts, life.not_found, life.probed = Attempt(), Acts(), (), False

    def restore(self, name: str) -> None:
        """An older copy of the object is put back: its status is lost.

        Not while its machine is on its way or too young to be listed: then nothing at all tells of it, and the sweep finds it.
        """
        life = self.lives[name]
        vms = self.cloud.live(self.now, life.identity)
        if any(call.identity == life.identity for call in self.calls) or any(vm.id not in self.cloud.visible(self.now) for vm in vms):
            return
        self.oracles.burnt.discard(life.identity.batch_id)
        life.instance = life.instance.model_copy(update={"status": InstanceStatus()})
        life.attempt, life.acts, life.not_found, life.probed = Attempt(), Acts(), (), False

    def delete_group(self) -> None:
        self.group = self.group.model_copy(update={"metadata": self.group.metadata.model_copy(update={"deletion_timestamp": self.now})})

    # --- the end
    def converged(self) -> bool:
        instances = [life.instance for life in self.lives.values()]
        ready = all(group_observed.ready(each) for each in instances)
        wanted = group_observed.wanted(self.group)
        return (
            ready and len(instances) == wanted == len(self.cloud.live(self.now)) and self.planned is not None and not self.planned.actions
        )

    def calm(self) -> None:
        """All faults end."""
        self.faults = Faults()
        self.cloud.unhealthy_next = 0
        self.cloud.lag = min(self.cloud.lag, seconds(60))

    def settle(self) -> None:
        """Let time pass until all is as wanted, two hours at most."""
        self.calm()
        for number in range(420):
            self.step(2.0 if number < 30 else 20.0)
            if self.gone or (self.converged() and not self.group.metadata.deleting):
                return
        raise AssertionError(f"not converged: {self.picture()}")

    def picture(self) -> str:
        lines = [f"{self.now:%H:%M:%S} wanted {group_observed.wanted(self.group)} {self.planned}"]
        for name, life in sorted(self.lives.items()):
            status = life.instance.status
            lines.append(f"{name} deleting={life.instance.metadata.deleting} {status.phase} {status.machine} {life.attempt} {life.acts}")
        return "\n".join([*lines, *map(str, self.cloud.live(self.now))])
