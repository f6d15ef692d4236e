"""One machine's life as decisions: launch, wait, report, terminate (design section 5). Pure.

`plan` gets everything that is known of one Instance and says which acts are due now and what its status is. It never
remembers: what it knows of earlier passes is in the object, in the cloud's list, or in what the executor observed itself
do in this process (`Acts`), whose loss costs a repetition of an idempotent call and nothing else.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from controller.api import meta
from controller.api.meta import condition
from controller.api.reasons import Reason
from controller.ports import Machine, MachineState
from controller.reconcilers.instance import ending, observed, steps
from controller.reconcilers.instance.observed import BURNT, LEFT_ALONE, ON_ITS_WAY, First, Health, Observed, Sent
from controller.reconcilers.instance.steps import AddFinalizer, Launch, Plan, Record, Resend, Stand

#: What a launch that is sent again was answered, or what kept it from being sent again.
_TRIED_AGAIN = frozenset({Reason.DENIED.value, Reason.THROTTLED.value, Reason.CLOUD_UNREACHABLE.value, Reason.RENDERER_FAILED.value})
#: What a machine that serves nobody is called: phase, reason, message.
_ENDED = ("Ended", Reason.MACHINE_ENDED, "the cloud says that the machine has ended")
_STOPPED = ("Stopped", Reason.MACHINE_STOPPED, "the machine is stopped")
_FAULTS = {
    MachineState.TERMINATED: _ENDED,
    MachineState.SHUTTING_DOWN: _ENDED,
    MachineState.STOPPED: _STOPPED,
    MachineState.STOPPING: _STOPPED,
    MachineState.ERROR: ("Failed", Reason.MACHINE_ERROR, "the cloud says that the machine failed"),
}
#: A turn that is nearer is waited for without a word.
_WORTH_TELLING = timedelta(seconds=10)
#: A machine of a fleet that serves within this time of its first probe is never said to be starting.
_STARTS_UNTOLD = timedelta(seconds=15)
#: A launch that the cloud puts off is sent again after 2 s, doubling to 10 s: so that mended credentials are noticed soon.
_AGAIN_FIRST, _AGAIN_MOST = timedelta(seconds=2), timedelta(seconds=10)
#: How soon one is tried again for which something was missing, if the launcher knows no better.
_HELD_AGAIN = timedelta(seconds=5)


def plan(o: Observed) -> Plan:
    """The acts that are due, all of which may run at once, and where the Instance stands."""
    if o.instance.metadata.deleting:
        return ending.plan(o)
    if meta.FINALIZER not in o.instance.metadata.finalizers:
        return Plan((AddFinalizer(),), steps.keep(o))
    return _unsent(o) if o.instance.status.launch is None else _sent(o)


# --- not launched yet -----------------------------------------------------------------------------------------------
def _unsent(o: Observed) -> Plan:
    listed = (*observed.live(o.sight.machines), *o.sight.machines)
    if listed and o.rival is not None and o.rival.status.launch is not None:
        other = f"{o.rival.metadata.namespace}/{o.rival.metadata.name}"
        return Plan((), steps.waiting(Reason.DUPLICATE_MACHINE, f"its machine is that of Instance {other}, of which it is a copy"))
    if listed and o.elsewhere:
        return Plan((), steps.waiting(Reason.FROZEN, steps.not_served(o.elsewhere)))
    if listed:
        # One that has ended counts too: what was sent is never launched again (rule 4).
        return Plan((Record(listed[0]),), steps.waiting(Reason.LAUNCHING, "a machine of this identity exists already"))
    if o.batch_sent and o.first is not First.UNSENT:
        # A restore dropped the record: the batch was launched, and what it made of this one has ended and is forgotten.
        return _lost_before(o)
    if o.first is not First.OWN:
        return _unsent_member(o)
    if _still_denied(o):
        return Plan((), steps.silent())
    held = _held_back(o)
    if held is not None:
        return Plan((), held)
    if o.attempt.sent is Sent.PACED:
        due = _turn(o)
        return Plan((), _paced(o, launched=None), due) if o.now < due else Plan((Launch(),), steps.silent())
    if o.attempt.sent is Sent.BEHIND:
        due = _turn(o)
        return Plan((), _behind(o, launched=None), due) if o.now < due else Plan((Launch(),), steps.silent())
    if o.attempt.sent is Sent.HELD and o.attempt.reason is not None:
        due = _due(o, max(o.attempt.after, _HELD_AGAIN))
        stand = steps.waiting(o.attempt.reason, o.attempt.message)
        return Plan((), stand, due) if o.now < due else Plan((Launch(),), stand)
    return Plan((Launch(),), steps.waiting(Reason.WAITING_FOR_LAUNCH, "the launch is being prepared"))


def _lost_before(o: Observed) -> Plan:
    burnt = _burnt(o)
    if burnt is not None:
        return Plan((), burnt)
    until = observed.settled(o)
    if o.sight.listed is not None and o.sight.listed > until:
        return Plan((), steps.lost(Reason.LAUNCH_LOST, "its batch was launched before, and no machine of it is there"))
    return Plan((), steps.silent(), until)


def _unsent_member(o: Observed) -> Plan:
    """A later member of a batch is launched with its first one; if that is not there or goes, the group plans the batch again."""
    if o.first_said is not None:
        return Plan((), steps.waiting(*o.first_said))
    return Plan((), steps.silent())


def _turn(o: Observed) -> datetime:
    return _due(o, o.attempt.after)


def _due(o: Observed, after: timedelta) -> datetime:
    """When the launch is due so long after the last attempt: at once where the clock was set back since."""
    at = o.attempt.at or o.now
    return at + after if at <= o.now else o.now


def _paced(o: Observed, *, launched: bool | None) -> Stand:
    """Short waits are not written, and a fleet's group tells of all that wait: each of them would be a write."""
    if o.attempt.after < _WORTH_TELLING:
        return steps.silent()
    if o.attempt.reason is not None and o.attempt.reason.value in _TRIED_AGAIN:
        # It was put off before: what was answered stays said until it is answered anew.
        return steps.waiting(o.attempt.reason, o.attempt.message, launched=launched)
    if o.owner.fleet and observed.ready_reason(o) in ON_ITS_WAY:
        return steps.silent()
    return steps.waiting(Reason.WAITING_FOR_LAUNCH, "its turn within the account's rate of launches is awaited", launched=launched)


