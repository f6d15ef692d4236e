"""From the graph to its groups: make, change and remove them, against the edges when they go. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from controller.api import meta
from controller.api.group import InfrastructureIdentity, InstanceGroup, InstanceGroupSpec
from controller.api.infrastructure import Infrastructure, Service
from controller.api.meta import Variable
from controller.api.reasons import Reason
from controller.reconcilers import graph
from controller.reconcilers.graph import Problem, TemplateFacts
from controller.reconcilers.instancegroup.observed import wanted


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known of one Infrastructure.

    `groups` are its own, `orphans` groups of its names that nobody owns (`--cascade=orphan` leaves them), `taken` names of
    groups that it wants and others hold, `id_taken` the Infrastructure that has its
    spec.id, `machines` how many unclaimed machines of its identity exist per service, `unseen` why of some Clouds it is
    not known yet which machines they have. `orphaning` says that it was seen to be deleted with `--cascade=orphan`.
    """

    infrastructure: Infrastructure
    groups: tuple[InstanceGroup, ...] = ()
    orphans: tuple[InstanceGroup, ...] = ()
    taken: frozenset[str] = frozenset()
    id_taken: str = ""
    templates: Mapping[str, TemplateFacts] = field(default_factory=dict[str, TemplateFacts])
    clouds: Mapping[str, str] = field(default_factory=dict[str, str])
    machines: Mapping[str, int] = field(default_factory=dict[str, int])
    unseen: Mapping[str, str] = field(default_factory=dict[str, str])
    orphaning: bool = False


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    pass


@dataclass(frozen=True, slots=True)
class CreateGroup:
    name: str
    spec: InstanceGroupSpec


@dataclass(frozen=True, slots=True)
class FreeGroup:
    """Take our name off a group that is to outlive the Infrastructure."""

    name: str


@dataclass(frozen=True, slots=True)
class AdoptGroup:
    """Own a group that nobody owns, whose machines have our identity in their tags."""

    name: str


@dataclass(frozen=True, slots=True)
class UpdateGroup:
    name: str
    spec: InstanceGroupSpec


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    name: str


@dataclass(frozen=True, slots=True)
class Release:
    """Let the Infrastructure go, if a live list shows none of its groups."""


Action = AddFinalizer | CreateGroup | FreeGroup | AdoptGroup | UpdateGroup | DeleteGroup | Release


@dataclass(frozen=True, slots=True)
class Plan:
    """`waits` says of each group that is to go which services go first, `unseen` of each that is to be made for which Cloud it waits."""

    actions: tuple[Action, ...] = ()
    problems: tuple[Problem, ...] = ()
    waits: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    unseen: Mapping[str, str] = field(default_factory=dict[str, str])


def plan(o: Observed) -> Plan:
    """The acts that are due for the Infrastructure, all of which may run at once."""
    if o.infrastructure.metadata.deleting:
        return _ending(o)
    if meta.FINALIZER not in o.infrastructure.metadata.finalizers:
        return Plan((AddFinalizer(),))
    problems = (*_taken(o), *graph.problems(o.infrastructure.spec, o.templates, o.clouds))
    if problems:
        return Plan(_paused(o), problems=problems)
    if o.orphans:
        return Plan(tuple(AdoptGroup(each.metadata.name) for each in o.orphans))
    return _steady(o)


def group_name(infrastructure: str, service: str) -> str:
    return f"{infrastructure}-{service}"


def recorded_edges(groups: tuple[InstanceGroup, ...], bare: Set[str] = frozenset()) -> graph.Edges:
    """The edges of the last accepted graph, from the groups that still exist.

    Of services that are `bare`, without an Instance, those alone whose dependency was met: while another one goes, they make nothing.
    """

    def needs(group: InstanceGroup) -> frozenset[str]:
        services = frozenset(each.service for each in group.spec.depends_on)
        return services & frozenset(group.status.dependencies_met) if group.spec.service in bare else services

    return {each.spec.service: needs(each) for each in groups}


def _steady(o: Observed) -> Plan:
    if o.infrastructure.spec.paused:
        return Plan(_paused(o))
    have = {each.spec.service: each for each in o.groups}
    going = {each.spec.service for each in o.groups if each.metadata.deleting}
    actions: list[Action] = []
    unseen: dict[str, str] = {}
    for service in o.infrastructure.spec.services:
        group = have.get(service.name)
        if group is None:
            if going & {needs.service for needs in service.depends_on}:
                continue  # a new one would keep what it depends on from going
            if waits := _unseen(o, service):
                unseen[service.name] = waits
                continue
            actions.append(CreateGroup(group_name(o.infrastructure.metadata.name, service.name), _new(o, service)))
        elif not group.metadata.deleting and (spec := _changed(o, service, group, going)) != group.spec:
            actions.append(UpdateGroup(group.metadata.name, spec))
    services = {service.name for service in o.infrastructure.spec.services}
    removals, waits = _remove(tuple(each for each in o.groups if each.spec.service not in services), o.groups)
    return Plan((*actions, *removals), waits=waits, unseen=unseen)


