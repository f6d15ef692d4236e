"""What is right and wrong about the graph of an Infrastructure, and in which order its parts go. Pure.

The Infrastructure's plan calls `problems` before it makes anything and `may_go` when it removes; the Instance's plan asks
`may_go` too. References that CEL cannot see (cycles, templates, clouds) are judged here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from controller.api.infrastructure import InfrastructureSpec, Service
from controller.api.reasons import Reason

#: Service → the services it depends on.
Edges = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the description; while there is one nothing is created."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """What planning needs to know of an InstanceTemplate: what it cannot do without, what it defines, its implementations' clouds."""

    reads_services: frozenset[str] = frozenset()
    reads_variables: frozenset[str] = frozenset()
    defines_variables: frozenset[str] = frozenset()
    clouds: tuple[tuple[str, str], ...] = ()  # (Cloud's name, kind of the implementation's arm)
    problem: Problem | None = None


def edges(services: Iterable[Service]) -> Edges:
    return {service.name: frozenset(each.service for each in service.depends_on) for service in services}


def problems(spec: InfrastructureSpec, templates: Mapping[str, TemplateFacts], clouds: Mapping[str, str]) -> tuple[Problem, ...]:
    """All that is wrong, in a stable order. `templates` and `clouds` (name → kind of arm) hold what exists."""
    found = [*_unknown_services(spec), *_cycle(spec)]
    for service in sorted(spec.services, key=lambda each: each.name):
        found += _service_problems(spec, service, templates, clouds)
    return tuple(dict.fromkeys(found))


def may_go(service: str, recorded: Edges) -> bool:
    """Whether nothing that depends on the service is left, by the edges as recorded in the groups that still exist.

    Services in a ring have no order among them: a ring goes at once (design section 4).
    """
    return not blockers(service, recorded)


def blockers(service: str, recorded: Edges) -> tuple[str, ...]:
    """The services that have to go before this one, those of its own ring left out."""
    own = _reachable(service, recorded)
    return tuple(sorted(other for other, needs in recorded.items() if service in needs and other != service and other not in own))


def _reachable(start: str, recorded: Edges) -> set[str]:
    seen: set[str] = set()
    todo = list(recorded.get(start, ()))
    while todo:
        each = todo.pop()
        if each not in seen:
            seen.add(each)
            todo += recorded.get(each, ())
    return seen


def _unknown_services(spec: InfrastructureSpec) -> list[Problem]:
    names = {service.name for service in spec.services}
    return [
        Problem(Reason.UNKNOWN_SERVICE, f"service {service.name} depends on {each.service}, which is not in services")
        for service in sorted(spec.services, key=lambda each: each.name)
        for each in sorted(service.depends_on, key=lambda each: each.service)
        if each.service not in names
    ]


def _cycle(spec: InfrastructureSpec) -> list[Problem]:
    graph = {name: sorted(needs) for name, needs in sorted(edges(spec.services).items())}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        ring: list[str] = list(reversed(error.args[1]))[:-1]
        at = ring.index(min(ring))
        path = [*ring[at:], *ring[:at], ring[at]]
        return [Problem(Reason.CYCLE, "services depend on each other in a ring: " + " → ".join(path))]
    return []


def _service_problems(
    spec: InfrastructureSpec, service: Service, templates: Mapping[str, TemplateFacts], clouds: Mapping[str, str]
) -> list[Problem]:
    name = service.template_ref.name
    template = templates.get(name)
    if template is None:
        return [Problem(Reason.TEMPLATE_NOT_FOUND, f"service {service.name}: there is no InstanceTemplate {name}")]
    if template.problem is not None:
        return [template.problem]
    needs = {each.service for each in service.depends_on}
    known = template.defines_variables | {each.name for each in (*spec.variables, *service.variables)}
    found = [
        Problem(
            Reason.UNDECLARED_DEPENDENCY,
            f"service {service.name}: InstanceTemplate {name} reads services.{each}, which is not in dependsOn of {service.name}",
        )
        for each in sorted(template.reads_services - needs)
    ]
    found += [
        Problem(Reason.UNKNOWN_VARIABLE, f"service {service.name}: InstanceTemplate {name} reads variables.{each}, which nobody defines")
        for each in sorted(template.reads_variables - known)
    ]
    return found + [problem for each in template.clouds for problem in _cloud_problem(name, each, clouds)]


def _cloud_problem(template: str, wanted: tuple[str, str], clouds: Mapping[str, str]) -> list[Problem]:
    cloud, kind = wanted
    if cloud not in clouds:
        return [Problem(Reason.CLOUD_NOT_FOUND, f"InstanceTemplate {template}: there is no Cloud {cloud}")]
    if clouds[cloud] != kind:
        return [
            Problem(
                Reason.CLOUD_INVALID,
                f"InstanceTemplate {template}: the implementation's fields are for {kind}, Cloud {cloud} is {clouds[cloud]}",
            )
        ]
    return []
