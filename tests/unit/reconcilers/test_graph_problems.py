"""What is wrong with a description, in the words its user reads, and the status that says so."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from controller.api.group import InstanceGroup
from controller.api.infrastructure import Infrastructure, InfrastructureSpec
from controller.api.meta import LocalReference, Variable, condition
from controller.api.reasons import Reason
from controller.reconcilers import graph
from controller.reconcilers.graph import Problem, TemplateFacts
from controller.reconcilers.infrastructure import status
from controller.reconcilers.infrastructure.plan import AddFinalizer, AdoptGroup, CreateGroup, Observed, Plan, UpdateGroup, plan
from tests.properties import build
from tests.properties.build import NOW, group, infrastructure, service

CLOUDS = {"sim": "simulated", "aws": "ec2"}


def facts(**more: object) -> dict[str, TemplateFacts]:
    return {"template": replace(TemplateFacts(clouds=(("sim", "simulated"),)), **more)}  # pyright: ignore[reportArgumentType]


def names(*each: str) -> frozenset[str]:
    return frozenset(each)


BARE = LocalReference(name="bare")
PAIR = InfrastructureSpec(services=(service("db"), service("app", "db")))


@pytest.mark.parametrize(
    ("spec", "templates", "reason", "told"),
    [
        pytest.param(
            InfrastructureSpec(services=(service("a", "b"),)), facts(), Reason.UNKNOWN_SERVICE, "a depends on b", id="unknown service"
        ),
        pytest.param(
            InfrastructureSpec(services=(service("c", "a"), service("a", "b"), service("b", "c"))),
            facts(),
            Reason.CYCLE,
            "a → b → c → a",
            id="ring",
        ),
        pytest.param(InfrastructureSpec(services=(service("a", "a"),)), facts(), Reason.CYCLE, "a → a", id="of itself"),
        pytest.param(PAIR, {}, Reason.TEMPLATE_NOT_FOUND, "no InstanceTemplate template", id="no template"),
        pytest.param(
            PAIR, facts(problem=Problem(Reason.TEMPLATE_INVALID, "line 3")), Reason.TEMPLATE_INVALID, "line 3", id="template is wrong"
        ),
        pytest.param(
            PAIR, facts(reads_services=names("cache")), Reason.UNDECLARED_DEPENDENCY, "reads services.cache", id="reads what it may not"
        ),
        pytest.param(PAIR, facts(reads_variables=names("x")), Reason.UNKNOWN_VARIABLE, "reads variables.x", id="nobody defines it"),
        pytest.param(PAIR, facts(clouds=(("none", "simulated"),)), Reason.CLOUD_NOT_FOUND, "no Cloud none", id="no Cloud"),
        pytest.param(PAIR, facts(clouds=(("aws", "simulated"),)), Reason.CLOUD_INVALID, "Cloud aws is ec2", id="Cloud of another kind"),
    ],
)
def test_problems(spec: InfrastructureSpec, templates: dict[str, TemplateFacts], reason: Reason, told: str) -> None:
    found = graph.problems(spec, templates, CLOUDS)
    assert reason in {each.reason for each in found}
    assert any(told in each.message for each in found), found


@pytest.mark.parametrize(
    ("spec", "templates"),
    [
        pytest.param(PAIR, facts(), id="plain"),
        pytest.param(InfrastructureSpec(services=()), {}, id="empty"),
        pytest.param(PAIR, facts(reads_variables=names("x"), defines_variables=names("x")), id="defined by the template"),
        pytest.param(
            PAIR.model_copy(update={"variables": (Variable(name="x", value="1"),)}),
            facts(reads_variables=names("x")),
            id="by the infrastructure",
        ),
        pytest.param(
            InfrastructureSpec(services=(service("a").model_copy(update={"variables": (Variable(name="x", value="1"),)}),)),
            facts(reads_variables=names("x")),
            id="by the service",
        ),
        pytest.param(
            InfrastructureSpec(services=(service("app", "db"), service("db").model_copy(update={"template_ref": BARE}))),
            facts(reads_services=names("db")) | {"bare": TemplateFacts()},
            id="reads what it depends on",
        ),
    ],
)
def test_no_problem(spec: InfrastructureSpec, templates: dict[str, TemplateFacts]) -> None:
    assert graph.problems(spec, templates, CLOUDS) == ()


def observed(infra: Infrastructure, **more: object) -> Observed:
    return replace(Observed(infra, templates=facts(), clouds=CLOUDS), **more)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("o", "reason"),
    [
        pytest.param(observed(infrastructure(service("a")), taken=names("shop-a")), Reason.NAME_TAKEN, id="name taken"),
        pytest.param(observed(infrastructure(service("a"), id="one"), id_taken="default/other"), Reason.ID_TAKEN, id="id taken"),
        pytest.param(observed(infrastructure(service("a"), service("b", "c"))), Reason.UNKNOWN_SERVICE, id="one wrong service"),
    ],
)
def test_while_something_is_wrong_nothing_is_made_and_what_runs_stays(o: Observed, reason: Reason) -> None:
    running = replace(o, groups=(group("a"), group("old")))
    for each in (o, running):
        todo = plan(each)
        assert todo.actions == ()
        said = status.report(each, todo, NOW)
        stalled, ready = condition(said.conditions, "Stalled"), condition(said.conditions, "Ready")
        assert stalled is not None
        assert ready is not None
        assert (stalled.status, stalled.reason, ready.status) == ("True", reason.value, "False")
        assert said.phase == "Stalled"
        assert reason is Reason.NAME_TAKEN or said.why


def test_a_group_that_nobody_owns_is_taken_over_by_its_own_identity_alone() -> None:
    infra = infrastructure(service("a"), service("b"))
    left = group("a")
    ours = left.spec.infrastructure.model_copy(update={"id": infra.identity})
    others = left.spec.infrastructure.model_copy(update={"id": "another"})
    own = left.model_copy(update={"spec": left.spec.model_copy(update={"infrastructure": ours})})
    foreign = left.model_copy(update={"spec": left.spec.model_copy(update={"infrastructure": others})})
    assert plan(observed(infra, orphans=(own,))) == Plan((AdoptGroup(own.metadata.name),))
    todo = plan(observed(infra, orphans=(foreign,)))
    assert todo.actions == ()
    assert [each.reason for each in todo.problems] == [Reason.NAME_TAKEN]
    assert "spec.id another" in todo.problems[0].message


def test_more_problems_are_counted() -> None:
    o = observed(infrastructure(service("a", "x"), service("b", "y"), service("c", "z")))
    said = condition(status.report(o, plan(o), NOW).conditions, "Stalled")
    assert said is not None
    assert said.message.endswith("(and 2 more)")


def test_the_finalizer_comes_first() -> None:
    assert plan(observed(infrastructure(service("a"), finalizers=()))).actions == (AddFinalizer(),)


def test_variables_of_the_infrastructure_go_over_those_of_the_service() -> None:
    one = service("a").model_copy(update={"variables": (Variable(name="x", value="under"), Variable(name="y", value="kept"))})
    infra = infrastructure(one)
    infra = infra.model_copy(update={"spec": infra.spec.model_copy(update={"variables": (Variable(name="x", value="over"),)})})
    (made,) = plan(observed(infra)).actions
    assert isinstance(made, CreateGroup)
    assert made.spec.variables == (Variable(name="x", value="over"), Variable(name="y", value="kept"))


def test_a_group_that_is_going_is_neither_changed_nor_made_again() -> None:
    o = observed(infrastructure(service("a", replicas=3)), groups=(group("a", deleting=True),))
    assert plan(o).actions == ()
    assert status.report(o, plan(o), NOW).services[0].reason == Reason.TERMINATING.value


def test_a_removed_service_waits_for_those_whose_recorded_edges_lead_to_it() -> None:
    o = observed(infrastructure(service("web")), groups=(group("db"), group("web", needs=("db",))))
    todo = plan(o)
    assert [type(each) for each in todo.actions] == [UpdateGroup]
    assert todo.waits == {"db": ("web",)}
    shown = {each.name: (each.reason, each.replicas) for each in status.report(o, todo, NOW).services}
    assert shown["db"] == (Reason.WAITING_FOR_DEPENDENTS.value, 0)


def test_ready_is_of_the_newest_generation_alone() -> None:
    infra = infrastructure(service("a"))
    (made,) = plan(observed(infra)).actions
    assert isinstance(made, CreateGroup)

    def reported(generation: int) -> str:
        each = group("a", generation=generation).model_copy(update={"spec": made.spec})
        each = each.model_copy(update={"status": each.status.model_copy(update={"conditions": (build.said("Ready", True, Reason.READY),)})})
        o = observed(infra, groups=(each,))
        return status.report(o, plan(o), NOW).phase

    assert (reported(1), reported(2)) == ("Ready", "Reconciling")


def test_the_status_is_bounded_and_stable_for_a_hundred_services() -> None:
    o = observed(infrastructure(*(service(f"s{number}", "none") for number in range(100))))
    said = status.report(o, plan(o), NOW)
    assert len(said.services) == 100
    assert len(said.why) <= 256
    assert all(len(each.message) <= 1024 for each in said.conditions)
    again = replace(o, infrastructure=o.infrastructure.model_copy(update={"status": said}))
    assert status.report(again, plan(again), NOW + timedelta(days=1)) == said


def test_what_is_wrong_is_told_before_what_waits() -> None:
    def saying(name: str, reason: Reason) -> InstanceGroup:
        each = group(name)
        return each.model_copy(update={"status": each.status.model_copy(update={"conditions": (build.said("Ready", False, reason),)})})

    o = observed(
        infrastructure(service("a"), service("z")),
        groups=(saying("a", Reason.WAITING_FOR_DEPENDENCIES), saying("z", Reason.BACK_OFF)),
    )
    assert status.report(o, plan(o), NOW).why.startswith("z: BackOff")
