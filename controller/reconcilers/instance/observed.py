"""What is known of one Instance, and what follows from it about its machine. Pure.

The reconciler gathers it, the plan (`plan.py`, `ending.py`) decides by it, the engine's parts make its pieces: the launcher an
`Attempt`, the inventory a `Sight`, the prober a `Health`. It knows neither acts nor words for users.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from controller.api.instance import Instance
from controller.api.meta import condition
from controller.api.reasons import Reason
from controller.ports import Machine, MachineState

#: A definite refusal, or an outcome that will never be known: the launch is burnt, the group chooses again.
BURNT = frozenset({Reason.NO_CAPACITY, Reason.QUOTA_EXCEEDED, Reason.CLOUD_INVALID, Reason.LAUNCH_LOST})


class Sent(Enum):
    """What this process knows of its own attempt to launch."""

    NO = "nothing is on its way"
    IN_FLIGHT = "a call is on its way"
    REFUSED = "the cloud refused for good: nothing was made"
    DOUBTFUL = "the cloud refused, but an earlier call of the launch had no answer and may still be carried out"
    UNKNOWN = "no usable answer: the same call is due again"
    MISMATCH = "the same call cannot be made again: find by tag, then burnt"
    HELD = "nothing was sent: something is missing first"
    PACED = "nothing was sent: its turn within the account's rate has not come"
    BEHIND = "nothing was sent: launches of its kind are denied, and another one asks again for all"


class First(Enum):
    """The first member of the Instance's batch, whose launch launches them all (design section 5, rule 2)."""

    OWN = "the Instance itself"
    UNSENT = "it waits for its launch"
    NEVER = "it goes and was never launched: nor will any of the batch be"
    SENT = "its launch is recorded"
    LEAVING = "its launch is recorded, and it goes"
    GONE = "it does not exist, by another's hand: what became of its launch is not known"


#: In these the launch of the batch was or may have been sent, and nobody sends it again.
LEFT_ALONE = frozenset({First.LEAVING, First.GONE})

#: What is said of one that comes up; of a fleet's it need not be the newest. Whatever else is said is not left standing.
ON_ITS_WAY = frozenset({"", *(each.value for each in (Reason.WAITING_FOR_LAUNCH, Reason.LAUNCHING, Reason.BOOTING, Reason.STARTING))})


@dataclass(frozen=True, slots=True)
class Attempt:
    """The launcher's last word on this Instance.

    `at` is when, `machine` what was made and `batch` that of all members, `tries` how often in a row the cloud put the call
    off, `after` how long it wants to be left alone, or how far the turn is; `fewer` that of a refused batch a smaller one might fit;
    `unanswered` that a call of this launch had no answer, or was sent by a process before this one.
    """

    sent: Sent = Sent.NO
    reason: Reason | None = None
    message: str = ""
    machine: Machine | None = None
    batch: tuple[Machine, ...] = ()
    at: datetime | None = None
    tries: int = 0
    after: timedelta = timedelta(0)
    fewer: bool = True
    unanswered: bool = False


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
    """The prober's view: None while no probe has answered since this process knows the machine.

    `asked` is False where the controller cannot make its probes, and `message` says why.
    """

    healthy: bool | None = None
    message: str = ""
    asked: bool = True


@dataclass(frozen=True, slots=True)
class CloudView:
    """The Cloud of the Instance, as far as it matters here; `unasked` while this process has just begun and asked it nothing."""

    exists: bool = False
    ready: bool = False
    message: str = ""
    settle: timedelta = timedelta(seconds=120)
    room: bool = True
    limit: int = 0
    unasked: bool = False


@dataclass(frozen=True, slots=True)
class Owner:
    """The group and the Infrastructure.

    `fleet` says that it has many Instances, which tell less each; `blockers` are services whose machines have to go first; `counted` that
    the group has noted this Instance's scale-in.
    """

    exists: bool = True
    going: bool = False
    paused: bool = False
    fleet: bool = False
    blockers: tuple[str, ...] = ()
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Acts:
    """What this process itself did about ending the machine, and what came of it."""

    terminated: datetime | None = None
    closed: datetime | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known of one Instance.

    `probed_since` is when this process began to probe its machine. Of a later member of a batch `instance` has the launch of its
    first member, `attempt` is that one's, and `first_said` is why that one waits. `batch_sent` says that another member has a machine
    or a recorded launch, or that the list shows one; `rival` is another Instance of the same identity that stays. `elsewhere` is the
    namespace that the tags of its machine name, where that is to be served and is not now: there may be a rival that is not known.
    """

    instance: Instance
    now: datetime
    owner: Owner = field(default_factory=Owner)
    cloud: CloudView = field(default_factory=CloudView)
    sight: Sight = field(default_factory=Sight)
    attempt: Attempt = field(default_factory=Attempt)
    health: Health = field(default_factory=Health)
    probed_since: datetime | None = None
    acts: Acts = field(default_factory=Acts)
    first: First = First.OWN
    first_said: tuple[Reason, str] | None = None
    batch_sent: bool = False
    rival: Instance | None = None
    elsewhere: str = ""


def machines(o: Observed) -> tuple[Machine, ...]:
    """What the list shows, and what our own call made that no list shows yet."""
    made, recorded = o.attempt.machine, o.instance.status.machine
    if made is None or any(machine.id == made.id for machine in o.sight.machines) or gone(o):
        return o.sight.machines
    if recorded is not None and recorded.id == made.id and recorded.state != made.state.value:
        return o.sight.machines  # a list has shown it since: the answer to the launch is out of date
    return (*o.sight.machines, made)


def live(machines: tuple[Machine, ...]) -> tuple[Machine, ...]:
    return tuple(sorted((each for each in machines if each.state is not MachineState.TERMINATED), key=lambda each: each.id))


def probed(instance: Instance, machine: Machine) -> tuple[str, ...]:
    """The machine's addresses of the kind that its probes knock at."""
    return machine.private_addresses if instance.spec.health.address == "Private" else machine.public_addresses


def known(o: Observed) -> Machine | None:
    """The machine of this Instance: the recorded one, else the one our call made, else the one of its identity."""
    recorded = o.instance.status.machine.id if o.instance.status.machine else None
    shown = machines(o)
    if recorded is not None:
        return next((each for each in shown if each.id == recorded), None)
    ordered = (*live(shown), *shown)
    return ordered[0] if ordered else None


def known_id(o: Observed) -> str | None:
    """The id of the machine of which proof is needed, where one is known."""
    if o.instance.status.machine is not None:
        return o.instance.status.machine.id
    return o.attempt.machine.id if o.attempt.machine is not None else None


def launch_time(o: Observed) -> datetime:
    launch = o.instance.status.launch
    return launch.time if launch is not None else o.now


def cloud_name(o: Observed) -> str:
    return o.instance.spec.implementation.cloud_ref.name


def gone(o: Observed) -> bool:
    """NotFound is proof only once the machine had time to become visible (EC2: eventual consistency)."""
    return o.sight.gone and o.now >= settled(o)


def settled(o: Observed) -> datetime:
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


def ready_reason(o: Observed) -> str:
    """Why it is Ready or not, as its status says by now; empty where that says nothing yet."""
    said = condition(o.instance.status.conditions, "Ready")
    return said.reason if said is not None else ""


def refused(o: Observed) -> bool:
    said = condition(o.instance.status.conditions, "Launched")
    if o.attempt.sent is Sent.REFUSED:
        return True
    # What was said, by whomever, is of a call before one that this process has no answer to.
    return not o.attempt.unanswered and said is not None and said.reason in BURNT - {Reason.LAUNCH_LOST}
