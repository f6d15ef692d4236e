"""The truth about machines, as plain data: what calls made, what lists show, what time does. For the fleet alone.

It keeps a cloud's promises (one token, one machine, ever; a closed token makes none) and commands its failings: calls that
are slow, refused, lost, not done; lists that lag.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from controller.ports import Identity, Machine, MachineId, MachineState
from tests.properties.build import NOW, seconds

NEVER = datetime.max.replace(tzinfo=NOW.tzinfo)
BOOT, WARM_UP, TERMINATING = seconds(15), seconds(5), seconds(8)
SETTLE = seconds(120)
#: What becomes of the next calls; "lost" was done and "transient" was not, and both have no answer.
Outcome = Literal["ok", "lost", "transient", "denied", "capacity", "quota", "invalid"]


@dataclass(slots=True)
class Vm:
    """One machine."""

    id: MachineId
    identity: Identity
    created: datetime
    healthy: datetime
    ending: datetime = NEVER
    ended: datetime = NEVER
    stopped: datetime = NEVER
    broken: datetime = NEVER
    sick: datetime = NEVER
    vanished: bool = False

    def lives(self, now: datetime) -> bool:
        return now < self.ended

    def serves(self, now: datetime) -> bool:
        return self.state(now) is MachineState.RUNNING and self.healthy <= now < self.sick

    def state(self, now: datetime) -> MachineState:
        stages = (
            (self.ended, MachineState.TERMINATED),
            (self.ending, MachineState.SHUTTING_DOWN),
            (self.broken, MachineState.ERROR),
            (self.stopped, MachineState.STOPPED),
            (self.created + BOOT, MachineState.RUNNING),
        )
        return next((state for since, state in stages if since <= now), MachineState.PENDING)

    def shown(self, now: datetime) -> Machine:
        state = self.state(now)
        return Machine(self.id, self.identity, "name", state, state.value, (f"10.0.0.{self.id[2:]}",), created=self.created)


@dataclass(slots=True)
class TruthCloud:
    """`lag` is for how long a new machine is invisible; `certain` whether `close` makes later launches fail."""

    lag: timedelta = timedelta(0)
    certain: bool = True
    unhealthy_next: int = 0
    vms: dict[MachineId, Vm] = field(default_factory=dict[MachineId, Vm])
    tokens: dict[str, MachineId] = field(default_factory=dict[str, MachineId])
    closed: set[str] = field(default_factory=set[str])

    def create(self, identity: Identity, now: datetime) -> Machine | None:
        """The machine of the token; None where the token is spent or closed."""
        token = identity.batch_id
        if token in self.tokens:
            vm = self.vms[self.tokens[token]]
            return vm.shown(now) if vm.state(now) not in (MachineState.TERMINATED, MachineState.SHUTTING_DOWN) else None
        if token in self.closed:
            return None
        vm = Vm(MachineId(f"m-{len(self.vms)}"), identity, now, now + BOOT + WARM_UP)
        if self.unhealthy_next > 0:
            self.unhealthy_next -= 1
            vm.healthy = NEVER
        self.vms[vm.id] = vm
        self.tokens[token] = vm.id
        assert len([each for each in self.vms.values() if each.identity == identity]) == 1
        return vm.shown(now)

    def close(self, token: str) -> None:
        if self.certain:
            self.closed.add(token)

    def terminate(self, id: MachineId, now: datetime) -> None:
        vm = self.vms.get(id)
        if vm is not None and vm.ending > now:
            vm.ending, vm.ended = now, min(vm.ended, now + TERMINATING)

    def kill(self, vm: Vm, now: datetime) -> None:
        vm.ending, vm.ended = min(vm.ending, now), min(vm.ended, now)

    def visible(self, now: datetime) -> dict[MachineId, Machine]:
        return {vm.id: vm.shown(now) for vm in self.vms.values() if vm.created + self.lag <= now and not vm.vanished}

    def live(self, now: datetime, identity: Identity | None = None) -> list[Vm]:
        return [vm for vm in self.vms.values() if vm.lives(now) and identity in (None, vm.identity)]