def _behind(o: Observed, *, launched: bool | None) -> Stand:
    return steps.waiting(o.attempt.reason or Reason.DENIED, o.attempt.message, launched=launched)


def _still_denied(o: Observed) -> bool:
    """Whether an earlier process was denied the launch, and this one has asked nothing yet: by what is said one asks for all."""
    said = condition(o.instance.status.conditions, "Launched")
    return o.cloud.unasked and said is not None and said.status == "False" and said.reason == Reason.DENIED.value


def _held_back(o: Observed) -> Stand | None:
    """Why nothing may be launched now; rules in the order in which a user wants to hear them."""
    if not o.owner.exists or o.owner.going:
        return steps.waiting(Reason.WAITING_FOR_GROUP, "its group is going or gone")
    if o.owner.paused:
        return steps.waiting(Reason.PAUSED, "spec.paused of the Infrastructure is true")
    if not o.cloud.exists:
        return steps.waiting(Reason.CLOUD_NOT_FOUND, f"there is no Cloud {observed.cloud_name(o)}")
    if o.owner.fleet and o.cloud.unasked and observed.ready_reason(o) in ON_ITS_WAY:
        return steps.silent()
    if not o.cloud.ready:
        return steps.waiting(Reason.WAITING_FOR_CLOUD, f"Cloud {observed.cloud_name(o)}: {o.cloud.message}")
    if o.sight.listed is None:
        return steps.waiting(Reason.WAITING_FOR_CLOUD, f"Cloud {observed.cloud_name(o)}: its machines were not listed yet")
    if not o.cloud.room:
        return steps.waiting(
            Reason.LIMIT_REACHED, f"Cloud {observed.cloud_name(o)}: its account has its maxInstances of {o.cloud.limit} machines"
        )
    return None


# --- launched -------------------------------------------------------------------------------------------------------
def _sent(o: Observed) -> Plan:
    known = observed.known(o)
    if known is not None:
        return _with_machine(o, known)
    if o.instance.status.machine is not None:
        return _out_of_sight(o)
    burnt = _burnt(o)
    if burnt is not None:
        return Plan((), burnt)
    return _outcome_unknown(o)


