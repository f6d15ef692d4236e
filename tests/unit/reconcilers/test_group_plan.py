"""The group's plan, case by case: release, scale, claim, end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.api import meta
from controller.api.group import InstanceGroupStatus
from controller.api.infrastructure import Scaling
from controller.api.instance import Instance
from controller.api.meta import condition
from controller.api.reasons import Reason
from controller.ports import Identity
from controller.reconcilers.instancegroup import status
from controller.reconcilers.instancegroup.observed import Dependency, Hold, Observed, Unclaimed, wanted
from controller.reconcilers.instancegroup.plan import AddFinalizer, Claim, Create, Delete, RefuseScaleIn, Release, ScaleIn, plan
from tests.properties import build
from tests.properties.build import NOW, group, instance, machine, seconds, stands
from tests.unit.reconcilers.groups import created, gone, held, observed, up

#: Of a revision that the template has no longer.
OLDER = {"revision": "shop-app-0"}


@pytest.mark.parametrize(
    ("replicas", "scaling", "expected"),
    [
        pytest.param(3, None, 3, id="no bounds"),
        pytest.param(0, None, 0, id="nothing"),
        pytest.param(1, Scaling(min=2), 2, id="below min"),
        pytest.param(9, Scaling(min=2, max=5), 5, id="above max"),
        pytest.param(9, Scaling(min=2), 9, id="no max"),
        pytest.param(3, Scaling(min=0, max=0), 0, id="none allowed"),
        pytest.param(0, Scaling(min=0, max=5), 0, id="min 0"),
    ],
)
def test_wanted(replicas: int, scaling: Scaling | None, expected: int) -> None:
    each = group(replicas=replicas, spec={"scaling": scaling})
    assert wanted(each) == expected
    o = observed(group=each)
    said = condition(status.report(o, plan(o)).conditions, "Scaled")
    assert said is not None
    assert (said.status == "False") == (expected != replicas)


@pytest.mark.parametrize(
    ("o", "reason"),
    [
        pytest.param(
            observed(group=group(replicas=2, needs=("db",)), dependencies=(Dependency("db", False, "0 of 1"),)),
            Reason.WAITING_FOR_DEPENDENCIES,
            id="a dependency is not Available",
        ),
        pytest.param(observed(group=group(replicas=2), hold=Hold(Reason.NO_ADDRESS, "db")), Reason.NO_ADDRESS, id="nothing to tell"),
        pytest.param(observed(group=group(replicas=2, spec={"paused": True})), Reason.PAUSED, id="paused"),
        pytest.param(
            observed(group=group(replicas=2), unclaimed=(Unclaimed(machine(), ("sim",)),)), Reason.UNCLAIMED, id="a machine is unclaimed"
        ),
        pytest.param(
            observed(group=group(replicas=2), duplicates=(Identity("b", 0),)), Reason.DUPLICATE_MACHINE, id="two machines of one identity"
        ),
    ],
)
def test_what_holds_creation_back(o: Observed, reason: Reason) -> None:
    todo = plan(o)
    assert created(todo) == 0
    assert held(todo) is reason


def test_a_dependency_that_was_available_once_holds_nothing_back() -> None:
    latched = group(replicas=2, needs=("db",), status=InstanceGroupStatus(dependencies_met=("db",)))
    o = observed(group=latched, dependencies=(Dependency("db", False, "0 of 1"),))
    assert plan(o).actions == (Create((1, 1)),)
    assert status.report(o, plan(o)).dependencies_met == ("db",)


@pytest.mark.parametrize(
    ("known", "available", "waits", "met"),
    [
        pytest.param((), {"db": True, "mq": False}, "mq", (), id="at first all together"),
        pytest.param((), {"db": True, "mq": True}, "", ("db", "mq"), id="all are"),
        pytest.param(("db",), {"db": False, "mq": False}, "mq", ("db",), id="a new one is waited for, a known one is not"),
        pytest.param(("db",), {"db": False, "mq": True}, "", ("db", "mq"), id="the new one is"),
        pytest.param(("db", "mq"), {"mq": False}, "", ("mq",), id="one that is no more is forgotten"),
    ],
)
def test_a_dependency_that_is_new_is_waited_for(
    known: tuple[str, ...], available: dict[str, bool], waits: str, met: tuple[str, ...]
) -> None:
    changed = group(replicas=2, needs=tuple(available), status=InstanceGroupStatus(dependencies_met=known))
    o = observed(stands(0, True), group=changed, dependencies=tuple(Dependency(name, up, "0 of 1") for name, up in available.items()))
    todo = plan(o)
    assert (held(todo), created(todo)) == ((Reason.WAITING_FOR_DEPENDENCIES, 0) if waits else (Reason.SCALING, 1))
    assert todo.progress is not None
    assert todo.progress.message.startswith(waits)
    assert status.report(o, todo).dependencies_met == met


def test_scale_in_takes_what_is_not_ready_first_and_then_the_youngest() -> None:
    def born(index: int, age: float, ready: bool) -> Instance:
        return stands(index, ready, Reason.READY if ready else Reason.BOOTING, creation_timestamp=NOW - seconds(age))

    all = (born(0, 500, True), born(1, 100, True), born(2, 300, False), born(3, 900, True), born(4, 50, False))
    order = [gone(plan(observed(*all, group=group(replicas=number)))) for number in (4, 3, 2, 1, 0)]
    assert order[0] == ["shop-app-4"]
    assert sorted(order[1]) == ["shop-app-2", "shop-app-4"]
    assert sorted(set(order[2]) - set(order[1])) == ["shop-app-1"]
    assert sorted(set(order[3]) - set(order[2])) == ["shop-app-0"]
    assert len(order[4]) == 5


# --- scale-in of one named Instance ---------------------------------------------------------------------------------
def marked(index: int) -> Instance:
    return instance(index, deleting=True, annotations={meta.SCALE_IN: "true"})


@pytest.mark.parametrize(
    ("o", "actions"),
    [
        pytest.param(
            observed(marked(0), *up(3)[1:], group=group(replicas=3)), (ScaleIn(2, ("shop-app-0",), ("shop-app-0",)),), id="lowered by one"
        ),
        pytest.param(
            observed(marked(0), marked(1), group=group(replicas=3)),
            (ScaleIn(1, ("shop-app-0", "shop-app-1"), ("shop-app-0", "shop-app-1")),),
            id="by two at once",
        ),
        pytest.param(
            observed(marked(0), marked(1), group=group(replicas=2, annotations={meta.SCALED_IN: "shop-app-0"})),
            (ScaleIn(1, ("shop-app-0", "shop-app-1"), ("shop-app-1",)),),
            id="the first was counted",
        ),
        pytest.param(
            observed(marked(0), group=group(replicas=9, spec={"scaling": Scaling(min=1, max=5)})),
            (ScaleIn(4, ("shop-app-0",), ("shop-app-0",)),),
            id="from the bound, not from what was asked",
        ),
        pytest.param(
            observed(marked(0), group=group(replicas=2, spec={"scaling": Scaling(min=2)})),
            (ScaleIn(2, ("shop-app-0",), ("shop-app-0",)),),
            id="not below min",
        ),
        pytest.param(
            observed(marked(0), group=group(replicas=2, spec={"fixed_replicas": 2})),
            (RefuseScaleIn("shop-app-0"), ScaleIn(2, ("shop-app-0",), ())),
            id="refused where the service fixes the count",
        ),
        pytest.param(
            observed(*up(2), group=group(replicas=2, annotations={meta.SCALED_IN: "shop-app-7"})),
            (ScaleIn(2, (), ()),),
            id="the note goes with the Instance",
        ),
    ],
)
def test_scale_in(o: Observed, actions: tuple[Any, ...]) -> None:
    assert plan(o).actions == actions


def test_what_was_counted_is_not_counted_again() -> None:
    o = observed(marked(0), *up(3)[1:], group=group(replicas=2, annotations={meta.SCALED_IN: "shop-app-0"}))
    assert plan(o).actions == ()


def test_a_mark_on_an_instance_that_stays_means_nothing() -> None:
    assert plan(observed(stands(0, True, annotations={meta.SCALE_IN: "true"}))).actions == ()


# --- claims ---------------------------------------------------------------------------------------------------------
def test_only_sure_machines_of_our_own_identity_are_claimed_each_once() -> None:
    found = (
        Unclaimed(machine("m-1", of=1), ("sim",), sure=True),
        Unclaimed(machine("m-2", of=2), ("sim",)),
        Unclaimed(machine("m-3", of=3), ("sim",), sure=True, stranger="older"),
        Unclaimed(machine("m-4", of=1), ("sim",), sure=True),
    )
    todo = plan(observed(group=group(replicas=3), unclaimed=found))
    assert todo.actions == (Claim((found[0],)),)
    assert held(todo) is Reason.UNCLAIMED
    assert todo.progress is not None
    assert "spec.id: older" in todo.progress.message


def test_machines_of_which_the_template_names_no_cloud_are_not_claimed_and_said() -> None:
    found = (Unclaimed(machine("m-1", of=1), (), sure=True), Unclaimed(machine("m-2", of=2), ("sim",), sure=True))
    todo = plan(observed(group=group(replicas=3), unclaimed=found))
    assert todo.actions == (Claim((found[1],)),)
    assert todo.progress is not None
    assert "1 machines of this service, m-1 for one," in todo.progress.message
    assert held(plan(observed(group=group(), unclaimed=found[:1], hold=Hold(Reason.TEMPLATE_NOT_FOUND, "no")))) is Reason.TEMPLATE_NOT_FOUND


# --- the end --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("o", "names", "reason"),
    [
        pytest.param(observed(*up(2), blockers=("web",)), [], Reason.WAITING_FOR_DEPENDENTS, id="waits its turn"),
        pytest.param(observed(*up(2)), ["shop-app-0", "shop-app-1"], Reason.WAITING_FOR_MACHINES, id="ends its machines"),
        pytest.param(observed(instance(0, deleting=True)), [], Reason.WAITING_FOR_MACHINES, id="waits for them"),
        pytest.param(observed(*up(1), in_doubt="no list"), ["shop-app-0"], Reason.WAITING_FOR_MACHINES, id="permission though in doubt"),
    ],
)
def test_ending(o: Observed, names: list[str], reason: Reason) -> None:
    going = replace(o, group=group(replicas=2, deleting=True, spec={"paused": True}))
    assert (gone(plan(going)), held(plan(going))) == (names, reason)


def test_an_empty_group_is_let_go() -> None:
    assert plan(observed(group=group(deleting=True))).actions == (Release(),)


def test_a_finalizer_that_was_dropped_is_put_back_before_all_else() -> None:
    assert plan(observed(group=group(replicas=5, finalizers=()))).actions == (AddFinalizer(),)


# --- the status -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("o", "available", "ready", "reason"),
    [
        pytest.param(observed(*up(2)), "True", "True", "Ready", id="all up"),
        pytest.param(observed(*up(1), group=group(replicas=2)), "False", "False", "Scaling", id="one lacks"),
        pytest.param(
            observed(*up(2), group=group(replicas=3, spec={"scaling": Scaling(min=2)})), "True", "False", "Scaling", id="min is up"
        ),
        pytest.param(observed(group=group(replicas=0)), "True", "True", "Ready", id="nothing wanted"),
        pytest.param(observed(stands(0, False, Reason.BOOTING)), "False", "False", "Reconciling", id="booting"),
        pytest.param(observed(*up(2), group=group(replicas=2, deleting=True)), "True", "False", "WaitingForMachines", id="going"),
    ],
)
def test_status(o: Observed, available: str, ready: str, reason: str) -> None:
    said = status.report(o, plan(o))
    found = {each.type: each.status for each in said.conditions}
    assert (found["Available"], found["Ready"], said.reason) == (available, ready, reason)
    assert said.selector == "occopus.io/group=shop-app"


def test_an_older_revision_is_said_and_counted() -> None:
    runs = build.launched(machine="m-1").model_copy(update={"conditions": up(1)[0].status.conditions})
    o = observed(stands(0, True), instance(1, status=runs, spec=OLDER))
    said = status.report(o, plan(o))
    progressing = condition(said.conditions, "Progressing")
    assert progressing is not None
    assert (progressing.status, progressing.reason) == ("False", "RevisionChanged")
    assert progressing.message.startswith("1 of 2")
    assert (said.replicas, said.updated_replicas) == (2, 1)


def test_what_was_never_launched_gives_way_to_a_newer_revision_and_counts_as_no_failure() -> None:
    o = observed(stands(0, True), instance(1, spec=OLDER), instance(2, spec=OLDER))
    todo = plan(o)
    assert todo.actions == tuple(
        Delete(name, Reason.REVISION_CHANGED, "the template has changed before its launch") for name in ("shop-app-1", "shop-app-2")
    )
    assert (todo.replacement, todo.again) == (None, None)
    after = replace(o, instances=(stands(0, True), *(instance(index, spec=OLDER, deleting=True) for index in (1, 2))))
    assert plan(after).actions == (Create((1, 1)),)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        pytest.param({"hold": Hold(Reason.TEMPLATE_INVALID, "line 2")}, Reason.TEMPLATE_INVALID, id="the newest cannot be made"),
        pytest.param({"dependencies": (Dependency("db", False, "0 of 1"),)}, Reason.WAITING_FOR_DEPENDENCIES, id="a dependency"),
        pytest.param({"unclaimed": (Unclaimed(machine(), ("sim",)),)}, Reason.UNCLAIMED, id="a machine is unclaimed"),
        pytest.param({"in_doubt": "Cloud sim was not asked yet"}, Reason.RECONCILING, id="in doubt"),
        pytest.param({"group": group(replicas=1, spec={"paused": True})}, Reason.PAUSED, id="paused"),
    ],
)
def test_what_was_never_launched_stays_while_nothing_could_be_made_in_its_place(more: dict[str, Any], reason: Reason) -> None:
    todo = plan(observed(instance(0, spec=OLDER), **more))
    assert (todo.actions, held(todo)) == ((), reason)


def test_the_status_is_bounded_whatever_the_size() -> None:
    o = observed(
        *up(200), stale=frozenset(f"shop-app-{n}" for n in range(200)), duplicates=tuple(Identity(f"b-{n}", 0) for n in range(200))
    )
    said = status.report(o, plan(o))
    assert len(said.addresses) == 5
    assert all(len(each.message) <= 1024 for each in said.conditions)
    stale = condition(said.conditions, "InputsCurrent")
    assert stale is not None
    assert stale.message.endswith("and 195 more were told has changed since")


def test_nothing_moves_with_time_alone() -> None:
    o = observed(*up(1), stands(1, False, Reason.BOOTING))
    first = status.report(o, plan(o))
    later = replace(o, now=NOW + timedelta(hours=3), group=o.group.model_copy(update={"status": first}))
    assert status.report(later, plan(later)) == first
