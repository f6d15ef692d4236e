"""The Instance's plan over any observation, possible or not: when it may launch, and when it may let go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from controller.api import meta
from controller.api.instance import Instance, InstanceStatus
from controller.api.meta import Condition, condition
from controller.api.reasons import Reason
from controller.ports import MachineState
from controller.reconcilers.instance import status
from controller.reconcilers.instance.observed import BURNT, Acts, Attempt, CloudView, Health, Observed, Owner, Sent, Sight
from controller.reconcilers.instance.plan import plan
from controller.reconcilers.instance.steps import Close, Launch, Record, Release, Resend, Terminate
from tests.properties import build
from tests.properties.build import NOW, seconds
from tests.properties.draws import Seeded, chance

SETTLE = seconds(120)


class Draw:
    """Draws one observation; each part is as often there as not."""

    def __init__(self, rng: Seeded) -> None:
        self.rng = rng
        self.now = NOW + seconds(500)

    def moment(self) -> datetime:
        return NOW + seconds(self.rng.choice((0, 100, 300, 379, 380, 381, 450, 490, 500)))

    def perhaps(self) -> datetime | None:
        return self.moment() if self.rng.random() < 0.6 else None

    def condition(self) -> tuple[Condition, ...]:
        reason = self.rng.choice((Reason.LAUNCHED, *sorted(BURNT), Reason.LAUNCHING, None))
        if reason is None:
            return ()
        return (build.said("Launched", reason is Reason.LAUNCHED, reason, since=self.moment()),)

    def instance(self, *, deleting: bool) -> Instance:
        rng = self.rng
        launch = build.launched(at=self.moment()) if rng.random() < 0.7 else InstanceStatus()
        machine = build.launched(machine="m-0", state=rng.choice(("pending", "running", "missing"))).machine
        update = {
            "machine": machine if rng.random() < 0.5 else None,
            "conditions": self.condition(),
            "ready_time": NOW if rng.random() < 0.3 else None,
        }
        given_up = rng.choice(("m-0", "m-1", "batch-0"))
        annotations = rng.choice(({}, {}, {}, {meta.ABANDON: given_up}, {meta.SCALE_IN: "true"}))
        return build.instance(status=launch.model_copy(update=update), deleting=deleting, annotations=annotations)

    def attempt(self) -> Attempt:
        rng = self.rng
        sent = rng.choice((Sent.NO, *Sent))
        made = build.machine("m-0", MachineState.PENDING) if sent is Sent.NO and rng.random() < 0.4 else None
        at = None if sent is Sent.NO and made is None else self.moment()
        refused = sent in (Sent.REFUSED, Sent.DOUBTFUL)
        return Attempt(sent, Reason.NO_CAPACITY if refused else Reason.LAUNCHING, "why", made, at=at)

    def observed(self, *, deleting: bool) -> Observed:
        rng = self.rng
        ids = rng.sample(("m-0", "m-1"), rng.choice((0, 0, 1, 1, 2)))
        trouble = rng.choice(("", "", "", "no answer"))
        return Observed(
            instance=self.instance(deleting=deleting),
            now=self.now,
            owner=Owner(
                exists=rng.random() < 0.9,
                going=rng.random() < 0.3,
                paused=rng.random() < 0.2,
                blockers=rng.choice(((), (), (), ("web",))),
                counted=rng.random() < 0.5,
            ),
            cloud=CloudView(exists=rng.random() < 0.9, ready=rng.random() < 0.8, settle=SETTLE, room=rng.random() < 0.8),
            sight=Sight(
                listed=self.perhaps(),
                machines=tuple(build.machine(id, rng.choice((*MachineState, MachineState.TERMINATED))) for id in ids),
                gone="m-0" not in ids and rng.random() < 0.5,
                trouble=trouble,
            ),
            attempt=self.attempt(),
            health=Health(rng.choice((True, False, None)), "it was tried"),
            acts=Acts(terminated=self.perhaps(), closed=self.perhaps()),
        )


def many(rng: Seeded, *, deleting: bool) -> Iterator[Observed]:
    """Some observations: what matters is rare among them, and drawing one takes less than hypothesis does."""
    draw = Draw(rng)
    for _ in range(20):
        yield draw.observed(deleting=deleting)


def proved(o: Observed) -> bool:
    """Rule 5, as it stands in the design: whether it is certain that nothing of this Instance lives or can come to life."""
    listed, closed = o.sight.listed, o.acts.closed
    machines: dict[str, MachineState] = {each.id: each.state for each in o.sight.machines}
    recorded, made, launch = o.instance.status.machine, o.attempt.machine, o.instance.status.launch
    if listed is None or closed is None or o.sight.trouble or o.attempt.sent is Sent.IN_FLIGHT:
        return False
    if any(state is not MachineState.TERMINATED for state in machines.values()):
        return False
    known = recorded.id if recorded is not None else made.id if made is not None else None
    said = condition(o.instance.status.conditions, "Launched")
    moments = (o.instance.metadata.creation_timestamp, launch and launch.time, o.attempt.at, said and said.last_transition_time)
    evidence = [each for each in moments if each is not None]
    visible_by = max(evidence, default=closed) + SETTLE
    if known is not None:
        return machines.get(known) is MachineState.TERMINATED or (o.sight.gone and o.now >= visible_by)
    if machines:
        return True
    refused = o.attempt.sent is Sent.REFUSED or (said is not None and said.reason in BURNT - {Reason.LAUNCH_LOST})
    if launch is None or refused:
        return listed > closed
    return listed > max(visible_by, closed, closed if o.attempt.at is not None else closed + SETTLE)


@given(chance())
def test_an_instance_is_let_go_only_with_proof(rng: Seeded) -> None:
    for o in many(rng, deleting=True):
        for each in plan(o).actions:
            if isinstance(each, Release):
                _may_go(o, each)


def _may_go(o: Observed, release: Release) -> None:
    recorded = o.instance.status.machine
    match release.reason:
        case Reason.ABANDONED:
            named = recorded.id if recorded is not None else o.instance.spec.batch.id
            assert o.instance.metadata.annotations[meta.ABANDON] == named
        case Reason.OWNER_MISSING:
            assert not o.owner.exists
        case _:
            assert release.reason is Reason.DELETED
            assert not o.owner.blockers
            assert o.owner.going or o.owner.counted or meta.SCALE_IN not in o.instance.metadata.annotations
            never_sent = not o.cloud.exists and o.instance.status.launch is None
            assert never_sent or (o.cloud.ready and proved(o)), o


@given(chance())
def test_with_proof_it_is_let_go(rng: Seeded) -> None:
    for drawn in many(rng, deleting=True):
        o = replace(drawn, owner=Owner(going=True), cloud=replace(drawn.cloud, exists=True, ready=True))
        if proved(o) and o.attempt.machine is None:
            assert any(isinstance(each, Release) for each in plan(o).actions), o


@given(chance())
def test_a_deleting_instance_launches_nothing_and_one_that_stays_ends_nothing(rng: Seeded) -> None:
    for going in many(rng, deleting=True):
        assert not any(isinstance(each, Launch | Resend | Record) for each in plan(going).actions)
    for staying in many(rng, deleting=False):
        assert not any(isinstance(each, Terminate | Release | Close) for each in plan(staying).actions)


@given(chance())
def test_a_launch_needs_an_owner_a_cloud_a_list_and_no_trace_of_an_earlier_one(rng: Seeded) -> None:
    for o in many(rng, deleting=False):
        for each in plan(o).actions:
            if isinstance(each, Launch):
                _may_launch(o)
            if isinstance(each, Resend):
                _may_resend(o)


def _may_launch(o: Observed) -> None:
    assert o.instance.status.launch is None
    assert not o.sight.machines
    assert o.owner.exists
    assert not o.owner.going
    assert not o.owner.paused
    assert o.cloud.exists
    assert o.cloud.ready
    assert o.cloud.room
    assert o.sight.listed is not None


def _may_resend(o: Observed) -> None:
    assert o.instance.status.launch is not None
    assert o.instance.status.machine is None
    assert not o.sight.machines
    assert o.cloud.ready
    assert o.attempt.sent in (Sent.NO, Sent.HELD, Sent.PACED, Sent.BEHIND, Sent.UNKNOWN)
    said = condition(o.instance.status.conditions, "Launched")
    assert said is None or said.reason not in BURNT


@given(chance())
def test_a_machine_that_was_not_asked_for_by_id_is_never_ended(rng: Seeded) -> None:
    for o in many(rng, deleting=True):
        made = () if o.attempt.machine is None else (o.attempt.machine,)
        own = {each.id for each in (*o.sight.machines, *made)}
        for each in plan(o).actions:
            if isinstance(each, Terminate):
                assert set(each.ids) <= own
                assert o.cloud.ready


@given(chance(), st.booleans())
def test_the_status_is_stable_and_its_times_move_only_on_flips(rng: Seeded, deleting: bool) -> None:
    o = Draw(rng).observed(deleting=deleting)
    before = o.instance
    stand = plan(o).stand
    said = status.report(before, stand, o.now)
    after = before.model_copy(update={"status": said})
    assert status.report(after, stand, o.now + timedelta(hours=1)) == said
    assert said.launch == before.status.launch, "only the launcher writes the launch"
    assert said.ready_time is None or before.status.ready_time in (None, said.ready_time)
    for each in said.conditions:
        old = condition(before.status.conditions, each.type)
        if old is not None:
            assert (old.last_transition_time == each.last_transition_time) or old.status != each.status
        assert len(each.message) <= 1024
    Instance.model_validate(after.model_dump(mode="json", by_alias=True))
