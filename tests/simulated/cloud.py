"""The simulated cloud's driver: shows a World to the engine through `controller.ports`, as a cloud would.

`plugin(world)` makes it a kind of cloud. It decides what each call answers; what is true it leaves to the World, which
tests hold in their other hand. Calls never wait: time is the World's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from controller import errors
from controller.api.meta import Model
from controller.ports import (
    CONTROLLER_TAG,
    Account,
    CloudConfig,
    CloudPlugin,
    Identity,
    Launched,
    LaunchRequest,
    Limit,
    Machine,
    MachineId,
    MachineState,
)
from tests.simulated.world import Call, Fault, Settings, SimulatedMachine, World

T = TypeVar("T")
R = TypeVar("R")
_ENDED = (MachineState.SHUTTING_DOWN, MachineState.TERMINATED)


class SimulatedCloudFields(Model):
    """An account on the simulated cloud."""

    account: str = Field(default="main", description="The account.", min_length=1, max_length=63)
    region: str = Field(default="here", description="The region.", max_length=63)


class SimulatedMachineFields(Model):
    """A machine on the simulated cloud."""

    image: str = Field(default="debian", description="Name or id of the image.", min_length=1, max_length=63)
    size: str = Field(default="small", description="The size; any word.", min_length=1, max_length=63)


@dataclass(frozen=True, slots=True)
class _Entry:
    """How a call, or one request of it, is written into the ledger: `number` is the call's."""

    number: int
    action: str
    token: str = ""