def _paused(o: Observed) -> tuple[Action, ...]:
    """Let the groups be paused, or not, as the description is: nothing else of it is needed for that."""
    paused = o.infrastructure.spec.paused
    differ = (each for each in o.groups if each.spec.paused != paused)
    return tuple(UpdateGroup(each.metadata.name, each.spec.model_copy(update={"paused": paused})) for each in differ)


def _unseen(o: Observed, service: Service) -> str:
    """Why a Cloud may have machines of the service (a restore) that its number has to count, and that nobody has seen yet."""
    if service.replicas is not None:
        return ""
    return next((o.unseen[name] for name, _ in o.templates[service.template_ref.name].clouds if name in o.unseen), "")


def _new(o: Observed, service: Service) -> InstanceGroupSpec:
    """A new group; where its machines exist already (a restore) it starts with at least their number."""
    first = max(service.initial_replicas(), 0 if service.replicas is not None else o.machines.get(service.name, 0))
    return _spec(o, service, first)


def _changed(o: Observed, service: Service, group: InstanceGroup, going: set[str]) -> InstanceGroupSpec:
    """The group's number is its own unless the service names one (design section 3).

    One that goes, and is to come again, is depended on when it has gone: a new edge to it would keep it from going.
    """
    spec = _spec(o, service, group.spec.replicas if service.replicas is None else service.replicas)
    later = going - {each.service for each in group.spec.depends_on}
    edges = tuple(each for each in spec.depends_on if each.service not in later)
    if edges == spec.depends_on:
        return spec
    # Without the edge nothing would be made after it: what is made, and more than there is, is changed with it.
    kept = group.spec.model_copy(update={"depends_on": edges, "paused": spec.paused})
    fewer = kept.model_copy(update={"replicas": spec.replicas, "fixed_replicas": spec.fixed_replicas, "scaling": spec.scaling})
    number, now = (wanted(group.model_copy(update={"spec": each})) for each in (fewer, kept))
    return fewer if number < now else kept


def _spec(o: Observed, service: Service, replicas: int) -> InstanceGroupSpec:
    return InstanceGroupSpec(
        infrastructure=InfrastructureIdentity(name=o.infrastructure.metadata.name, id=o.infrastructure.identity),
        service=service.name,
        replicas=replicas,
        fixed_replicas=service.replicas,
        scaling=service.scaling,
        template_ref=service.template_ref,
        depends_on=service.depends_on,
        variables=merged(service.variables, o.infrastructure.spec.variables),
        paused=o.infrastructure.spec.paused,
    )


def merged(*layers: tuple[Variable, ...]) -> tuple[Variable, ...]:
    """Variables by name, later layers over earlier ones, sorted."""
    by_name = {each.name: each for layer in layers for each in layer}
    return tuple(by_name[name] for name in sorted(by_name))


def _ending(o: Observed) -> Plan:
    if meta.ORPHAN in o.infrastructure.metadata.finalizers:
        # `--cascade=orphan`: Kubernetes' garbage collector takes our name off the groups first; then none is left here.
        return Plan()
    if not o.groups:
        return Plan((Release(),))
    if o.orphaning:
        # The collector lets go of those that it knows; of one made a moment ago it may not have heard.
        return Plan(tuple(FreeGroup(each.metadata.name) for each in o.groups))
    removals, waits = _remove(o.groups, o.groups)
    return Plan(removals, waits=waits)


def _remove(
    going: tuple[InstanceGroup, ...], all_groups: tuple[InstanceGroup, ...]
) -> tuple[tuple[Action, ...], Mapping[str, tuple[str, ...]]]:
    """Which groups are deleted now: those that no group that still exists depends on."""
    recorded = recorded_edges(all_groups)
    waits = {each.spec.service: graph.blockers(each.spec.service, recorded) for each in going}
    due = tuple(DeleteGroup(each.metadata.name) for each in going if not waits[each.spec.service] and not each.metadata.deleting)
    return due, {service: first for service, first in sorted(waits.items()) if first}


def _taken(o: Observed) -> tuple[Problem, ...]:
    found = [Problem(Reason.NAME_TAKEN, f"the group {name} belongs to another Infrastructure") for name in sorted(o.taken)]
    for each in o.orphans:
        if each.spec.infrastructure.id != o.infrastructure.identity:
            left = f"the group {each.metadata.name} was left by an Infrastructure of another identity"
            found.append(Problem(Reason.NAME_TAKEN, f"{left}: with spec.id {each.spec.infrastructure.id} it is taken over"))
    if o.id_taken:
        found.append(Problem(Reason.ID_TAKEN, f"Infrastructure {o.id_taken} has the same spec.id"))
    return tuple(found)