def _outcome_unknown(o: Observed) -> Plan:
    if o.first is not First.OWN:
        return _outcome_of_batch_unknown(o)
    if _still_denied(o):
        return Plan((), steps.silent())
    launching = steps.waiting(Reason.LAUNCHING, steps.LAUNCHING, launched=False)
    over = _over(o)
    if over is not None:
        return over
    match o.attempt.sent:
        case Sent.IN_FLIGHT:
            # While the same call is tried again, what the last answer was stays said: a status must not flap.
            said = condition(o.instance.status.conditions, "Launched")
            return Plan((), steps.keep(o) if said is not None and said.reason in _TRIED_AGAIN else launching)
        case Sent.UNKNOWN:
            if not o.cloud.ready:
                return Plan((), _unusable(o))
            due = _due(o, _pause(o))
            stand = steps.waiting(o.attempt.reason or Reason.LAUNCHING, o.attempt.message, launched=False)
            return Plan((Resend(),), stand) if o.now >= due else Plan((), stand, due)
        case Sent.PACED if o.now < (due := _turn(o)):
            return Plan((), _paced(o, launched=False), due)
        case Sent.BEHIND if o.cloud.ready and o.now < (due := _turn(o)):
            return Plan((), _behind(o, launched=False), due)
        case _:
            if not o.cloud.ready:
                return Plan((), _unusable(o))
            return Plan((Resend(),), launching)


def _outcome_of_batch_unknown(o: Observed) -> Plan:
    """Its first member sends, and sends again; this one hears what came of it."""
    over = _over(o)
    if over is not None:
        return over
    if o.first in LEFT_ALONE:
        return _cannot_be_repeated(o)
    if o.attempt.sent in (Sent.UNKNOWN, Sent.BEHIND) and o.attempt.reason is not None:
        return Plan((), steps.waiting(o.attempt.reason, o.attempt.message, launched=False))
    return Plan((), steps.silent())


def _pause(o: Observed) -> timedelta:
    """How long the same call waits: longer from time to time, not with others of one moment, and as the cloud itself asks."""
    plain = min(_AGAIN_FIRST * 2 ** min(o.attempt.tries - 1, 10), _AGAIN_MOST) if o.attempt.tries else _AGAIN_FIRST
    jitter = random.Random(f"{o.instance.metadata.uid}/{o.attempt.tries}").uniform(0.9, 1.1)
    return max(plain * jitter, o.attempt.after)


def _unusable(o: Observed) -> Stand:
    return steps.waiting(Reason.WAITING_FOR_CLOUD, f"Cloud {observed.cloud_name(o)}: {o.cloud.message}", launched=False)


def _over(o: Observed) -> Plan | None:
    """The answer after which the launch is never sent again, where there was one."""
    refused = steps.lost(o.attempt.reason or Reason.CLOUD_INVALID, o.attempt.message)
    match o.attempt.sent:
        case Sent.REFUSED:
            return Plan((), refused)
        case Sent.DOUBTFUL:
            # This call made nothing; one before it, that nobody has an answer to, may have or may still.
            said = f"refused ({o.attempt.message}); an earlier call had no answer, and what it may have made is looked for by tag"
            return _find_by_tag(o, said, refused)
        case Sent.MISMATCH:
            return _cannot_be_repeated(o)
        case _:
            return None


def _cannot_be_repeated(o: Observed) -> Plan:
    waited_for = "the launch cannot be repeated; its machine is looked for by tag"
    return _find_by_tag(o, waited_for, steps.lost(Reason.LAUNCH_LOST, "the launch cannot be repeated and no machine of it appeared"))


def _find_by_tag(o: Observed, waited_for: str, burnt: Stand) -> Plan:
    """Whatever the calls made shows within the settling time, or nothing was made."""
    since = max(each for each in (observed.launch_time(o), o.attempt.at) if each is not None)
    until = since + o.cloud.settle
    if o.sight.listed is not None and o.sight.listed > until:
        return Plan((), burnt)
    return Plan((), steps.waiting(Reason.LAUNCHING, waited_for, launched=False), until)


def _burnt(o: Observed) -> Stand | None:
    said = condition(o.instance.status.conditions, "Launched")
    if said is None or said.status != "False" or said.reason not in BURNT:
        return None
    return steps.lost(Reason(said.reason), said.message)