class SimulatedCloud:
    """Satisfies `controller.ports.CloudDriver`."""

    def __init__(self, world: World, fields: SimulatedCloudFields, controller_id: str) -> None:
        self._world = world
        self._fields = fields
        self._controller_id = controller_id
        self.settle_seconds: float = world.settings.settle_seconds
        self.user_data_limit_bytes: int = world.settings.user_data_limit_bytes
        self.limits: Mapping[str, tuple[Limit, ...]] = world.settings.limits

    @property
    def _settings(self) -> Settings:
        return self._world.settings

    def most_per_call(self, spec: Mapping[str, Any]) -> int:
        return self._settings.most_per_call

    @property
    def _account(self) -> tuple[str, str]:
        return self._settings.answers_for.get(self._fields.account, self._fields.account), self._fields.region

    # --- reading ----------------------------------------------------------------------------------------------------
    def identity(self) -> Account:
        return self._one("identity", "", lambda: Account("simulated", *self._account, ""))

    def list(self, *, running: bool = True) -> Sequence[Machine]:
        return [each for each in self._one("list", "", self._list) if running or each.state is not MachineState.RUNNING]

    def _list(self) -> Sequence[Machine]:
        machines = list(self._visible())
        return self._world.answers.pop(0)(machines) if self._world.answers else machines

    def resolve(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        return self._one("resolve", "", lambda: self._resolve(spec))

    def _resolve(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        fields = _checked(spec)
        images = self._settings.images
        if fields.image not in images and fields.image not in images.values():
            raise errors.Invalid("image", f"there is no image {fields.image}; there are {', '.join(sorted(images))}")
        return {"image": images.get(fields.image, fields.image), "size": fields.size}

    def describe(self, ids: Sequence[MachineId]) -> dict[MachineId, Machine]:
        asked = frozenset(ids)
        return self._one(
            "describe", "", lambda: {each.id: each for each in self._world.visible(self._account, self._controller_id) if each.id in asked}
        )

    def console(self, id: MachineId) -> str:
        return self._one("console", id, lambda: self._console(id))

    def _console(self, id: MachineId) -> str:
        if not any(each.id == id for each in self._visible()):
            raise errors.MachineNotFound(f"there is no machine {id}")
        machine = self._world.machines[id]
        return f"{machine.name} booted with {len(machine.user_data)} bytes of user data\n"

    def _visible(self) -> Sequence[Machine]:
        """This controller's."""
        return tuple(each for each in self._world.visible(self._account, self._controller_id) if each.ours)

    # --- making -----------------------------------------------------------------------------------------------------
    def prepare(self, requests: Sequence[LaunchRequest]) -> Sequence[str | errors.CloudError]:
        return self._many("prepare", requests, lambda request: request.batch_id, self._prepare)

    def _prepare(self, request: LaunchRequest) -> str:
        if not self._settings.fences:
            return ""
        mine = (self._account, request.batch_id)
        for fence, owner in self._world.fences.items():
            if owner == mine:
                return fence
        if self._token(request.batch_id) in self._world.tokens:
            raise errors.TokenSpent(f"batch {request.batch_id} was closed")
        fence = f"fence-{next(self._world.numbers)}"
        self._world.fences[fence] = mine
        return fence

    def create(self, requests: Sequence[LaunchRequest]) -> Sequence[Launched | errors.CloudError]:
        return self._many("create", requests, lambda request: request.batch_id, self._create)

    def _create(self, request: LaunchRequest) -> Launched:
        token = self._token(request.batch_id)
        if token in self._world.tokens:
            return self._again(request)
        self._refuse(request)
        made = tuple(
            self._world.add(self._account, Identity(request.batch_id, index), request, name) for index, name in enumerate(request.names)
        )
        self._world.tokens[token] = (request, tuple(each.id for each in made))
        return self._shown(made)

    def _again(self, request: LaunchRequest) -> Launched:
        """The answer to a token that was used before."""
        first, ids = self._world.tokens[self._token(request.batch_id)]
        machines = tuple(self._world.machines[id] for id in ids)
        if first is None or any(each.state(self._world.clock()) in _ENDED for each in machines):
            raise errors.TokenSpent(f"a machine of token {request.batch_id} has ended")
        if first != request:
            raise errors.TokenSpent(f"token {request.batch_id} was used with other parameters")
        return self._shown(machines)

    def _refuse(self, request: LaunchRequest) -> None:
        """Raises whatever keeps this cloud from making these machines."""
        size = _checked(request.spec).size
        if request.tags.get(CONTROLLER_TAG) != self._controller_id:
            raise errors.Invalid("tags", f"{CONTROLLER_TAG} must be this controller's id")
        if len(request.user_data) > self.user_data_limit_bytes:
            raise errors.Invalid("userData", f"is {len(request.user_data)} bytes, more than {self.user_data_limit_bytes}")
        if self._settings.fences and self._world.fences.get(request.fence) != (self._account, request.batch_id):
            raise errors.TokenSpent(f"the fence of batch {request.batch_id} does not exist")
        if self._settings.fences and len(request.names) != 1:
            raise errors.Invalid("names", "with fences machines are made singly")
        self._refuse_many(size, len(request.names))

    def _refuse_many(self, size: str, wanted: int) -> None:
        quota, room = self._settings.quota, self._settings.capacity.get(size)
        if quota is None and room is None:
            return
        live = [_checked(each.spec).size for each in self._world.live() if each.account == self._account]
        if quota is not None and len(live) + wanted > quota:
            raise errors.QuotaExceeded(f"the account may have {quota} machines")
        if room is not None and live.count(size) + wanted > room:
            raise errors.NoCapacity(f"there is no room for size {size}")

    def _shown(self, machines: Sequence[SimulatedMachine]) -> Launched:
        return tuple(each.shown(self._world.clock(), self._world.epoch) for each in machines)

    def _token(self, batch_id: str) -> tuple[str, str, str]:
        return (*self._account, batch_id)

    # --- ending -----------------------------------------------------------------------------------------------------
    def delete(self, ids: Sequence[MachineId]) -> Sequence[errors.CloudError | None]:
        return self._many("delete", ids, str, self._delete)

    def _delete(self, id: MachineId) -> None:
        machine = self._world.machines.get(id)
        if machine is not None and machine.account == self._account and machine.tags.get(CONTROLLER_TAG) == self._controller_id:
            self._world.terminate(id)

    def close(self, batch_id: str, fence: str) -> None:
        self._one("close", batch_id, lambda: self._close(batch_id))

    def _close(self, batch_id: str) -> None:
        if not self._settings.closes:
            return
        mine = (self._account, batch_id)
        self._world.fences = {fence: owner for fence, owner in self._world.fences.items() if owner != mine}
        self._world.tokens.setdefault(self._token(batch_id), (None, ()))

    # --- faults and the ledger --------------------------------------------------------------------------------------
    def _one(self, action: str, token: str, do: Callable[[], R]) -> R:
        with self._world.lock:
            entry = _Entry(next(self._world.numbers), action, token)
            return self._do(entry, self._world.take_fault(action, token), do)

    def _many(self, action: str, requests: Sequence[T], token: Callable[[T], str], do: Callable[[T], R]) -> Sequence[R | errors.CloudError]:
        """Each request for itself; a fault of the whole call meets it before the first or after the last."""
        with self._world.lock:
            number = next(self._world.numbers)
            whole = self._world.take_fault(action, "", whole=True)
            if whole is not None and not whole.after:
                self._note(_Entry(number, action), type(whole.error).__name__)
                raise whole.error
            outcomes = [self._request(_Entry(number, action, token(each)), each, do) for each in requests]
            if whole is not None:
                raise whole.error
            return outcomes

    def _request(self, entry: _Entry, request: T, do: Callable[[T], R]) -> R | errors.CloudError:
        fault = self._world.take_fault(entry.action, entry.token)
        try:
            return self._do(entry, fault, lambda: do(request))
        except errors.CloudError as error:
            return error

    def _do(self, entry: _Entry, fault: Fault | None, do: Callable[[], R]) -> R:
        if fault is not None and not fault.after:
            self._note(entry, type(fault.error).__name__)
            raise fault.error
        lost = "lost " if fault is not None else ""
        with self._refusals(entry, lost):
            result = do()
        self._note(entry, f"{lost}ok", _ids(result))
        if fault is not None:
            raise fault.error
        return result

    @contextlib.contextmanager
    def _refusals(self, entry: _Entry, lost: str) -> Generator[None]:
        try:
            yield
        except errors.CloudError as error:
            self._note(entry, f"{lost}{type(error).__name__}")
            raise

    def _note(self, entry: _Entry, outcome: str, ids: tuple[str, ...] = ()) -> None:
        self._world.ledger.append(Call(entry.number, self._world.clock(), entry.action, entry.token, ids, outcome))


def _ids(result: object) -> tuple[str, ...]:
    """The machines that an answer names; of a describe, its keys."""
    if isinstance(result, dict | list | tuple):
        return tuple(each.id if isinstance(each, Machine) else str(each) for each in result)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] -- any answer
    return ()


def _checked(spec: Mapping[str, Any]) -> SimulatedMachineFields:
    try:
        return SimulatedMachineFields.model_validate(spec)
    except ValidationError as error:
        first = error.errors()[0]
        raise errors.Invalid(".".join(map(str, first["loc"])), first["msg"]) from error


def plugin(world: World) -> CloudPlugin:
    """The kind `simulated`, all of whose Clouds show this world."""

    def open(config: CloudConfig) -> SimulatedCloud:
        return SimulatedCloud(world, SimulatedCloudFields.model_validate(config.spec), config.controller_id)

    return CloudPlugin("simulated", SimulatedCloudFields, SimulatedMachineFields, open)
