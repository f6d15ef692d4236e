"""What is known of one group, and what follows from it about its Instances. Pure.

`gather.py` puts it together, the plan (`plan.py`, `replacing.py`) decides by it. It knows neither acts nor the engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controller.api import meta
from controller.api.group import InstanceGroup
from controller.api.instance import Instance
from controller.api.meta import condition
from controller.api.reasons import Reason
from controller.ports import Identity, Machine
from controller.reconcilers.instance.observed import BURNT

#: Reasons of an Instance's Ready condition at which it is replaced.
FAILED = BURNT | {
    Reason.STARTUP_TIMEOUT,
    Reason.MACHINE_ENDED,
    Reason.MACHINE_STOPPED,
    Reason.MACHINE_MISSING,
    Reason.MACHINE_ERROR,
    Reason.PROBE_FAILED,
}
#: Of these the machine is certainly gone, so replacing it takes nothing away: the 20 % brake does not count it.
ENDED = BURNT | {Reason.MACHINE_ENDED}


@dataclass(frozen=True, slots=True)
class Hold:
    """Why no Instance is made now."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """A machine with this group's infrastructure and service in its tags, that no Instance claims.

    `sure` once it is old enough and was missed twice against live lists (rule 7): then it is claimed. `clouds` are the Clouds of its
    account that implementations of the template name; there may be none. `stranger` is the identity in its tags where that is not
    this Infrastructure's.
    """

    machine: Machine
    clouds: tuple[str, ...]
    sure: bool = False
    stranger: str = ""


@dataclass(frozen=True, slots=True)
class Dependency:
    """A service depended on: whether it is Available, else why not."""

    service: str
    available: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known of one group.

    `hold` is what the gatherer found that forbids creation (no template, no address to tell, …); `revision` the newest
    revision; `stale` names Instances whose inputs are no longer so, None: nobody knows; `overtaken` those of the newest revision whose
    variables are not, `stranded` those whose Cloud is being deleted. `in_doubt` says why nothing may be destroyed.
    `blockers` are the services that have to go first while the group is deleted; `orphaned` says that its Infrastructure is gone,
    `orphaning` that it was seen to be deleted with `--cascade=orphan`.
    `most` is how many alike machines one call may make, `room` how many more the Cloud may have, `launched` the batches of
    which any machine is listed; `another` that new ones would be of one that was not refused lately. `narrow` is the implementation
    that new Instances would be of, if its Cloud had no room lately for as many as were asked for; `full` are all that had none for one.
    `unjudged` names those that failed of which this process has not seen yet whether what is said of them is still so.
    """

    group: InstanceGroup
    instances: tuple[Instance, ...]
    now: datetime
    hold: Hold | None = None
    dependencies: tuple[Dependency, ...] = ()
    revision: str = ""
    stale: frozenset[str] | None = frozenset()
    overtaken: frozenset[str] = frozenset()
    stranded: frozenset[str] = frozenset()
    unclaimed: tuple[Unclaimed, ...] = ()
    duplicates: tuple[Identity, ...] = ()
    blockers: tuple[str, ...] = ()
    orphaned: bool = False
    orphaning: bool = False
    in_doubt: str = ""
    most: int = 1
    room: int = 0
    launched: frozenset[str] = frozenset()
    another: bool = False
    narrow: str = ""
    full: frozenset[str] = frozenset()
    unjudged: frozenset[str] = frozenset()

    def tries_narrow(self, instance: Instance) -> bool:
        """Whether its machine is still to come from the narrow implementation, or was refused by it."""
        return instance.spec.implementation.name == self.narrow and instance.status.machine is None


def wanted(group: InstanceGroup) -> int:
    """replicas within the bounds of scaling."""
    scaling = group.spec.scaling
    if scaling is None:
        return group.spec.replicas
    most = group.spec.replicas if scaling.max is None else min(group.spec.replicas, scaling.max)
    return max(most, scaling.min)


def met(o: Observed) -> frozenset[str]:
    """The dependencies that hold nothing back any more: latched, so that a flapping one never freezes its dependents.

    Those that are new, at first all, are met together.
    """
    services = frozenset(each.service for each in o.dependencies)
    kept = services & frozenset(o.group.status.dependencies_met)
    return services if all(each.available for each in o.dependencies if each.service not in kept) else kept


def unmet(o: Observed) -> tuple[Dependency, ...]:
    """The dependencies for which no machine is made yet."""
    kept = met(o)
    return tuple(each for each in o.dependencies if each.service not in kept)


def failed(instance: Instance) -> Reason | None:
    """The reason for which an Instance is to be replaced, if it is."""
    said = condition(instance.status.conditions, "Ready")
    if said is None or said.status != "False":
        return None
    return next((reason for reason in FAILED if reason.value == said.reason), None)


def may_be_well(o: Observed, instance: Instance) -> bool:
    """Whether it failed by what an earlier process said, or one that saw nothing, and may run well by now."""
    return instance.metadata.name in o.unjudged and failed(instance) not in ENDED


def ready(instance: Instance) -> bool:
    return not instance.metadata.deleting and meta.is_true(instance.status.conditions, "Ready")


def why(instance: Instance) -> tuple[Reason, str]:
    """What its Ready condition says, for the messages of its group."""
    said = condition(instance.status.conditions, "Ready")
    if said is None:
        return Reason.WAITING_FOR_LAUNCH, ""
    return Reason(said.reason), f"{said.reason}: {said.message}"