def _with_machine(o: Observed, machine: Machine) -> Plan:
    others = [each for each in observed.live(o.sight.machines) if each.id != machine.id]
    if others:
        ids = ", ".join(sorted(each.id for each in (*others, machine)))
        return Plan((), steps.failing("Unknown", Reason.DUPLICATE_MACHINE, f"machines {ids} carry the same identity", machine))
    if not machine.ours and machine.state not in ending.ENDING:
        return Plan((), steps.failing("Unknown", Reason.MACHINE_UNKNOWN, steps.not_ours(machine), machine))
    match machine.state:
        case MachineState.RUNNING:
            return _running(o, machine)
        case MachineState.PENDING:
            return _until_started(o, machine, Reason.BOOTING, "the cloud makes the machine")
        case MachineState.UNKNOWN:
            said = f"the cloud calls its state {machine.state_text!r}"
            return Plan((), steps.failing("Unknown", Reason.MACHINE_UNKNOWN, steps.of(machine, said), machine))
        case fault:
            phase, reason, said = _FAULTS[fault]
            return Plan((), steps.failing(phase, reason, steps.of(machine, said), machine))


def _running(o: Observed, machine: Machine) -> Plan:
    was_ready = o.instance.status.ready_time is not None
    if not o.instance.spec.health.probes:
        return Plan((), steps.ready(machine, "the cloud says that the machine runs"))
    if o.health.healthy is None and was_ready:
        return Plan((), Stand("", Reason.READY, "", machine, keep=True))
    if o.health.healthy:
        return Plan((), steps.ready(machine, "all probes pass"))
    if was_ready:
        return Plan((), steps.failing("Unhealthy", Reason.PROBE_FAILED, o.health.message, machine))
    if not observed.probed(o.instance, machine):
        return _until_started(o, machine, Reason.STARTING, f"it has no {o.instance.spec.health.address.lower()} address to probe")
    if o.health == Health():
        # Nothing is held against a machine that was not asked; its id is recorded all the same.
        told = steps.failing("Starting", Reason.STARTING, "its first probe is awaited", machine)
        return Plan((), told if o.instance.status.machine is None else _starting_untold(machine))
    if not o.health.asked:
        return Plan((), steps.failing("Starting", Reason.STARTING, o.health.message, machine))
    return _until_started(o, machine, Reason.STARTING, o.health.message)


def _told_from(o: Observed) -> datetime | None:
    """When it is worth saying that the machine starts: of one of a fleet, whose id is recorded, not at once."""
    if not o.owner.fleet or o.probed_since is None or o.instance.status.machine is None or observed.ready_reason(o) not in ON_ITS_WAY:
        return None
    return o.probed_since + _STARTS_UNTOLD


def _starting_untold(machine: Machine) -> Stand:
    """Most serve in a moment; a write of its own would say nothing that anybody waits for."""
    return Stand("", Reason.STARTING, "", machine, keep=True, untold=True)


def _until_started(o: Observed, machine: Machine, reason: Reason, message: str) -> Plan:
    """Whether its time to start is over, by a list that was begun then: before it the controller may have been cut off, or have slept."""
    # Of a launch that the cloud refused for long, the machine is younger than the record.
    made = min(machine.created or observed.launch_time(o), o.now)
    deadline = max(observed.launch_time(o), made) + timedelta(seconds=o.instance.spec.health.startup_seconds)
    # Nothing is held against a machine that nobody could see since.
    unseen = bool(o.sight.trouble)
    if unseen or o.sight.listed is None or o.sight.listed < deadline:
        told = _told_from(o) if reason is Reason.STARTING else None
        if told is not None and o.now < told:
            return Plan((), _starting_untold(machine), told if unseen else min(told, deadline))
        phase = "Booting" if reason is Reason.BOOTING else "Starting"
        return Plan((), steps.failing(phase, reason, message, machine), None if unseen else deadline)
    why = f"not healthy within {o.instance.spec.health.startup_seconds} s of its launch"
    last = o.health.message or ("the cloud still makes it" if reason is Reason.BOOTING else message)
    return Plan((), steps.failing("Failed", Reason.STARTUP_TIMEOUT, f"{why}; last: {last}" if last else why, machine))


def _out_of_sight(o: Observed) -> Plan:
    """Its id is recorded and no list shows it."""
    if observed.gone(o):
        return Plan(
            (),
            Stand(
                "Missing", Reason.MACHINE_MISSING, "the cloud knows the machine no more", None, healthy=(False, Reason.MACHINE_MISSING, "")
            ),
        )
    return Plan((), steps.keep(o))
