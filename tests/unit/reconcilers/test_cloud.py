"""The Cloud's plan and status: reachable, authorised, still the same account, still needed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.api.cloud import AccountStatus, Cloud, CloudSpec, CloudStatus
from controller.api.meta import condition
from controller.api.reasons import Reason
from controller.ports import Account
from controller.reconcilers.cloud import status
from controller.reconcilers.cloud.plan import (
    CONTACT_AGAIN,
    CONTACT_EVERY,
    SECRET_EVERY,
    Action,
    AddFinalizer,
    AskIdentity,
    Contact,
    FreeSecret,
    GuardSecret,
    Observed,
    Release,
    plan,
)
from tests.properties import build
from tests.properties.build import NOW

OURS = Account("simulated", "a1", "r1", "")
RECORDED = AccountStatus(kind="simulated", id="a1", region="r1")
ELSEWHERE = AccountStatus(kind="simulated", id="a2", region="r1")


def cloud(account: AccountStatus | None = RECORDED, **metadata: Any) -> Cloud:
    return Cloud(
        metadata=build.metadata("sim", **metadata),
        spec=CloudSpec.model_validate({"simulated": {"account": "a1"}}),
        status=CloudStatus(account=account),
    )


def made_by(controller_id: str) -> Cloud:
    return cloud().model_copy(update={"status": CloudStatus(account=RECORDED, controller_id=controller_id)})


def observed(**more: Any) -> Observed:
    """A Cloud that answered just now."""
    fields: dict[str, Any] = {"cloud": cloud(), "now": NOW, "config": "c1", "contact": Contact(NOW, "c1", OURS), "machines": 3}
    return Observed(**(fields | more))


def denied(reason: Reason = Reason.DENIED, at: timedelta = timedelta(0)) -> Contact:
    return Contact(NOW + at, "c1", None, reason, "no")


@pytest.mark.parametrize(
    ("o", "actions", "ready", "reason"),
    [
        pytest.param(observed(), (), True, Reason.READY, id="well"),
        pytest.param(observed(cloud=cloud(finalizers=())), (AddFinalizer(),), False, Reason.RECONCILING, id="no finalizer"),
        pytest.param(observed(installed=False), (), False, Reason.UNKNOWN_KIND, id="no driver"),
        pytest.param(observed(secret_problem="none"), (), False, Reason.SECRET_NOT_FOUND, id="no Secret"),
        pytest.param(observed(secret="keys", guarded=False), (GuardSecret("keys"),), True, Reason.READY, id="Secret is guarded first"),
        pytest.param(observed(contact=None), (AskIdentity(),), False, Reason.RECONCILING, id="not asked yet"),
        pytest.param(observed(config="c2"), (AskIdentity(),), False, Reason.RECONCILING, id="asked with other credentials"),
        pytest.param(observed(contact=denied()), (), False, Reason.DENIED, id="denied"),
        pytest.param(observed(contact=denied(at=-CONTACT_AGAIN)), (AskIdentity(),), False, Reason.DENIED, id="denied, asked again"),
        pytest.param(
            observed(contact=denied(at=timedelta(seconds=1) - CONTACT_AGAIN)), (), False, Reason.DENIED, id="denied, not asked too soon"
        ),
        pytest.param(
            observed(contact=Contact(NOW - CONTACT_EVERY, "c1", OURS)), (AskIdentity(),), True, Reason.READY, id="asked now and then"
        ),
        pytest.param(observed(contact=denied(at=timedelta(hours=2))), (AskIdentity(),), False, Reason.DENIED, id="denied, clock set back"),
        pytest.param(
            observed(contact=Contact(NOW + timedelta(hours=2), "c1", OURS)), (AskIdentity(),), True, Reason.READY, id="clock set back"
        ),
        pytest.param(observed(contact=Contact(NOW, "c1", replace(OURS, id="a2"))), (), False, Reason.ACCOUNT_CHANGED, id="another account"),
        pytest.param(
            observed(contact=Contact(NOW, "c1", replace(OURS, region="r2"))), (), False, Reason.ACCOUNT_CHANGED, id="another region"
        ),
        pytest.param(observed(controller_id="mine", cloud=made_by("mine")), (), True, Reason.READY, id="the same controller"),
        pytest.param(observed(controller_id="mine", cloud=made_by("other")), (), False, Reason.CONTROLLER_CHANGED, id="another controller"),
        pytest.param(observed(trouble="no list"), (), False, Reason.CLOUD_UNREACHABLE, id="no usable list"),
        pytest.param(observed(trouble="no right", trouble_reason=Reason.DENIED), (), False, Reason.DENIED, id="it may not list"),
        pytest.param(observed(machines=None), (), False, Reason.RECONCILING, id="not listed yet"),
        pytest.param(observed(cloud=cloud(deleting=True)), (Release(()),), False, Reason.TERMINATING, id="deleted, nobody's"),
        pytest.param(
            observed(cloud=cloud(deleting=True), users=1), (), True, Reason.READY, id="deleted and still in use: it must end them"
        ),
        pytest.param(
            observed(cloud=cloud(deleting=True, finalizers=())),
            (Release(()),),
            False,
            Reason.TERMINATING,
            id="deleted without our finalizer",
        ),
        pytest.param(
            observed(cloud=cloud(deleting=True), installed=False), (Release(()),), False, Reason.TERMINATING, id="deleted, no driver"
        ),
    ],
)
def test_plan(o: Observed, actions: tuple[Action, ...], ready: bool, reason: Reason) -> None:
    todo = plan(o)
    assert (todo.actions, todo.ready, todo.reason) == (actions, ready, reason)


def naming(*secrets: str) -> Cloud:
    """A Cloud for which these carry the finalizer."""
    return cloud().model_copy(update={"status": CloudStatus(account=RECORDED, secrets=secrets)})


@pytest.mark.parametrize(
    ("o", "actions", "secrets"),
    [
        pytest.param(
            observed(cloud=naming("old"), secret="new", guarded=False), (FreeSecret("old"), GuardSecret("new")), ("new",), id="another"
        ),
        pytest.param(observed(cloud=naming("new", "old"), secret="new"), (FreeSecret("old"),), ("new",), id="another, which has it"),
        pytest.param(observed(cloud=naming("old"), secret="new", secret_problem="none"), (FreeSecret("old"),), (), id="another, not there"),
        pytest.param(observed(cloud=naming("old")), (FreeSecret("old"),), (), id="none any more"),
        pytest.param(observed(cloud=naming(), secret="new"), (), ("new",), id="guarded by an earlier version"),
        pytest.param(observed(cloud=naming("new"), secret="new"), (), ("new",), id="as it was"),
        pytest.param(
            observed(cloud=cloud(finalizers=()), secret="new", guarded=False), (AddFinalizer(),), (), id="not before the Cloud's own"
        ),
        pytest.param(observed(cloud=naming("new", "old"), secret="new", installed=False), (), ("new", "old"), id="nothing is done"),
    ],
)
def test_a_secret_that_is_named_no_more_is_freed(o: Observed, actions: tuple[Action, ...], secrets: tuple[str, ...]) -> None:
    todo = plan(o)
    assert todo.actions == actions
    assert status.report(o, todo).secrets == secrets


def test_the_secrets_of_a_cloud_go_with_it() -> None:
    going = naming("old", "new").model_copy(update={"metadata": cloud(deleting=True).metadata})
    assert plan(observed(cloud=going, secret="new")).actions == (Release(("new", "old")),)


@pytest.mark.parametrize(
    ("o", "every"),
    [
        pytest.param(observed(), CONTACT_EVERY, id="none"),
        pytest.param(observed(secret="keys"), SECRET_EVERY, id="one: its keys may change"),
        pytest.param(observed(secret="keys", contact=denied()), CONTACT_AGAIN, id="one that is refused"),
    ],
)
def test_how_soon_a_cloud_with_a_secret_is_looked_at_again(o: Observed, every: timedelta) -> None:
    assert plan(o).again == NOW + every


def test_the_account_is_recorded_at_first_contact_and_never_again() -> None:
    first = plan(observed(cloud=cloud(None)))
    assert first.account == RECORDED
    other = plan(observed(contact=Contact(NOW, "c1", replace(OURS, id="a2"))))
    assert other.account == RECORDED
    assert "a2" in other.message
    assert "a1" in other.message


@pytest.mark.parametrize(
    ("launched_in", "ready", "account"),
    [
        pytest.param((RECORDED,), True, RECORDED, id="here"),
        pytest.param((ELSEWHERE,), False, ELSEWHERE, id="elsewhere"),
        pytest.param((RECORDED, ELSEWHERE), False, ELSEWHERE, id="here and elsewhere"),
    ],
)
def test_a_new_cloud_is_bound_to_the_account_of_the_machines_under_its_name(
    launched_in: tuple[AccountStatus, ...], ready: bool, account: AccountStatus
) -> None:
    todo = plan(observed(cloud=cloud(None), launched_in=launched_in))
    assert (todo.ready, todo.account) == (ready, account)
    assert todo.reason is (Reason.READY if ready else Reason.ACCOUNT_CHANGED)


def test_a_cloud_that_was_denied_recovers_by_itself() -> None:
    o = observed(contact=denied())
    todo = plan(o)
    assert todo.again == NOW + CONTACT_AGAIN
    later = replace(o, now=NOW + CONTACT_AGAIN)
    assert AskIdentity() in plan(later).actions
    assert plan(replace(later, contact=Contact(later.now, "c1", OURS))).ready


def test_credentials_of_the_first_account_thaw_it() -> None:
    frozen = observed(contact=Contact(NOW, "c1", replace(OURS, id="a2")))
    assert not plan(frozen).ready
    assert plan(replace(frozen, config="c2", contact=Contact(NOW, "c2", OURS))).ready


@pytest.mark.parametrize(
    ("o", "ready", "stalled"),
    [
        pytest.param(observed(), "True", "False", id="well"),
        pytest.param(observed(contact=denied()), "False", "True", id="denied"),
        pytest.param(observed(contact=Contact(NOW, "c1", replace(OURS, id="a2"))), "False", "True", id="another account"),
        pytest.param(observed(trouble="no list"), "False", "False", id="passes by itself"),
        pytest.param(observed(trouble="no right", trouble_reason=Reason.DENIED), "False", "True", id="it may not list"),
        pytest.param(observed(installed=False), "False", "True", id="no driver"),
    ],
)
def test_status(o: Observed, ready: str, stalled: str) -> None:
    said = status.report(o, plan(o))
    found = {type: condition(said.conditions, type) for type in ("Ready", "Stalled")}
    assert {type: each and each.status for type, each in found.items()} == {"Ready": ready, "Stalled": stalled}
    again = replace(o, cloud=o.cloud.model_copy(update={"status": said}), now=o.now + timedelta(seconds=1))
    assert status.report(again, plan(again)) == said


def test_a_new_process_leaves_what_was_said_until_it_knows() -> None:
    o = observed()
    said = status.report(o, plan(o))
    restarted = replace(o, cloud=o.cloud.model_copy(update={"status": said}), contact=None, machines=None)
    assert status.report(restarted, plan(restarted)) == said.model_copy(update={"observed_generation": 1})
    assert status.report(restarted, plan(restarted)).machines == 3


def test_a_cloud_that_was_deleted_and_is_needed_still_does_not_say_ready() -> None:
    o = observed(cloud=cloud(deleting=True), users=2)
    todo = plan(o)
    said = condition(status.report(o, todo).conditions, "Ready")
    assert todo.ready, "its machines have to be ended by it"
    assert said is not None
    assert (said.status, said.reason) == ("False", Reason.TERMINATING.value)
