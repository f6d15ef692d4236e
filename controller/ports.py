"""The edges of the engine, as Protocols: what it calls, and what MUST hold there on retry, crash and partial failure.

The engine and the reconcilers know these and nothing of what stands behind them; the shell passes implementations in as
values. One contract suite runs over every store (`tests/contract/test_store.py`) and one over every cloud driver
(`tests/contract/test_cloud.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Literal, NewType, Protocol, TypeVar

from pydantic import BaseModel

from controller import errors

Uid = NewType("Uid", str)
MachineId = NewType("MachineId", str)
T = TypeVar("T")

#: A JSON object in Kubernetes' shape: apiVersion, kind, metadata, spec, status.
Obj = dict[str, Any]


# --- the store ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, order=True)
class Key:
    """The name of one object."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every object there is, at one moment. The first thing a watch yields, and again after each relist."""

    objects: tuple[Obj, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """The object as it is now: made, or changed in any part."""

    object: Obj


@dataclass(frozen=True, slots=True)
class Gone:
    """The object as it last was; it exists no more."""

    object: Obj


Change = Snapshot | Changed | Gone


@dataclass(frozen=True, slots=True)
class Event:
    """What has changed about an object, once, for its user. Equal events are counted, not repeated."""

    regarding: Key
    uid: str
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


class Store(Protocol):
    """The Kubernetes API's contract, as far as the reconcilers rely on it.

    Every read is live: it MUST see every write acknowledged before it began. A write that raises `Unavailable` may or
    may not have been done; any other error means that it was not. Objects returned are the caller's own copies.
    """

    async def get(self, key: Key) -> Obj:
        """Raises ObjectNotFound."""
        ...

    async def list(self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> list[Obj]:
        """All objects of a kind, whole or not at all: a partial list MUST raise."""
        ...

    async def create(self, obj: Obj) -> Obj:
        """Store a new object; its status is dropped. Raises AlreadyExists, Rejected."""
        ...

    async def patch(self, key: Key, patch: Obj, *, version: str, subresource: Literal["", "status"] = "") -> Obj:
        """Apply a JSON merge patch to an object seen at `version` (its resourceVersion), or to its status alone.

        Raises Conflict where it has changed since, ObjectNotFound, Rejected. A patch that changes nothing MUST keep
        the resourceVersion.
        """
        ...

    async def delete(self, key: Key, *, uid: str, version: str | None = None) -> Obj | None:
        """Mark for deletion; without finalizers the object goes at once. Of one that is marked already, nothing.

        Answers the object as it is marked then, where the store says it before its watch does.
        Raises Conflict where the object has another UID (or another version, if given), ObjectNotFound.
        """
        ...

    def watch(self) -> AsyncIterator[Change]:
        """A Snapshot, then every later change in order; never ends by itself."""
        ...

    async def record(self, event: Event) -> None:
        """Keep an event. Never raises for an object that has gone."""
        ...

    async def holds(self) -> bool:
        """Whether this process may still mutate the world for this store (lock, lease). Asked before each launch."""
        ...


# --- clouds ---------------------------------------------------------------------------------------------------------
class MachineState(Enum):
    """What a cloud says of a machine. Every word of a cloud maps to one of these; a strange one to UNKNOWN."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"
    ERROR = "error"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """Which Instance a machine is: the batch it was launched in, and its place there."""

    batch_id: str
    index: int

    def __str__(self) -> str:
        return f"{self.batch_id}-{self.index}"


@dataclass(frozen=True, slots=True)
class Machine:
    """One VM as its cloud shows it. `state_text` is the cloud's own word, `message` what it says of a fault.

    One that is not `ours` does not carry the controller's id in its tags: only `describe` shows it, and nobody touches it.
    """

    id: MachineId
    identity: Identity
    name: str
    state: MachineState
    state_text: str
    private_addresses: tuple[str, ...] = ()
    public_addresses: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    created: datetime | None = None
    message: str = ""
    ours: bool = True


@dataclass(frozen=True, slots=True)
class Account:
    """Whose machines a driver sees. Two Clouds with equal accounts share one inventory."""

    kind: str
    id: str
    region: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """k alike machines, in one call where the cloud can. The token is the batch id; one batch, one token, ever.

    `spec` is the driver's own fields as `resolve` returned them; `fences` are what `prepare` answered (empty where
    the cloud has a token); `names` has one name per member.
    """

    batch_id: str
    names: tuple[str, ...]
    tags: Mapping[str, str]
    spec: Mapping[str, Any]
    user_data: bytes
    fence: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """A token bucket that the cloud keeps for an account: so many calls at once, and so many a second.

    With `per_machine` it counts the machines of a call instead of the call.
    """

    capacity: float
    per_second: float
    per_machine: bool = False


#: What became of one request: its machines by index, or the cloud's refusal.
Launched = tuple[Machine, ...]


class CloudDriver(Protocol):
    """One account on one cloud. Plain blocking code, called from threads, several calls at once.

    A call MUST end within `CALL_SECONDS`, or raise Transient. No call retries a mutation by itself. Only machines with
    this driver's controller id in their tags are ever listed or touched.
    """

    #: For how long after a call was sent a machine it made may still be invisible to `list`; also how long a machine
    #: known by id may be missing before it counts as absent.
    settle_seconds: float
    #: The most bytes of user data the cloud takes.
    user_data_limit_bytes: int
    #: The cloud's published rates, by "create", "delete", "prepare", "close" and "read"; what has none is not paced.
    limits: Mapping[str, tuple[Limit, ...]]

    def most_per_call(self, spec: Mapping[str, Any]) -> int:
        """The most alike machines of this spec, as `resolve` gave it, that one request may ask for. Asks nobody."""
        ...

    def identity(self) -> Account:
        """Raises Denied, Transient."""
        ...

    def list(self, *, running: bool = True) -> Sequence[Machine]:
        """All machines of this controller id, those that ended lately too. Whole, or raises: never a part.

        Without `running`, machines that run may be left out, and none else: a cloud that can do so spares a large account
        most of what a list costs.
        """
        ...

    def resolve(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """The spec with every name replaced by the cloud's id. Raises Invalid with what was found."""
        ...

    def describe(self, ids: Sequence[MachineId]) -> dict[MachineId, Machine]:
        """Those of `ids` that exist, asked by id and not by tag; what is there without this controller's id is not `ours`.

        An id that is left out is taken for one that exists no more, so where the cloud has an answer for that, it MUST have
        been given; of an answer that is short without it raises Transient.
        """
        ...

    def prepare(self, requests: Sequence[LaunchRequest]) -> Sequence[str | errors.CloudError]:
        """Make the fence of each request and name it. Idempotent by batch id; `""` where the token is the fence."""
        ...

    def create(self, requests: Sequence[LaunchRequest]) -> Sequence[Launched | errors.CloudError]:
        """Launch. The same request again MUST answer with the same machines and make none.

        Of a request answered Transient or Throttled the outcome is unknown or nothing was made; any other error MUST
        mean that nothing was made, save TokenSpent.
        """
        ...

    def delete(self, ids: Sequence[MachineId]) -> Sequence[errors.CloudError | None]:
        """Begin to end each machine. Idempotent: one that ends or has ended is no error, nor is an unknown id."""
        ...

    def close(self, batch_id: str, fence: str) -> None:
        """Keep later calls from launching this batch, as far as the cloud has a way to; else do nothing.

        Called when an Instance ends. MUST NOT end a machine: one already made is found by `list`, once its settling time
        has passed, which is waited for in any case.
        """
        ...

    def console(self, id: MachineId) -> str:
        """The tail of the machine's console output, at most 64 KiB. Raises MachineNotFound."""
        ...


#: The tag that holds `CloudConfig.controller_id`: on every machine from the first, and the only ground to touch one.
CONTROLLER_TAG = "occopus.io/controller"

#: connect + read time of any one call to a cloud (design section 5, rule 2).
CALL_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class CloudConfig:
    """What a driver is opened with: the Cloud's own fields, the data of its Secret, our id, what the flags allow."""

    spec: Mapping[str, Any]
    secret: Mapping[str, str]
    controller_id: str
    state_directory: str
    allow_local: bool
    ambient_credentials: bool


@dataclass(frozen=True, slots=True)
class CloudPlugin:
    """One kind of cloud, found by the entry point group `occopus.clouds`.

    `kind` is the arm's name in `Cloud.spec` and in an implementation; the models are the arms' schemas. A plugin whose
    machines live on loopback says so by `loopback`: probes may then go there.
    """

    kind: str
    cloud_model: type[BaseModel]
    machine_model: type[BaseModel]
    open: Callable[[CloudConfig], CloudDriver]
    loopback: bool = False


# --- contextualisation and health -----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class RenderRequest:
    """A template's text, its name for error messages, what it can read, and the most bytes of user data it may give.

    `values` holds plain dicts, lists, strings and numbers only.
    """

    template: str
    name: str
    values: Mapping[str, Any]
    limit_bytes: int


class Renderer(Protocol):
    """Makes user data. Deterministic: equal requests give equal bytes."""

    async def render(self, request: RenderRequest) -> bytes:
        """Raises TemplateError, TooLarge; RendererFailed, which says nothing of the request."""
        ...


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """`message` says what was tried, from where, and what came of it: one line, stable, no body, no secret.

    `passed` is None where the check could not be made, for want of something of the controller's: it says nothing of the machine.
    """

    passed: bool | None
    message: str


class Checker(Protocol):
    """Does health checks, at most `at_once` of them at a time: its caller sees to that."""

    @property
    def at_once(self) -> int: ...

    async def check(self, probe: Mapping[str, Any], address: str, *, loopback: bool) -> ProbeResult:
        """Never raises for what a machine does or does not answer; ends within the probe's timeout."""
        ...


class Threads(Protocol):
    """Runs blocking driver code without stopping the loop. Calls of one lane never wait for those of another."""

    async def __call__(self, call: Callable[[], T], lane: str, /) -> T: ...


Now = Callable[[], datetime]
