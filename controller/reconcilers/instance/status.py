"""The status of an Instance from where it stands. Pure: equal input, equal status, so an unchanged world is not written."""

from __future__ import annotations

from datetime import datetime

from controller.api.instance import ADDRESSES, Instance, InstanceStatus, Launch, MachineStatus
from controller.api.reasons import Reason
from controller.ports import Machine
from controller.reconcilers import conditions
from controller.reconcilers.instance import steps
from controller.reconcilers.instance.steps import LAUNCHING, Stand


def report(instance: Instance, stand: Stand, now: datetime) -> InstanceStatus:
    """What is written to status; the launch is left as it is: the launcher writes it, once.

    Of a batch's later member it is its first one's.
    """
    old = instance.status
    if stand.keep:
        changed = {} if stand.machine is None else {"machine": _machine(stand.machine, old.machine), "address": _address(stand.machine)}
        return old.model_copy(update={**changed, "observed_generation": instance.metadata.generation})
    ready = stand.reason is Reason.READY
    said = [conditions.say("Ready", ready, stand.reason, stand.message)]
    if stand.machine is not None:
        said.append(conditions.say("Launched", True, Reason.LAUNCHED, f"machine {stand.machine.id}"))
    elif stand.launched is not None:
        said.append(conditions.say("Launched", *stand.launched))
    if stand.healthy is not None:
        said.append(conditions.say("Healthy", *stand.healthy))
    machine = old.machine if stand.machine is None else _machine(stand.machine, old.machine)
    return InstanceStatus(
        observed_generation=instance.metadata.generation,
        phase=stand.phase,
        launch=old.launch,
        machine=machine
        if stand.reason is not Reason.MACHINE_MISSING or machine is None
        else machine.model_copy(update={"state": "missing"}),
        address=old.address if stand.machine is None else _address(stand.machine),
        ready_time=old.ready_time or (now.replace(microsecond=0) if ready else None),
        conditions=conditions.merge(old.conditions, tuple(said), instance.metadata.generation, now),
    )


def sent(instance: Instance, launch: Launch, now: datetime) -> InstanceStatus:
    """What is written as the intent, before the launch is sent: the record, and in the same write what the user reads of it."""
    recorded = instance.model_copy(update={"status": instance.status.model_copy(update={"launch": launch})})
    return report(recorded, steps.waiting(Reason.LAUNCHING, LAUNCHING, launched=False), now)


def _machine(machine: Machine, old: MachineStatus | None) -> MachineStatus:
    """As the cloud shows it. Of an ended machine clouds forget the addresses; the last known ones stay readable."""
    private, public = machine.private_addresses, machine.public_addresses
    if old is not None and old.id == machine.id and not private and not public:
        private, public = old.private_addresses, old.public_addresses
    return MachineStatus(
        id=machine.id,
        state=machine.state.value,
        private_addresses=private[:ADDRESSES],
        public_addresses=public[:ADDRESSES],
    )


def _address(machine: Machine) -> str:
    return next(iter((*machine.private_addresses, *machine.public_addresses)), "")
