"""The status of a Cloud from its plan. Pure."""

from __future__ import annotations

from controller.api.cloud import CloudStatus
from controller.api.reasons import Reason
from controller.reconcilers import conditions
from controller.reconcilers.cloud.plan import FreeSecret, GuardSecret, Observed, Plan
from controller.reconcilers.conditions import Say, say

#: What does not pass by itself: somebody has to change something.
_STALLED = {Reason.UNKNOWN_KIND, Reason.ACCOUNT_CHANGED, Reason.CONTROLLER_CHANGED, Reason.DENIED, Reason.SECRET_NOT_FOUND}


def report(o: Observed, plan: Plan) -> CloudStatus:
    """What is written to the Cloud's status. While a new process has not asked yet, what was said before stays."""
    if plan.reason is Reason.RECONCILING and o.cloud.status.conditions:
        return o.cloud.status.model_copy(update={"observed_generation": o.cloud.metadata.generation, "secrets": _secrets(o, plan)})
    said = (
        _going(o) if plan.ready and o.cloud.metadata.deleting else say("Ready", plan.ready, plan.reason, plan.message),
        say("Stalled", plan.reason in _STALLED, plan.reason, plan.message),
    )
    return CloudStatus(
        observed_generation=o.cloud.metadata.generation,
        account=plan.account,
        controller_id=o.cloud.status.controller_id or o.controller_id,
        secrets=_secrets(o, plan),
        machines=o.cloud.status.machines if o.machines is None else o.machines,
        conditions=conditions.merge(o.cloud.status.conditions, said, o.cloud.metadata.generation, o.now),
    )


def _secrets(o: Observed, plan: Plan) -> tuple[str, ...]:
    """Those that carry the finalizer once the plan's acts are done."""
    freed = {each.name for each in plan.actions if isinstance(each, FreeSecret)}
    guarded = o.secret and not o.secret_problem and (o.guarded or GuardSecret(o.secret) in plan.actions)
    named = {o.secret} if guarded else set[str]()
    return tuple(sorted({*o.cloud.status.secrets, *named} - freed))


def _going(o: Observed) -> Say:
    """It answers, so that its machines can be ended, and nothing new is made on it. How many they are moves, and stands elsewhere."""
    who = "Delete the infrastructures that use it" if o.users else "no Instance is left"
    return say("Ready", False, Reason.TERMINATING, f"it was deleted and stays until no machine needs it. {who}")
