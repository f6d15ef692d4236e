"""The acts that a plan for an Instance can name, and where the Instance then stands, in the words its user reads. Pure.

`plan.py` and `ending.py` put them together; the reconciler carries the acts out and `status.py` writes the stand down.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controller.api.reasons import Reason
from controller.ports import CONTROLLER_TAG, Machine, MachineId
from controller.reconcilers.instance import observed
from controller.reconcilers.instance.observed import Observed

#: Of a launch that is on its way.
LAUNCHING = "the cloud's answer is awaited"


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
    untold: bool = False  # with keep: nothing is written at all, for more is known in a moment


@dataclass(frozen=True, slots=True)
class Plan:
    actions: tuple[Action, ...]
    stand: Stand
    again: datetime | None = None


def of(machine: Machine, said: str) -> str:
    return f"{said}: {machine.message}" if machine.message else said


def not_served(namespace: str) -> str:
    """Why nothing is done about a machine whose namespace is not served now."""
    way_out = "give the rights in it back, or take it from --namespaces"
    return f"its machine may be that of an Instance in namespace {namespace}, which is not served: {way_out}"


def not_ours(machine: Machine) -> str:
    """Of one whose id is recorded and which may not be touched."""
    return f"machine {machine.id} is there, but its tag {CONTROLLER_TAG} does not name this controller: put the tag back"


def keep(o: Observed) -> Stand:
    return Stand("", Reason.RECONCILING, "", None, keep=True)


def silent() -> Stand:
    """Nothing is written at all: more is known in a moment."""
    return Stand("", Reason.RECONCILING, "", None, keep=True, untold=True)


def waiting(reason: Reason, message: str, *, launched: bool | None = None) -> Stand:
    phase = "Pending" if launched is None else "Launching"
    return Stand(phase, reason, message, launched=(False, reason, message))


def lost(reason: Reason, message: str) -> Stand:
    return Stand("Failed", reason, message, launched=(False, reason, message))


def ready(machine: Machine, message: str) -> Stand:
    return Stand("Ready", Reason.READY, message, machine, healthy=(True, Reason.HEALTHY, message))


def failing(phase: str, reason: Reason, message: str, machine: Machine) -> Stand:
    return Stand(phase, reason, message, machine, healthy=(False, reason, message))


def going(o: Observed, reason: Reason, message: str) -> Stand:
    # Its states on the way down are not written: nobody waits for them, and a fleet that goes would write each of them.
    machine = None if o.instance.status.machine is not None else next(iter(observed.machines(o)), None)
    return Stand("Ending", reason, message, machine)
