"""What is known of an Instance, for the tests of its plan."""

from __future__ import annotations

from typing import Any

from controller.api.instance import InstanceStatus
from controller.api.meta import condition
from controller.ports import MachineState
from controller.reconcilers.instance import status
from controller.reconcilers.instance.observed import Acts, CloudView, Observed, Sight
from controller.reconcilers.instance.plan import plan
from tests.properties.build import NOW, instance, launched, machine, seconds

WELL = CloudView(exists=True, ready=True)
LISTED = Sight(listed=NOW)
#: Its machine is recorded.
BOUND = launched(machine="m-0")
CLOSED = Acts(closed=NOW)


def observed(status: InstanceStatus | None = None, **more: Any) -> Observed:
    """An Instance on a cloud that is well and was listed, one minute after the beginning."""
    metadata = more.pop("metadata", {})
    fields: dict[str, Any] = {"instance": instance(status=status, **metadata), "now": NOW + seconds(60), "cloud": WELL, "sight": LISTED}
    return Observed(**(fields | more))


def sees(state: MachineState, id: str = "m-0") -> Sight:
    return Sight(listed=NOW, machines=(machine(id, state),))


def ending(status: InstanceStatus | None = None, **more: Any) -> Observed:
    annotations = more.pop("annotations", {})
    return observed(status, metadata={"deleting": True, "annotations": annotations}, **more)


def said(o: Observed) -> str:
    """What the Ready condition says after this pass."""
    found = condition(status.report(o.instance, plan(o).stand, o.now).conditions, "Ready")
    return found.reason if found is not None else ""
