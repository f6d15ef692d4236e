"""The truth behind the simulated cloud: its machines, the faults that tests command, a ledger of every call, oracles.

Tests make a World, act on it, and ask it afterwards what really happened; the driver (`tests.simulated.cloud`) shows it
to the engine as a cloud would, late and unreliably where a test says so. What a machine is at any moment follows from a
few times that are noted once, so a view that lags is the same view asked for an earlier moment. It knows nothing of
Instances.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from typing import Any

from controller import errors
from controller.ports import CONTROLLER_TAG, Identity, LaunchRequest, Limit, Machine, MachineId, MachineState
from tests.simulated.loop import EPOCH

Draw = Callable[[random.Random], float]
NEVER = float("inf")
#: The tags by which the engine says which service of which Infrastructure a machine is of.
GROUP_TAGS = ("occopus.io/infrastructure-id", "occopus.io/service")


@dataclass(slots=True)
class Settings:
    """How the cloud behaves. May be changed while it runs, save for what a driver says of itself; times are seconds."""

    boot_seconds: Draw = field(default=lambda rng: rng.uniform(20.0, 40.0))
    #: From running to healthy.
    health_seconds: Draw = field(default=lambda rng: rng.uniform(5.0, 15.0))
    terminating_seconds: float = 10.0
    stopping_seconds: float = 0.0
    #: For how long a terminated machine is still shown.
    shown_seconds: float = 3600.0
    #: By how much list and describe lag behind the truth.
    lag_seconds: float = 0.0
    #: What the driver says of the longest such lag.
    settle_seconds: float = 120.0
    #: Whether a launch needs a fence made by `prepare`, as Nova's does; else the token is the fence.
    fences: bool = False
    #: Whether `close` keeps later calls away; else it does nothing, as with EC2.
    closes: bool = True
    user_data_limit_bytes: int = 16 * 1024
    most_per_call: int = 1
    limits: dict[str, tuple[Limit, ...]] = field(default_factory=dict[str, tuple[Limit, ...]])
    #: Images by name.
    images: dict[str, str] = field(default_factory=lambda: {"debian": "image-1", "other": "image-2"})
    #: The most machines of a size that there is room for; sizes that are not named have no limit.
    capacity: dict[str, int] = field(default_factory=dict[str, int])
    #: The most machines of an account.
    quota: int | None = None
    #: Which account an account's credentials answer for, where that is another.
    answers_for: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True)
class SimulatedMachine:
    """One machine: facts, and the times at which it changes. `not ended` is from `created` until before `ended`."""

    id: MachineId
    identity: Identity
    name: str
    tags: dict[str, str]
    spec: dict[str, Any]
    user_data: bytes
    account: tuple[str, str]
    private_address: str
    public_address: str
    created: float
    running: float
    healthy: float
    visible: float
    ending: float = NEVER
    ended: float = NEVER
    stopping: float = NEVER
    stopped: float = NEVER
    failed: float = NEVER
    unhealthy: float = NEVER
    #: From then on the cloud does not know it any more.
    forgotten: float = NEVER
    message: str = ""
    #: A word that the cloud says instead of its state.
    strange_state: str = ""

    def state(self, at: float) -> MachineState:
        """What it is at a moment."""
        stages = (
            (self.ended, MachineState.TERMINATED),
            (self.ending, MachineState.SHUTTING_DOWN),
            (self.failed, MachineState.ERROR),
            (self.stopped, MachineState.STOPPED),
            (self.stopping, MachineState.STOPPING),
            (self.running, MachineState.RUNNING),
        )
        return next((state for since, state in stages if since <= at), MachineState.PENDING)

    def lives(self, at: float) -> bool:
        return self.created <= at < self.ended

    def is_healthy(self, at: float) -> bool:
        return self.state(at) is MachineState.RUNNING and self.healthy <= at < self.unhealthy

    def shown(self, at: float, epoch: datetime) -> Machine:
        """As the cloud shows it."""
        state = self.state(at)
        return Machine(
            id=self.id,
            identity=self.identity,
            name=self.name,
            state=MachineState.UNKNOWN if self.strange_state else state,
            state_text=self.strange_state or state.value,
            private_addresses=(self.private_address,),
            public_addresses=(self.public_address,),
            tags=self.tags,
            created=epoch + timedelta(seconds=self.created),
            message=self.message,
        )


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the ledger: a call, or one request of a call with several. `call` is the number of the call."""

    call: int
    time: float
    action: str
    token: str = ""
    ids: tuple[str, ...] = ()
    #: "ok", or the error's class; "lost ok" where it was done and the reply lost.
    outcome: str = "ok"


