"""One machine's life as decisions: launch, wait, report, terminate (design section 5). Pure.

`plan` gets everything that is known of one Instance and says which acts are due now and what its status is. It never
remembers: what it knows of earlier passes is in the object, in the cloud's list, or in what the executor observed itself
do in this process (`Acts`), whose loss costs a repetition of an idempotent call and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from controller.api import meta
from controller.api.instance import Instance
from controller.api.meta import condition
from controller.api.reasons import Reason
from controller.ports import Machine, MachineId, MachineState

#: A definite refusal: the launch is burnt, the group chooses again.
BURNT = frozenset({Reason.NO_CAPACITY, Reason.QUOTA_EXCEEDED, Reason.CLOUD_INVALID, Reason.LAUNCH_LOST})
#: How long after asking a cloud to end a machine it is asked again.
TERMINATE_AGAIN = timedelta(seconds=20)
#: What a launch that is sent again was answered.
_TRIED_AGAIN = frozenset({Reason.DENIED.value, Reason.THROTTLED.value, Reason.CLOUD_UNREACHABLE.value})
_ENDS = "the cloud ends the machine"
#: States in which a machine needs no further call to end.
ENDING = frozenset({MachineState.SHUTTING_DOWN, MachineState.TERMINATED})


class Sent(Enum):
    """What this process knows of its own attempt to launch."""

    NO = "nothing is on its way"
    IN_FLIGHT = "a call is on its way"
    REFUSED = "the cloud refused for good: nothing was made"
    UNKNOWN = "no usable answer: the same call is due again"
    MISMATCH = "the same call cannot be made again: find by tag, then burnt"
    HELD = "nothing was sent: something is missing first"


@dataclass(frozen=True, slots=True)
class Attempt:
    """The launcher's last word on this Instance. `at` is when; `machine` what was made."""

    sent: Sent = Sent.NO
    reason: Reason | None = None
    message: str = ""
    machine: Machine | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """What the cloud shows of one Instance.

    `listed` is when the newest complete list was begun (None: there was none yet), `machines` all with this identity,
    `gone` that the recorded id answered NotFound twice, 30 s apart, and is in no list; `trouble` that the newest list failed.
    """

    listed: datetime | None = None
    machines: tuple[Machine, ...] = ()
    gone: bool = False
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """The prober's view: None while no probe has answered since this process knows the machine."""

    healthy: bool | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class CloudView:
    """The Cloud of the Instance, as far as it matters here."""

    exists: bool = False
    ready: bool = False
    message: str = ""
    settle: timedelta = timedelta(seconds=120)
    room: bool = True
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Owner:
    """The group and the Infrastructure.

    `blockers` are services whose machines have to go first; `counted` that the group has noted this Instance's scale-in.
    """

    exists: bool = True
    going: bool = False
    paused: bool = False
    blockers: tuple[str, ...] = ()
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Acts:
    """What this process itself did about ending the machine, and what came of it."""

    terminated: datetime | None = None
    closed: datetime | None = None
    fenced: bool = False
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    instance: Instance
    now: datetime
    owner: Owner = field(default_factory=Owner)
    cloud: CloudView = field(default_factory=CloudView)
    sight: Sight = field(default_factory=Sight)
    attempt: Attempt = field(default_factory=Attempt)
    health: Health = field(default_factory=Health)
    acts: Acts = field(default_factory=Acts)


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """Somebody removed it (kubectl replace): without it a deletion would leak the machine."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Render, prepare, read live, record the launch, then send."""


@dataclass(frozen=True, slots=True)
class Resend:
    """The launch is recorded and its outcome unknown: the same call again, if it can be made the same."""


