"""The status of a group from its plan. Pure: equal input, equal status."""

from __future__ import annotations

from controller.api import meta
from controller.api.group import InstanceGroup, InstanceGroupStatus
from controller.api.instance import Instance
from controller.api.reasons import Reason
from controller.reconcilers import conditions
from controller.reconcilers.conditions import Say, say
from controller.reconcilers.instancegroup.observed import Observed, met, ready, wanted
from controller.reconcilers.instancegroup.plan import Plan

#: Addresses shown in a group's status: enough to reach it, bounded whatever its size.
SHOWN = 5


def report(o: Observed, plan: Plan) -> InstanceGroupStatus:
    """What is written to the group's status."""
    live = tuple(each for each in o.instances if not each.metadata.deleting)
    up = tuple(sorted((each for each in live if ready(each)), key=lambda each: each.spec.index))
    said = (_available(o.group, len(up)), _progressing(o, plan, live), _ready(o, plan, len(up)), _scaled(o.group), *_inputs(o.stale))
    old = o.group.status
    return InstanceGroupStatus(
        observed_generation=o.group.metadata.generation,
        replicas=len(live),
        ready_replicas=len(up),
        updated_replicas=sum(1 for each in live if o.revision and each.spec.revision == o.revision),
        selector=f"{meta.GROUP_LABEL}={o.group.metadata.name}",
        dependencies_met=tuple(sorted(met(o))),
        revision=o.revision or old.revision,
        replacement=plan.replacement,
        addresses=tuple(each.status.address for each in up[:SHOWN] if each.status.address),
        reason=said[2].reason.value,
        conditions=conditions.merge(old.conditions, said, o.group.metadata.generation, o.now),
    )


def _available(group: InstanceGroup, up: int) -> Say:
    """Ready Instances ≥ scaling.min, else ≥ replicas; 0 wanted is Available (design section 3)."""
    want = wanted(group)
    least = min(want, group.spec.scaling.min) if group.spec.scaling else want
    if least == 0:
        return say(
            "Available", True, Reason.NOTHING_WANTED if want == 0 else Reason.AVAILABLE, f"{up} of {want} machines Ready, none needed"
        )
    if up >= least:
        return say("Available", True, Reason.AVAILABLE, f"at least {least} machines Ready")
    return say("Available", False, Reason.UNHEALTHY, f"{up} of {least} machines Ready that are needed")


def _progressing(o: Observed, plan: Plan, live: tuple[Instance, ...]) -> Say:
    if plan.progress is not None:
        return say("Progressing", True, plan.progress.reason, plan.progress.message)
    older = sum(1 for each in live if o.revision and each.spec.revision != o.revision)
    if older:
        return say(
            "Progressing", False, Reason.REVISION_CHANGED, f"{older} of {len(live)} machines are of an older revision of the template"
        )
    return say("Progressing", False, Reason.CONVERGED, "nothing is left to do")


def _ready(o: Observed, plan: Plan, up: int) -> Say:
    want = wanted(o.group)
    if plan.progress is not None:
        return say("Ready", False, plan.progress.reason, plan.progress.message)
    if up < want:
        return say("Ready", False, Reason.UNHEALTHY, f"{up} of {want} machines Ready")
    return say("Ready", True, Reason.READY, f"{up} of {want} machines Ready")


def _inputs(stale: frozenset[str] | None) -> tuple[Say, ...]:
    """Nothing where it is not known what machines would be told now: then what was said stays."""
    if stale is None:
        return ()
    if not stale:
        return (say("InputsCurrent", True, Reason.INPUTS_CURRENT, "what running machines were told is still so"),)
    first = sorted(stale)[:5]
    more = f" and {len(stale) - len(first)} more" if len(stale) > len(first) else ""
    return (say("InputsCurrent", False, Reason.INPUT_CHANGED, f"what {', '.join(first)}{more} were told has changed since"),)


def _scaled(group: InstanceGroup) -> Say:
    want = wanted(group)
    if want == group.spec.replicas:
        return say("Scaled", True, Reason.WITHIN_BOUNDS, f"{want} wanted")
    return say("Scaled", False, Reason.CLAMPED, f"replicas is {group.spec.replicas}; scaling allows {want}")