@dataclass(slots=True)
class Fault:
    """A failure that a test commanded: of which calls, how often, and whether the deed was done before the error."""

    action: str
    error: errors.CloudError
    left: float
    after: bool
    whole: bool
    where: Callable[[str], bool]


Answer = Callable[[Sequence[Machine]], Sequence[Machine]]


class World:
    """See the module. `clock` gives seconds since `epoch`. Safe to use from several threads."""

    def __init__(self, clock: Callable[[], float], *, seed: int = 0, epoch: datetime = EPOCH, settings: Settings | None = None) -> None:
        self.clock = clock
        self.epoch = epoch
        self.settings = settings or Settings()
        self.random = random.Random(seed)
        self.lock = threading.RLock()
        self.machines: dict[MachineId, SimulatedMachine] = {}
        #: Every address ever given; none is given twice.
        self.addresses: dict[str, SimulatedMachine] = {}
        self.ledger: list[Call] = []
        self.faults: list[Fault] = []
        self.answers: list[Answer] = []
        #: Launch tokens by account and token: what was sent, and which machines it made.
        self.tokens: dict[tuple[str, str, str], tuple[LaunchRequest | None, tuple[MachineId, ...]]] = {}
        #: Fences there are: who has them and the batch each is of.
        self.fences: dict[str, tuple[tuple[str, str], str]] = {}
        #: Machines of which this is true, when they are made, never become healthy.
        self.never_healthy: Callable[[SimulatedMachine], bool] = lambda machine: False
        self.numbers = itertools.count(1)
        #: How a machine's id is made of its number.
        self.id_of: Callable[[int], str] = lambda number: f"m-{number:06}"
        #: The private address of number 0; machines have those after it.
        self.network = IPv4Address("10.0.0.0")

    # --- commanded faults -------------------------------------------------------------------------------------------
    def fail(
        self,
        action: str,
        error: errors.CloudError,
        *,
        times: float = 1,
        after: bool = False,
        whole: bool = False,
        where: Callable[[str], bool] = lambda token: True,
    ) -> Fault:
        """Let the next `times` calls of this action fail: before anything is done, or `after` it was (a lost reply).

        Of prepare, create and delete each request fails for itself, or, if `whole`, the call as a whole. `where` is asked
        with the request's batch id or machine id, "" for others. Returns the fault; `clear` takes it back.
        """
        fault = Fault(action, error, times, after, whole, where)
        self.faults.append(fault)
        return fault

    def clear(self, fault: Fault) -> None:
        """Take a fault back."""
        fault.left = 0

    def falsify(self, answer: Answer) -> None:
        """Let the next list answer with what this makes of the truth: empty, a part, another's."""
        self.answers.append(answer)

    def take_fault(self, action: str, token: str, *, whole: bool = False) -> Fault | None:
        """The fault that meets this call or, of one with several requests, this request; counted as used. For the driver."""
        for fault in self.faults:
            if fault.action == action and fault.whole is whole and fault.left > 0 and fault.where(token):
                fault.left -= 1
                return fault
        return None

    # --- acts of God ------------------------------------------------------------------------------------------------
    def kill(self, id: str) -> None:
        """The machine is gone at once; the cloud says terminated."""
        machine = self.machines[MachineId(id)]
        machine.ending = min(machine.ending, self.clock())
        machine.ended = min(machine.ended, self.clock())

    def stop(self, id: str) -> None:
        """Its power goes off."""
        machine = self.machines[MachineId(id)]
        machine.stopping = self.clock()
        machine.stopped = machine.stopping + self.settings.stopping_seconds

    def break_down(self, id: str, message: str = "the host failed") -> None:
        """The cloud says error."""
        machine = self.machines[MachineId(id)]
        machine.failed, machine.message = self.clock(), message

    def forget(self, id: str) -> None:
        """It is gone without a trace: no list and no id shows it again."""
        self.kill(id)
        self.machines[MachineId(id)].forgotten = self.clock()

    def make_unhealthy(self, id: str) -> None:
        """It runs, and fails its probes from now on."""
        self.machines[MachineId(id)].unhealthy = self.clock()

    def make_healthy(self, id: str) -> None:
        """It passes its probes from now on, as far as it runs."""
        machine = self.machines[MachineId(id)]
        machine.healthy, machine.unhealthy = min(machine.healthy, self.clock()), NEVER

    def insert(self, account: tuple[str, str], identity: Identity, tags: dict[str, str], spec: dict[str, Any] | None = None) -> MachineId:
        """A machine that nobody asked this cloud's driver for: another's, or one from before a restore."""
        return self.add(account, identity, LaunchRequest(identity.batch_id, ("inserted",), tags, spec or {}, b""), "inserted").id

    # --- what the driver does ---------------------------------------------------------------------------------------
    def add(self, account: tuple[str, str], identity: Identity, request: LaunchRequest, name: str) -> SimulatedMachine:
        """Make a machine now."""
        now, number = self.clock(), next(self.numbers)
        running = now + self.settings.boot_seconds(self.random)
        machine = SimulatedMachine(
            id=MachineId(self.id_of(number)),
            identity=identity,
            name=name,
            tags=dict(request.tags),
            spec=dict(request.spec),
            user_data=request.user_data,
            account=account,
            private_address=str(self.network + number),
            public_address=str(IPv4Address("198.18.0.0") + number),
            created=now,
            running=running,
            healthy=running + self.settings.health_seconds(self.random),
            visible=now + self.settings.lag_seconds,
        )
        if self.never_healthy(machine):
            machine.healthy = NEVER
        self.machines[machine.id] = machine
        self.addresses |= {machine.private_address: machine, machine.public_address: machine}
        return machine

    def terminate(self, id: MachineId) -> None:
        """Begin to end a machine; of one that ends, nothing."""
        machine = self.machines[id]
        if machine.ending == NEVER:
            machine.ending = self.clock()
            machine.ended = machine.ending + self.settings.terminating_seconds

    def visible(self, account: tuple[str, str], controller_id: str) -> Iterator[Machine]:
        """What the cloud shows of the account's machines now, which is how they were a lag ago; and which are this controller's."""
        now = self.clock()
        then = now - self.settings.lag_seconds
        for machine in self.machines.values():
            hidden = machine.visible > now or then >= min(machine.ended + self.settings.shown_seconds, machine.forgotten)
            if machine.account == account and not hidden:
                yield replace(machine.shown(then, self.epoch), ours=machine.tags.get(CONTROLLER_TAG) == controller_id)

    # --- oracles ----------------------------------------------------------------------------------------------------
    def at_address(self, address: str) -> SimulatedMachine | None:
        """The machine that answers there now."""
        now = self.clock()
        machine = self.addresses.get(address)
        return machine if machine is not None and machine.lives(now) else None

    def live(self, identity: Identity | None = None) -> list[SimulatedMachine]:
        """The machines that have not ended now: all, or those of one identity."""
        now = self.clock()
        return [each for each in self.machines.values() if each.lives(now) and identity in (None, each.identity)]

    def most_live(self) -> Counter[Identity]:
        """Of each identity, the most machines that ever lived at one instant."""
        return _peaks((machine.identity, machine) for machine in self.machines.values())

    def most_live_of_service(self) -> Counter[tuple[str, str]]:
        """Of each (Infrastructure's identity, service), the most machines that ever lived at one instant."""
        infrastructure, service = GROUP_TAGS
        return _peaks(((each.tags.get(infrastructure, ""), each.tags.get(service, "")), each) for each in self.machines.values())

    def duplicates(self) -> list[Identity]:
        """The identities that ever had two machines at one instant."""
        return [identity for identity, peak in self.most_live().items() if peak > 1]

    def leaks(self, known: Collection[Identity], controller_id: str) -> list[str]:
        """What this controller left behind: live machines of no known identity, and fences of no known batch."""
        machines = [each.id for each in self.live() if each.tags.get(CONTROLLER_TAG) == controller_id and each.identity not in known]
        batches = {identity.batch_id for identity in known}
        return [*machines, *(fence for fence, (_, batch) in self.fences.items() if batch not in batches)]

    def counts(self) -> Counter[str]:
        """How many calls there were of each action; a call with many requests counts once."""
        return Counter(action for _, action in {(each.call, each.action) for each in self.ledger})


def _peaks(machines: Iterable[tuple[Any, SimulatedMachine]]) -> Counter[Any]:
    """The most that ever lived at one instant, by key. One that ends at the instant in which another begins is gone."""
    changes: dict[Any, list[tuple[float, int]]] = {}
    for key, machine in machines:
        changes.setdefault(key, []).extend([(machine.created, 1), (machine.ended, -1)])
    return Counter({key: max(itertools.accumulate(change for _, change in sorted(each))) for key, each in changes.items()})
