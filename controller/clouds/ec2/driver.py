"""The `ec2` cloud: one AWS account in one region, by boto3.

The engine calls the driver through `controller.ports`. It decides how each call of the contract is put to EC2 and what
EC2's answers mean: `fields` has the fields, `names` finds what they name, `instances` words a launch and reads an
instance, `access` has endpoint and credentials, `error_codes` the table of errors. It refuses to know when to call, how
often, and for what.

The fence of a launch is EC2's ClientToken, which is the batch id: the same RunInstances again names the same machines. A
machine's place in its batch is its AmiLaunchIndex. boto3 is imported by the first call, so that nobody without an EC2 Cloud
pays for it (25 MB and 0.3 s).
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from controller import errors
from controller.clouds.ec2 import access, error_codes, fields, instances
from controller.clouds.ec2.access import Access, Clients
from controller.clouds.ec2.fields import Ec2Cloud, Ec2Machine
from controller.clouds.ec2.names import Names
from controller.ports import (
    CALL_SECONDS,
    CONTROLLER_TAG,
    Account,
    CloudConfig,
    CloudPlugin,
    Launched,
    LaunchRequest,
    Limit,
    Machine,
    MachineId,
)

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import DescribeInstancesResultTypeDef, FilterTypeDef

#: Larger pages hold the interpreter's lock for too long: 1,000 instances 217 ms (measured, design section 11).
_PAGE = 200
#: Ids of one answer that has no pages: "You cannot specify this parameter and the instance IDs parameter in the same request"
#: (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html, of MaxResults).
_ASKED_AT_ONCE = 100
#: EC2 takes 1,000, advises fewer, and ends none of them, or none of the same zone, where it refuses one
#: (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_TerminateInstances.html).
_ENDED_AT_ONCE = 100
#: So many calls at most to end the machines of one chunk, where EC2 refuses some of them. To find one by halves takes 14.
_END_TRIES = 20
#: A machine whose end was refused so lately is asked for apart from the others, which it would hold back.
_REFUSED_SECONDS = 600.0
#: A read that failed within this time (a connection that had been closed) is made once more.
_READ_AGAIN_SECONDS = 1.0
#: A machine that was shown with this controller's id so lately is ended without another look. Whole lists come within half of it.
_TRUSTED_SECONDS = 60.0
_CONSOLE_BYTES = 64 * 1024
_ID = re.compile(r"\bi-[0-9a-f]{8,17}\b")

#: What botocore's parsers stumble with over an answer that is none of EC2's.
_UNREADABLE = (LookupError, ValueError, TypeError, AttributeError)

T = TypeVar("T")


class Ec2Driver:
    """Satisfies `controller.ports.CloudDriver`."""

    #: How far EC2's reads lag behind is not published; this is the design's (section 5, rule 3).
    settle_seconds: float = 120.0
    #: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html
    user_data_limit_bytes: int = instances.USER_DATA_LIMIT_BYTES
    #: Per account and region (https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html).
    limits: Mapping[str, tuple[Limit, ...]] = {
        "create": (Limit(5, 2), Limit(1000, 2, per_machine=True)),
        "delete": (Limit(100, 5), Limit(1000, 20, per_machine=True)),
        "read": (Limit(100, 20),),
    }

    def __init__(self, access: Access, controller_id: str) -> None:
        self._access = access
        self._controller_id = controller_id
        self._clients: Clients | None = None
        self._lock = threading.Lock()
        #: When a machine was last shown with this controller's id, the longest ago first.
        self._seen: dict[MachineId, float] = {}
        #: When a machine's end was refused.
        self._refused: dict[MachineId, float] = {}
        #: Until when a launch may leave, of the thread that makes it.
        self._until = threading.local()

    def most_per_call(self, spec: Mapping[str, Any]) -> int:
        """No document says that spot instances of one request have launch indexes of their own: by these a batch is told apart."""
        return 1 if "spot" in spec else instances.MOST

    # --- reading ----------------------------------------------------------------------------------------------------
    def identity(self) -> Account:
        answer = self._read(lambda each: each.sts.get_caller_identity())
        if not answer.get("Account"):
            raise errors.Transient(f"{self._access.where}: STS did not say whose the credentials are")
        return Account("ec2", answer["Account"], self._access.region, self._access.endpoint)

    def list(self, *, running: bool = True) -> Sequence[Machine]:
        mine: FilterTypeDef = {"Name": f"tag:{CONTROLLER_TAG}", "Values": [self._controller_id]}
        return self._machines([mine] if running else [mine, {"Name": "instance-state-name", "Values": instances.NOT_RUNNING}])

    def describe(self, ids: Sequence[MachineId]) -> dict[MachineId, Machine]:
        known = [each for each in dict.fromkeys(ids) if _ID.fullmatch(each)]
        found: dict[MachineId, Machine] = {}
        deadline = time.monotonic() + CALL_SECONDS
        for chunk in _chunks(known, _ASKED_AT_ONCE):
            found.update((each.id, each) for each in self._those(chunk, deadline))
        self._saw(id for id, each in found.items() if each.ours)
        return found

    def _those(self, ids: Sequence[MachineId], deadline: float) -> Sequence[Machine]:
        """By id and not by a filter: of an id that EC2 does not know it says so, and an answer that lacks one proves nothing."""
        waiting: list[MachineId] = list(ids)
        while waiting:
            try:
                machines = self._shown(self._read(_named(waiting)))
            except errors.MachineNotFound as error:
                unknown: set[str] = set(_ID.findall(str(error)))
                if unknown.isdisjoint(waiting) or time.monotonic() > deadline:
                    raise errors.Transient(f"{self._access.where}: EC2 did not say which of the machines it does not know") from error
                waiting = [each for each in waiting if each not in unknown]
                continue
            if lacking := set(waiting) - {each.id for each in machines}:
                raise errors.Transient(f"{self._access.where}: the answer lacks {len(lacking)} of the machines that were asked for by id")
            return machines
        return ()

    def resolve(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        return Names(self._ask).resolve(fields.machine(spec)).written()

    def console(self, id: MachineId) -> str:
        if id not in self._trusted([id]):
            raise errors.MachineNotFound(f"there is no machine {id}")
        try:
            answer = self._read(lambda each: each.ec2.get_console_output(InstanceId=id, Latest=True))
        except errors.Invalid:  # Only instances on Nitro have it.
            answer = self._read(lambda each: each.ec2.get_console_output(InstanceId=id))
        # botocore has decoded it.
        return (answer.get("Output") or "").encode()[-_CONSOLE_BYTES:].decode(errors="ignore")

    def _machines(self, filters: Sequence[FilterTypeDef]) -> list[Machine]:
        """All pages, or an error."""
        deadline = time.monotonic() + CALL_SECONDS
        found: dict[MachineId, Machine] = {}
        token = ""
        while True:
            page = self._read(_page(filters, token))
            found.update((each.id, each) for each in self._shown(page) if each.ours)
            token = page.get("NextToken") or ""
            if not token:
                self._saw(found)
                return list(found.values())
            if time.monotonic() > deadline:
                raise errors.Transient(f"{self._access.where}: a list took longer than {CALL_SECONDS:.0f} s")

    def _shown(self, answer: DescribeInstancesResultTypeDef) -> Sequence[Machine]:
        """The machines of an answer, with whose they are."""
        if "Reservations" not in answer:
            raise errors.Transient(f"{self._access.where}: the answer is none of EC2's")
        machines = [instances.machine(each) for some in answer["Reservations"] for each in some.get("Instances") or ()]
        return [replace(each, ours=each.tags.get(CONTROLLER_TAG) == self._controller_id) for each in machines]

    # --- making -----------------------------------------------------------------------------------------------------
    def prepare(self, requests: Sequence[LaunchRequest]) -> Sequence[str | errors.CloudError]:
        return [""] * len(requests)

    def create(self, requests: Sequence[LaunchRequest]) -> Sequence[Launched | errors.CloudError]:
        deadline = time.monotonic() + CALL_SECONDS
        outcomes: list[Launched | errors.CloudError] = []
        for request in requests:
            try:
                outcomes.append(self._create(request, deadline))
            except errors.CloudError as error:
                outcomes.append(error)
        return outcomes

    def _create(self, request: LaunchRequest, deadline: float) -> Launched:
        parameters = instances.parameters(request, self._controller_id)
        # Asked again when the request is signed, as the SDK may wait for credentials before that.
        self._until.launch = deadline
        answer = self._call(lambda each: each.ec2.run_instances(**parameters), mutation=True)
        machines = instances.launched(answer, request)
        self._saw(each.id for each in machines)
        return machines

    def close(self, batch_id: str, fence: str) -> None:
        """EC2 has no way to spend a token without a launch."""

    # --- ending -----------------------------------------------------------------------------------------------------
    def delete(self, ids: Sequence[MachineId]) -> Sequence[errors.CloudError | None]:
        deadline = time.monotonic() + CALL_SECONDS
        outcomes: dict[MachineId, errors.CloudError | None] = {}
        trusted = self._trusted(ids)
        refused = [each for each in trusted if self._refused.get(each, -math.inf) > time.monotonic() - _REFUSED_SECONDS]
        for some in ([each for each in trusted if each not in refused], refused):
            for chunk in _chunks(some, _ENDED_AT_ONCE):
                outcomes.update(self._end(chunk, deadline))
        return [outcomes.get(each) for each in ids]

    def _remember(self, refused: Sequence[MachineId]) -> None:
        now = time.monotonic()
        with self._lock:
            kept = {id: at for id, at in self._refused.items() if at > now - _REFUSED_SECONDS}
            self._refused = kept | dict.fromkeys(refused, now)

    def _trusted(self, ids: Sequence[MachineId]) -> Sequence[MachineId]:
        """Those that are this controller's, each once: shown as such lately, or looked at now."""
        since = time.monotonic() - _TRUSTED_SECONDS
        unseen = [each for each in dict.fromkeys(ids) if self._seen.get(each, -math.inf) < since]
        ours = {id for id, each in self.describe(unseen).items() if each.ours}
        return [each for each in dict.fromkeys(ids) if each in ours or each not in unseen]

    def _end(self, ids: Sequence[MachineId], deadline: float) -> dict[MachineId, errors.CloudError | None]:
        """EC2 ends all of a call or none: those that it refuses are set aside, and the others asked for again.

        Where it denies some, one of the others is asked for alone: if it is denied too, the right lacks for all.
        """
        outcomes: dict[MachineId, errors.CloudError | None] = {}
        waiting, alone = [ids], MachineId("")
        for _ in range(_END_TRIES):
            if not waiting:
                return outcomes
            chunk = waiting.pop()
            error = self._terminate(chunk, deadline)
            if isinstance(error, errors.Denied) and chunk == [alone]:
                self._remember([alone])
                return {**dict.fromkeys([alone, *(each for some in waiting for each in some)], error), **outcomes}
            settled = _settled(chunk, error)
            outcomes.update(dict.fromkeys(settled, None if isinstance(error, errors.MachineNotFound) else error))
            if isinstance(error, errors.Denied | errors.Invalid):
                self._remember(settled)
            rest = [each for each in chunk if each not in settled]
            middle = len(rest) if settled else len(rest) // 2
            waiting += [half for half in (rest[:middle], rest[middle:]) if half]
            lacks_right = isinstance(error, errors.Denied) and not str(error).startswith(error_codes.PROTECTED)
            if lacks_right and rest and not alone:
                last = waiting.pop()
                alone = last[-1]
                waiting += [some for some in (last[:-1], [alone]) if some]
        left = errors.Transient(f"{self._access.where}: too many of the machines to end were refused; the others are asked for again")
        return {**dict.fromkeys(ids, left), **outcomes}

    def _terminate(self, ids: Sequence[MachineId], deadline: float) -> errors.CloudError | None:
        try:
            self._check_time(deadline)
            self._call(lambda each: each.ec2.terminate_instances(InstanceIds=ids), mutation=True)
        except errors.CloudError as error:
            return error
        return None

    # --- one call ---------------------------------------------------------------------------------------------------
    def _ask(self, call: Callable[[Clients], Any], key: str) -> Sequence[Any]:
        """A read, and what it found under that key of the answer."""
        answer: Mapping[str, Any] = self._read(call)
        if key not in answer:
            raise errors.Transient(f"{self._access.where}: the answer is none of EC2's")
        return answer[key]

    def _read(self, call: Callable[[Clients], T]) -> T:
        """A read, made once more where the first failed at once."""
        started = time.monotonic()
        try:
            return self._call(call, mutation=False)
        except errors.Transient:
            if time.monotonic() - started > _READ_AGAIN_SECONDS:
                raise
        return self._call(call, mutation=False)

    def _call(self, call: Callable[[Clients], T], *, mutation: bool) -> T:
        """One request. Raises CloudError."""
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        try:
            return call(self._connected())
        except ClientError as error:
            raise error_codes.answered(self._access.where, error, mutation=mutation) from error
        except (BotoCoreError, ResponseParserError, RuntimeError, OSError, EOFError, *_UNREADABLE) as error:
            raise error_codes.no_answer(self._access.where, error) from error

    def _connected(self) -> Clients:
        with self._lock:
            if self._clients is None:
                self._clients = access.clients(self._access)
                self._clients.ec2.meta.events.register("before-send.ec2.RunInstances", self._before_launch)
            return self._clients

    def _before_launch(self, **_: object) -> None:
        """Satisfies botocore's event: a launch that leaves so late may come after everybody has stopped waiting for it."""
        self._check_time(self._until.launch)

    def _check_time(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise errors.Transient(f"{self._access.where}: not sent, since the calls before it took {CALL_SECONDS:.0f} s")

    def _saw(self, ids: Iterable[MachineId]) -> None:
        """Remember these, and forget those of long ago."""
        now = time.monotonic()
        with self._lock:
            for each in ids:
                self._seen.pop(each, None)
                self._seen[each] = now
            while self._seen and self._seen[oldest := next(iter(self._seen))] < now - _TRUSTED_SECONDS:
                del self._seen[oldest]


def _page(filters: Sequence[FilterTypeDef], token: str) -> Callable[[Clients], DescribeInstancesResultTypeDef]:
    if token:
        return lambda each: each.ec2.describe_instances(Filters=filters, MaxResults=_PAGE, NextToken=token)
    return lambda each: each.ec2.describe_instances(Filters=filters, MaxResults=_PAGE)


def _named(ids: Sequence[MachineId]) -> Callable[[Clients], DescribeInstancesResultTypeDef]:
    return lambda each: each.ec2.describe_instances(InstanceIds=ids)


def _settled(ids: Sequence[MachineId], error: errors.CloudError | None) -> Sequence[MachineId]:
    """Those of which this answer says what became of them; none where it refuses some without naming them."""
    if len(ids) > 1 and error is not None:
        # What is told to users may leave out whom it is about.
        words = f"{error} {error.__cause__}"
        named = [each for each in ids if each in words]
        if named or isinstance(error, errors.MachineNotFound | errors.Invalid | errors.Denied):
            return named
    return ids


def _chunks(ids: Sequence[MachineId], size: int) -> Iterator[Sequence[MachineId]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))


def open(config: CloudConfig) -> Ec2Driver:
    """Open an account; nothing is asked yet. Raises Denied without credentials that may be used, Invalid."""
    return Ec2Driver(access.access(config), config.controller_id)


PLUGIN = CloudPlugin("ec2", Ec2Cloud, Ec2Machine, open)

__all__ = ["PLUGIN", "Ec2Driver", "open"]
