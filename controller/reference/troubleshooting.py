"""The page of the reasons: what each means, what to do, and where it can stand."""

from __future__ import annotations

import inspect

from controller.api import reasons
from controller.api.reasons import HELP, Reason
from controller.reference.tables import table

#: Whose conditions a reason can stand in. What is in none of these stands in events alone.
CONDITIONS: dict[str, frozenset[Reason]] = {
    "Instance": frozenset(
        {
            *(Reason.READY, Reason.LAUNCHED, Reason.HEALTHY, Reason.SCALING, Reason.WAITING_FOR_LAUNCH, Reason.LAUNCHING),
            *(Reason.BOOTING, Reason.STARTING, Reason.TERMINATING, Reason.PAUSED, Reason.WAITING_FOR_DEPENDENTS),
            *(Reason.WAITING_FOR_CLOUD, Reason.WAITING_FOR_GROUP, Reason.LIMIT_REACHED, Reason.FROZEN, Reason.PROBE_FAILED),
            *(Reason.STARTUP_TIMEOUT, Reason.MACHINE_ENDED, Reason.MACHINE_STOPPED, Reason.MACHINE_MISSING, Reason.MACHINE_ERROR),
            *(Reason.MACHINE_UNKNOWN, Reason.DUPLICATE_MACHINE, Reason.LAUNCH_LOST, Reason.NO_CAPACITY, Reason.QUOTA_EXCEEDED),
            *(Reason.THROTTLED, Reason.DENIED, Reason.CLOUD_INVALID, Reason.CLOUD_UNREACHABLE, Reason.CLOUD_NOT_FOUND),
            *(Reason.TEMPLATE_NOT_FOUND, Reason.TEMPLATE_INVALID, Reason.USER_DATA_TOO_LARGE, Reason.SECRET_NOT_FOUND),
            Reason.RENDERER_FAILED,
        }
    ),
    "InstanceGroup": frozenset(
        {
            *(Reason.READY, Reason.AVAILABLE, Reason.CONVERGED, Reason.INPUTS_CURRENT, Reason.WITHIN_BOUNDS, Reason.NOTHING_WANTED),
            *(Reason.RECONCILING, Reason.SCALING, Reason.TERMINATING, Reason.PAUSED, Reason.WAITING_FOR_DEPENDENCIES),
            *(Reason.WAITING_FOR_DEPENDENTS, Reason.WAITING_FOR_MACHINES, Reason.WAITING_FOR_CLOUD, Reason.NO_ADDRESS, Reason.BACK_OFF),
            *(Reason.BRAKED, Reason.UNCLAIMED, Reason.FROZEN, Reason.DUPLICATE_MACHINE, Reason.UNHEALTHY, Reason.CLOUD_INVALID),
            *(Reason.CLOUD_NOT_FOUND, Reason.TEMPLATE_NOT_FOUND, Reason.TEMPLATE_INVALID, Reason.USER_DATA_TOO_LARGE),
            *(Reason.INPUTS_TOO_LARGE, Reason.CONFIG_MAP_NOT_FOUND, Reason.REVISION_CHANGED, Reason.INPUT_CHANGED, Reason.CLAMPED),
            *(Reason.RENDERER_FAILED, Reason.LIMIT_REACHED, Reason.OWNER_MISSING),
        }
    ),
    "Infrastructure": frozenset(
        {
            *(Reason.READY, Reason.CONVERGED, Reason.RECONCILING, Reason.TERMINATING, Reason.PAUSED, Reason.UNKNOWN_SERVICE),
            *(Reason.CYCLE, Reason.TEMPLATE_NOT_FOUND, Reason.UNDECLARED_DEPENDENCY, Reason.UNKNOWN_VARIABLE, Reason.TEMPLATE_INVALID),
            *(Reason.CONFIG_MAP_NOT_FOUND, Reason.CLOUD_NOT_FOUND, Reason.CLOUD_INVALID, Reason.NAME_TAKEN, Reason.ID_TAKEN),
        }
    ),
    "Cloud": frozenset(
        {
            *(Reason.READY, Reason.RECONCILING, Reason.TERMINATING, Reason.DENIED, Reason.THROTTLED, Reason.CLOUD_INVALID),
            *(Reason.CLOUD_UNREACHABLE, Reason.ACCOUNT_CHANGED, Reason.CONTROLLER_CHANGED, Reason.UNKNOWN_KIND, Reason.SECRET_NOT_FOUND),
        }
    ),
}
#: Reasons that stand in events alone, and of which kind of object.
EVENTS: dict[str, frozenset[Reason]] = {
    "Instance": frozenset(
        {Reason.OWNER_MISSING, Reason.ABANDONED, Reason.DUPLICATE_MACHINE, Reason.REJECTED, Reason.FORBIDDEN, Reason.DEFECT}
    ),
    "InstanceGroup": frozenset(
        {
            Reason.CREATED,
            Reason.DELETED,
            Reason.CLAIMED,
            Reason.SCALED_IN,
            Reason.SCALE_IN_REFUSED,
            Reason.BATCH_BROKEN,
            Reason.REVISION_CHANGED,
            Reason.INPUT_CHANGED,
            Reason.REJECTED,
            Reason.FORBIDDEN,
            Reason.DEFECT,
        }
    ),
    "Infrastructure": frozenset({Reason.CLAIMED, Reason.CREATED, Reason.DELETED, Reason.REJECTED, Reason.FORBIDDEN, Reason.DEFECT}),
    "Cloud": frozenset({Reason.UNCLAIMED, Reason.REJECTED, Reason.FORBIDDEN, Reason.DEFECT}),
}


def groups() -> list[tuple[str, list[Reason]]]:
    """The reasons under the headings that stand as comments in their list."""
    found: list[tuple[str, list[Reason]]] = []
    for line in inspect.getsource(reasons.Reason).splitlines():
        text = line.strip()
        if text.startswith("# "):
            found.append((text.removeprefix("# ").removesuffix("."), []))
        elif (name := text.partition(" = ")[0]) in Reason.__members__:
            found[-1][1].append(Reason[name])
    return found


def where(reason: Reason) -> str:
    """In whose conditions and events a reason can stand; empty where the controller does not use it."""
    places = [kind for kind, each in CONDITIONS.items() if reason in each]
    events = [kind for kind, each in EVENTS.items() if reason in each]
    said = [f"conditions of {', '.join(places)}"] if places else []
    return "; ".join([*said, *([f"events of {', '.join(events)}"] if events else [])])


def page() -> str:
    """`troubleshooting.md`."""
    parts = [
        "# Troubleshooting by reason\n",
        "Every condition, event, line of `occopus status` and label of a metric uses one of these words. To see them:\n",
        "```sh\noccopus status                  # why not, per service and machine\noccopus get instance NAME       # "
        "all conditions of one machine\noccopus get event               # what has changed\noccopus console INSTANCE        # what "
        "the machine itself printed\n```\n",
        "A change of Ready is an event of that object too, and a group's event says for which reason an Instance is deleted.\n\n"
        "Nothing fails for good: whatever is wrong is tried again, with back-off, until it is right or deleted.\n",
        *("## Where it stands\n", table(("Word", "What it means"), ((f"**{word}**", means) for word, means in reasons.PHASES.items()))),
    ]
    for heading, members in groups():
        rows = ((f"**{each.value}**", HELP[each][0], HELP[each][1], where(each) or "not in use") for each in members)
        parts += [f"## {heading}\n", table(("Reason", "What it means", "What to do", "Where it stands"), rows)]
    return "\n".join(parts)


__all__ = ["CONDITIONS", "EVENTS", "groups", "page", "where"]