@dataclass(frozen=True, slots=True)
class Record:
    """Take over a machine of this identity whose launch is not in status (a restore dropped it)."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class Terminate:
    ids: tuple[MachineId, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """Make sure that no call that is still on its way can make the machine."""


@dataclass(frozen=True, slots=True)
class Release:
    """Let the object go."""

    reason: Reason
    message: str = ""


Action = AddFinalizer | Launch | Resend | Record | Terminate | Close | Release


@dataclass(frozen=True, slots=True)
class Stand:
    """Where the Instance stands, for its status."""

    phase: str
    reason: Reason
    message: str
    machine: Machine | None = None
    launched: tuple[bool, Reason, str] | None = None
    healthy: tuple[bool, Reason, str] | None = None
    keep: bool = False  # say nothing new: what was said stays until more is known


@dataclass(frozen=True, slots=True)
class Plan:
    actions: tuple[Action, ...]
    stand: Stand
    again: datetime | None = None


def plan(o: Observed) -> Plan:
    """The acts that are due, all of which may run at once, and where the Instance stands."""
    if o.instance.metadata.deleting:
        return _ending(o)
    if meta.FINALIZER not in o.instance.metadata.finalizers:
        return Plan((AddFinalizer(),), _keep(o))
    return _unsent(o) if o.instance.status.launch is None else _sent(o)


# --- not launched yet -----------------------------------------------------------------------------------------------
def _unsent(o: Observed) -> Plan:
    listed = (*_live(o.sight.machines), *o.sight.machines)
    if listed:
        # One that has ended counts too: what was sent is never launched again (rule 4).
        return Plan((Record(listed[0]),), _waiting(Reason.LAUNCHING, "a machine of this identity exists already"))
    held = _held_back(o)
    if held is not None:
        return Plan((), held)
    if o.attempt.sent is Sent.HELD and o.attempt.reason is not None:
        again = o.now + timedelta(seconds=5)
        due = (o.attempt.at or o.now) + timedelta(seconds=5)
        if o.now < due:
            return Plan((), _waiting(o.attempt.reason, o.attempt.message), due)
        return Plan((Launch(),), _waiting(o.attempt.reason, o.attempt.message), again)
    return Plan((Launch(),), _waiting(Reason.WAITING_FOR_LAUNCH, "the launch is being prepared"))


def _held_back(o: Observed) -> Stand | None:
    """Why nothing may be launched now; rules in the order in which a user wants to hear them."""
    if not o.owner.exists or o.owner.going:
        return _waiting(Reason.WAITING_FOR_GROUP, "its group is going or gone")
    if o.owner.paused:
        return _waiting(Reason.PAUSED, "spec.paused of the Infrastructure is true")
    if not o.cloud.exists:
        return _waiting(Reason.CLOUD_NOT_FOUND, f"there is no Cloud {_cloud_name(o)}")
    if not o.cloud.ready:
        return _waiting(Reason.WAITING_FOR_CLOUD, f"Cloud {_cloud_name(o)}: {o.cloud.message}")
    if o.sight.listed is None:
        return _waiting(Reason.WAITING_FOR_CLOUD, f"Cloud {_cloud_name(o)}: its machines were not listed yet")
    if not o.cloud.room:
        return _waiting(Reason.LIMIT_REACHED, f"Cloud {_cloud_name(o)} has its maxInstances of {o.cloud.limit} machines")
    return None


# --- launched -------------------------------------------------------------------------------------------------------
def _sent(o: Observed) -> Plan:
    known = _known(o)
    if known is not None:
        return _with_machine(o, known)
    if o.instance.status.machine is not None:
        return _out_of_sight(o)
    burnt = _burnt(o)
    if burnt is not None:
        return Plan((), burnt)
    return _outcome_unknown(o)


def _outcome_unknown(o: Observed) -> Plan:
    launching = _waiting(Reason.LAUNCHING, "the cloud's answer is awaited", launched=False)
    match o.attempt.sent:
        case Sent.IN_FLIGHT:
            # While the same call is tried again, what the last answer was stays said: a status must not flap.
            said = condition(o.instance.status.conditions, "Launched")
            return Plan((), _keep(o) if said is not None and said.reason in _TRIED_AGAIN else launching)
        case Sent.REFUSED:
            reason = o.attempt.reason or Reason.CLOUD_INVALID
            return Plan((), _lost(reason, o.attempt.message))
        case Sent.MISMATCH:
            return _find_by_tag(o)
        case Sent.UNKNOWN:
            if not o.cloud.ready:
                return Plan((), _unusable(o))
            due = (o.attempt.at or o.now) + timedelta(seconds=2)
            stand = _waiting(o.attempt.reason or Reason.LAUNCHING, o.attempt.message, launched=False)
            return Plan((Resend(),), stand) if o.now >= due else Plan((), stand, due)
        case Sent.NO | Sent.HELD:
            if not o.cloud.ready:
                return Plan((), _unusable(o))
            return Plan((Resend(),), launching)


def _unusable(o: Observed) -> Stand:
    return _waiting(Reason.WAITING_FOR_CLOUD, f"Cloud {_cloud_name(o)}: {o.cloud.message}", launched=False)


def _find_by_tag(o: Observed) -> Plan:
    """The call cannot be repeated: whatever it made shows within the settling time, or nothing was made."""
    since = max(each for each in (_launch_time(o), o.attempt.at) if each is not None)
    until = since + o.cloud.settle
    if o.sight.listed is not None and o.sight.listed > until:
        return Plan((), _lost(Reason.LAUNCH_LOST, "the launch cannot be repeated and no machine of it appeared"))
    return Plan((), _waiting(Reason.LAUNCHING, "the launch cannot be repeated; its machine is looked for by tag", launched=False), until)


def _burnt(o: Observed) -> Stand | None:
    said = condition(o.instance.status.conditions, "Launched")
    if said is None or said.status != "False" or said.reason not in BURNT:
        return None
    return _lost(Reason(said.reason), said.message)


def _with_machine(o: Observed, machine: Machine) -> Plan:
    others = [each for each in _live(o.sight.machines) if each.id != machine.id]
    if others:
        ids = ", ".join(sorted(each.id for each in (*others, machine)))
        return Plan((), _failing("Unknown", Reason.DUPLICATE_MACHINE, f"machines {ids} carry the same identity", machine))
    match machine.state:
        case MachineState.RUNNING:
            return _running(o, machine)
        case MachineState.PENDING:
            return _until_started(o, machine, Reason.BOOTING, "the cloud makes the machine")
        case MachineState.TERMINATED | MachineState.SHUTTING_DOWN:
            return Plan((), _failing("Ended", Reason.MACHINE_ENDED, _of(machine, "the cloud says that the machine has ended"), machine))
        case MachineState.STOPPED | MachineState.STOPPING:
            return Plan((), _failing("Stopped", Reason.MACHINE_STOPPED, _of(machine, "the machine is stopped"), machine))
        case MachineState.ERROR:
            return Plan((), _failing("Failed", Reason.MACHINE_ERROR, _of(machine, "the cloud says that the machine failed"), machine))
        case MachineState.UNKNOWN:
            return Plan(
                (), _failing("Unknown", Reason.MACHINE_UNKNOWN, _of(machine, f"the cloud calls its state {machine.state_text!r}"), machine)
            )


def _running(o: Observed, machine: Machine) -> Plan:
    was_ready = o.instance.status.ready_time is not None
    if not o.instance.spec.health.probes:
        return Plan((), _ready(machine, "the cloud says that the machine runs"))
    if o.health.healthy is None and was_ready:
        return Plan((), Stand("", Reason.READY, "", machine, keep=True))
    if o.health.healthy:
        return Plan((), _ready(machine, "all probes pass"))
    if was_ready:
        return Plan((), _failing("Unhealthy", Reason.PROBE_FAILED, o.health.message, machine))
    return _until_started(o, machine, Reason.STARTING, o.health.message or "its probes are about to begin")


def _until_started(o: Observed, machine: Machine, reason: Reason, message: str) -> Plan:
    # Of a launch that the cloud refused for long, the machine is younger than the record.
    made = min(machine.created or _launch_time(o), o.now)
    deadline = max(_launch_time(o), made) + timedelta(seconds=o.instance.spec.health.startup_seconds)
    if o.now < deadline:
        phase = "Booting" if reason is Reason.BOOTING else "Starting"
        return Plan((), _failing(phase, reason, message, machine), deadline)
    why = f"not healthy within {o.instance.spec.health.startup_seconds} s of its launch"
    last = o.health.message or ("the cloud still makes it" if reason is Reason.BOOTING else "")
    return Plan((), _failing("Failed", Reason.STARTUP_TIMEOUT, f"{why}; last: {last}" if last else why, machine))


def _out_of_sight(o: Observed) -> Plan:
    """Its id is recorded and no list shows it."""
    if _gone(o):
        return Plan(
            (),
            Stand(
                "Missing", Reason.MACHINE_MISSING, "the cloud knows the machine no more", None, healthy=(False, Reason.MACHINE_MISSING, "")
            ),
        )
    return Plan((), _keep(o))


# --- going ----------------------------------------------------------------------------------------------------------
def _ending(o: Observed) -> Plan:
    recorded = o.instance.status.machine.id if o.instance.status.machine else ""
    if recorded and o.instance.metadata.annotations.get(meta.ABANDON) == recorded:
        return _release(o, Reason.ABANDONED, f"machine {recorded} was given up by its user and may still run")
    if not o.owner.exists:
        return _release(o, Reason.OWNER_MISSING, f"its group does not exist; machine {recorded or 'none'} is left alone")
    if o.owner.blockers:
        waits = ", ".join(o.owner.blockers)
        return Plan((), _going(o, Reason.WAITING_FOR_DEPENDENTS, f"{waits} have machines that go first"))
    if o.instance.metadata.annotations.get(meta.SCALE_IN) == "true" and not o.owner.going and not o.owner.counted:
        # Gone before the group has lowered its count, it would be replaced instead.
        return Plan((), _going(o, Reason.SCALING, "its group lowers its count first"))
    if not o.cloud.exists and o.instance.status.launch is None:
        return _release(o, Reason.DELETED, "never launched")
    if not o.cloud.ready or o.sight.listed is None:
        return Plan(
            (), _going(o, Reason.WAITING_FOR_CLOUD, f"Cloud {_cloud_name(o)}: {o.cloud.message or 'its machines were not listed yet'}")
        )
    if o.attempt.sent is Sent.IN_FLIGHT:
        return Plan((), _going(o, Reason.LAUNCHING, "a launch is on its way; its answer is awaited"))
    live = _live(_all(o))
    return _terminate(o, live) if live else _nothing_seen(o)


def _terminate(o: Observed, live: tuple[Machine, ...]) -> Plan:
    due = tuple(machine.id for machine in live if machine.state not in ENDING)
    asked = o.acts.terminated
    stand = _going(o, Reason.TERMINATING, o.acts.trouble or _ENDS)
    if not due or (asked is not None and o.now < asked + TERMINATE_AGAIN):
        return Plan((), stand, (asked or o.now) + TERMINATE_AGAIN)
    return Plan((Terminate(due),), stand, o.now + TERMINATE_AGAIN)


def _nothing_seen(o: Observed) -> Plan:
    """No live machine shows. Whether that is proof depends on what may have been sent (rule 5)."""
    if o.acts.closed is None:
        return Plan((Close(),), _going(o, Reason.TERMINATING, o.acts.trouble or _ENDS))
    wait = _unproved(o)
    if wait is not None:
        return Plan((), _going(o, Reason.TERMINATING, wait[0]), wait[1])
    return _release(o, Reason.DELETED, "no machine is left")


def _unproved(o: Observed) -> tuple[str, datetime | None] | None:
    """What is still lacking to be sure that no machine exists or can appear; None when it is sure."""
    if o.sight.listed is None or o.acts.closed is None:
        return "its machines were not listed yet", None
    if o.sight.trouble:
        return f"the cloud's list is in doubt: {o.sight.trouble}", None
    known = _known_id(o)
    ended = any(machine.state is MachineState.TERMINATED and known in (None, machine.id) for machine in _all(o))
    if known is not None:
        return None if ended or _gone(o) else ("the cloud has not confirmed that the machine ended", None)
    if ended:
        return None
    if o.sight.listed <= o.acts.closed:
        return "a list after the launch was closed is awaited", None
    if o.instance.status.launch is None or _refused(o):
        return None
    # Closing stops what is still to come; what was made before shows only when the list has caught up. A process before
    # this one may have sent until it ended, which was before this one closed the launch.
    until = _settled(o) if o.attempt.at is not None else max(_settled(o), o.acts.closed + o.cloud.settle)
    return None if o.sight.listed > until else ("a launch whose answer was lost may still appear", until)


def _gone(o: Observed) -> bool:
    """NotFound is proof only once the machine had time to become visible (EC2: eventual consistency)."""
    return o.sight.gone and o.now >= _settled(o)


def _settled(o: Observed) -> datetime:
    """By then a list shows whatever our calls made: so long after the last call or answer that is known of."""
    said = condition(o.instance.status.conditions, "Launched")
    launch = o.instance.status.launch
    moments = (
        o.instance.metadata.creation_timestamp,
        launch.time if launch is not None else None,
        said.last_transition_time if said is not None else None,
        o.attempt.at,
    )
    return max((each for each in moments if each is not None), default=o.now) + o.cloud.settle


def _refused(o: Observed) -> bool:
    said = condition(o.instance.status.conditions, "Launched")
    return o.attempt.sent is Sent.REFUSED or (said is not None and said.reason in BURNT - {Reason.LAUNCH_LOST})


def _release(o: Observed, reason: Reason, message: str) -> Plan:
    return Plan((Release(reason, message),), _going(o, reason, message))


# --- words ----------------------------------------------------------------------------------------------------------
def _all(o: Observed) -> tuple[Machine, ...]:
    """What the list shows, and what our own call made that no list shows yet."""
    made, recorded = o.attempt.machine, o.instance.status.machine
    if made is None or any(machine.id == made.id for machine in o.sight.machines) or _gone(o):
        return o.sight.machines
    if recorded is not None and recorded.id == made.id and recorded.state != made.state.value:
        return o.sight.machines  # a list has shown it since: the answer to the launch is out of date
    return (*o.sight.machines, made)


def _live(machines: tuple[Machine, ...]) -> tuple[Machine, ...]:
    return tuple(sorted((each for each in machines if each.state is not MachineState.TERMINATED), key=lambda each: each.id))


def _known(o: Observed) -> Machine | None:
    """The machine of this Instance: the recorded one, else the one our call made, else the one of its identity."""
    recorded = o.instance.status.machine.id if o.instance.status.machine else None
    machines = _all(o)
    if recorded is not None:
        return next((each for each in machines if each.id == recorded), None)
    ordered = (*_live(machines), *machines)
    return ordered[0] if ordered else None


def _known_id(o: Observed) -> str | None:
    """The id of the machine of which proof is needed, where one is known."""
    if o.instance.status.machine is not None:
        return o.instance.status.machine.id
    return o.attempt.machine.id if o.attempt.machine is not None else None


def _launch_time(o: Observed) -> datetime:
    launch = o.instance.status.launch
    return launch.time if launch is not None else o.now


def _cloud_name(o: Observed) -> str:
    return o.instance.spec.implementation.cloud_ref.name


def _of(machine: Machine, said: str) -> str:
    return f"{said}: {machine.message}" if machine.message else said


def _keep(o: Observed) -> Stand:
    return Stand("", Reason.RECONCILING, "", None, keep=True)


def _waiting(reason: Reason, message: str, *, launched: bool | None = None) -> Stand:
    phase = "Pending" if launched is None else "Launching"
    return Stand(phase, reason, message, launched=(False, reason, message))


def _lost(reason: Reason, message: str) -> Stand:
    return Stand("Failed", reason, message, launched=(False, reason, message))


def _ready(machine: Machine, message: str) -> Stand:
    return Stand("Ready", Reason.READY, message, machine, healthy=(True, Reason.HEALTHY, message))


def _failing(phase: str, reason: Reason, message: str, machine: Machine) -> Stand:
    return Stand(phase, reason, message, machine, healthy=(False, reason, message))


def _going(o: Observed, reason: Reason, message: str) -> Stand:
    # Its states on the way down are not written: nobody waits for them, and a fleet that goes would write each of them.
    machine = None if o.instance.status.machine is not None else next(iter(_all(o)), None)
    return Stand("Ending", reason, message, machine)
