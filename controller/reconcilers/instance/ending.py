"""How an Instance ends: its machine first, then the proof that none is left or can appear, then the object (rule 5). Pure.

`plan.py` calls `plan` for an Instance that is being deleted.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from controller.api import meta
from controller.api.reasons import Reason
from controller.ports import Machine, MachineState
from controller.reconcilers.instance import observed, steps
from controller.reconcilers.instance.observed import ON_ITS_WAY, First, Observed, Sent
from controller.reconcilers.instance.steps import Close, Plan, Release, Stand, Terminate

#: How long after asking a cloud to end a machine it is asked again.
TERMINATE_AGAIN = timedelta(seconds=20)
#: States in which a machine needs no further call to end.
ENDING = frozenset({MachineState.SHUTTING_DOWN, MachineState.TERMINATED})
#: An Instance of a fleet that is gone within this time of its deletion is never said to be ending.
_ENDS_UNTOLD = timedelta(seconds=60)


def plan(o: Observed) -> Plan:
    """The acts that are due for an Instance that is being deleted."""
    recorded = o.instance.status.machine.id if o.instance.status.machine else ""
    if o.instance.metadata.annotations.get(meta.ABANDON) == (recorded or o.instance.spec.batch.id):
        known = f"machine {recorded}" if recorded else f"what was launched as batch {o.instance.spec.batch.id}"
        return _release(o, Reason.ABANDONED, f"{known} was given up by its user and may still run")
    if not o.owner.exists:
        return _release(o, Reason.OWNER_MISSING, f"its group does not exist; machine {recorded or 'none'} is left alone")
    if o.rival is not None:
        other = f"{o.rival.metadata.namespace}/{o.rival.metadata.name}"
        return _release(o, Reason.DUPLICATE_MACHINE, f"Instance {other} has the same identity and goes on with its machine")
    if o.elsewhere:
        return Plan((), steps.going(o, Reason.FROZEN, steps.not_served(o.elsewhere)))
    if o.owner.blockers:
        waits = ", ".join(o.owner.blockers)
        return Plan((), steps.going(o, Reason.WAITING_FOR_DEPENDENTS, f"{waits} have machines that go first"))
    if o.instance.metadata.annotations.get(meta.SCALE_IN) == "true" and not o.owner.going and not o.owner.counted:
        # Gone before the group has lowered its count, it would be replaced instead.
        return Plan((), steps.going(o, Reason.SCALING, "its group lowers its count first"))
    if o.cloud.unasked and _is_quiet(o):
        return Plan((), steps.silent())
    if not o.cloud.ready or o.sight.listed is None:
        why = o.cloud.message or ("its machines were not listed yet" if o.cloud.exists else _no_cloud(o, recorded))
        return Plan((), steps.going(o, Reason.WAITING_FOR_CLOUD, f"Cloud {observed.cloud_name(o)}: {why}"))
    if o.attempt.sent is Sent.IN_FLIGHT:
        return Plan((), steps.going(o, Reason.LAUNCHING, "a launch is on its way; its answer is awaited"))
    live = observed.live(observed.machines(o))
    return _terminate(o, live) if live else _nothing_seen(o)


def _no_cloud(o: Observed, recorded: str) -> str:
    """That nothing was launched is no proof: a restore drops what was recorded of it."""
    known = recorded or o.instance.spec.batch.id
    return f"there is none, to look for its machine; put it back, or give the machine up by {meta.ABANDON}={known}"


def _terminate(o: Observed, live: tuple[Machine, ...]) -> Plan:
    due = tuple(machine.id for machine in live if machine.ours and machine.state not in ENDING)
    asked = o.acts.terminated
    stand = _ends(o)
    others = [each for each in live if not each.ours and each.state not in ENDING]
    if others and not due:
        way_out = f"; or give it up by the annotation {meta.ABANDON}={others[0].id}"
        return Plan((), steps.going(o, Reason.MACHINE_UNKNOWN, steps.not_ours(others[0]) + way_out))
    if not due:
        return Plan((), stand, o.now + TERMINATE_AGAIN)  # the list that shows it ended wakes it before
    if asked is not None and o.now < asked + TERMINATE_AGAIN:
        return Plan((), stand, asked + TERMINATE_AGAIN)
    return Plan((Terminate(due),), stand, o.now + TERMINATE_AGAIN)


def _ends(o: Observed) -> Stand:
    """That the machine ends; of one of a fleet, whose id is recorded, that is worth saying when it takes long."""
    stand = steps.going(o, Reason.TERMINATING, o.acts.trouble or "the cloud ends the machine")
    recorded = o.instance.status.machine is not None
    return replace(stand, keep=True, untold=True) if recorded and not o.acts.trouble and _is_quiet(o) else stand


def _is_quiet(o: Observed) -> bool:
    """Whether it is one of a fleet, deleted a moment ago, of which nothing is said that is untrue now."""
    marked = o.instance.metadata.deletion_timestamp
    soon = marked is not None and o.now < marked + _ENDS_UNTOLD
    return o.owner.fleet and soon and observed.ready_reason(o) in {Reason.READY.value, *ON_ITS_WAY}


def _nothing_seen(o: Observed) -> Plan:
    """No live machine shows. Whether that is proof depends on what may have been sent (rule 5)."""
    if o.acts.closed is None and o.first is First.OWN:
        return Plan((Close(),), _ends(o))
    wait = _unproved(o)
    if wait is not None:
        return Plan((), steps.going(o, Reason.TERMINATING, wait[0]), wait[1])
    return _release(o, Reason.DELETED, "no machine is left")


def _unproved(o: Observed) -> tuple[str, datetime | None] | None:
    """What is still lacking to be sure that no machine exists or can appear; None when it is sure."""
    if o.sight.listed is None:
        return "its machines were not listed yet", None
    if o.sight.trouble:
        return f"the cloud's list is in doubt: {o.sight.trouble}", None
    known = observed.known_id(o)
    ended = any(machine.state is MachineState.TERMINATED and known in (None, machine.id) for machine in observed.machines(o))
    if known is not None:
        return None if ended or observed.gone(o) else ("the cloud has not confirmed that the machine ended", None)
    if ended:
        return None
    if o.first is not First.OWN:
        return _unproved_member(o, o.sight.listed)
    closed = o.acts.closed or o.now
    if o.sight.listed <= closed:
        return "a list after the launch was closed is awaited", None
    if o.instance.status.launch is None or observed.refused(o):
        return None
    # Closing stops what is still to come; what was made before shows only when the list has caught up. A process before
    # this one may have sent until it ended, which was before this one closed the launch.
    until = observed.settled(o) if o.attempt.at is not None else max(observed.settled(o), closed + o.cloud.settle)
    return None if o.sight.listed > until else ("a launch whose answer was lost may still appear", until)


def _unproved_member(o: Observed, listed: datetime) -> tuple[str, datetime | None] | None:
    """Of a later member of a batch: it lets go once its first one was never launched, or what came of that launch is known."""
    if o.first is First.NEVER or (observed.refused(o) and o.first is not First.GONE):
        return None
    if o.first is First.UNSENT:
        return "the first of its batch is given up before", None
    if o.first is First.SENT and o.attempt.sent not in (Sent.MISMATCH, Sent.DOUBTFUL):
        return "the launch of its batch is on its way", None
    until = observed.settled(o)
    if o.first is First.GONE and (marked := o.instance.metadata.deletion_timestamp) is not None:
        # Nobody knows when one that is gone was launched; but it was before this one was marked, as a batch is launched whole.
        until = max(until, marked + o.cloud.settle)
    return None if listed > until else ("the launch of its batch may still show", until)


def _release(o: Observed, reason: Reason, message: str) -> Plan:
    return Plan((Release(reason, message),), steps.going(o, reason, message))
