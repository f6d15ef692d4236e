"""What a candidate decides about a Lease that it sees, by its own clock alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from controller import election, errors
from controller.election import Decision, Lease, Observation, Step

ME, OTHER = "me_1", "other_1"
WALL = datetime(2030, 1, 1, 12, tzinfo=UTC)


def settings(**changes: Any) -> election.Settings:
    return election.Settings("occopus", "leader", ME, **changes)


def obj(holder: str | None = OTHER, renewed: str = "a", version: str = "1", **spec: Any) -> dict[str, Any]:
    fields = {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15, "leaseTransitions": 3, **spec}
    return {"metadata": {"name": "leader", "resourceVersion": version}, "spec": {k: v for k, v in fields.items() if v is not None}}


def seen(*objects: dict[str, Any] | None) -> Observation:
    """What is known after the Lease was read at 100 s, 101 s, and so on."""
    found = Observation()
    for number, each in enumerate(objects):
        found = election.observe(found, each, 100.0 + number, settings())
    return found


def decided(found: Observation, now: float) -> Decision:
    return election.decide(found.lease, found.since, ME, now)


@pytest.mark.parametrize(
    ("objects", "now", "step"),
    [
        pytest.param([None], 100, Step.CREATE, id="there is none"),
        pytest.param([obj()], 114.9, Step.WAIT, id="held, and not run out yet"),
        pytest.param([obj()], 115, Step.TAKE, id="held, and run out since we saw it"),
        pytest.param([obj(), obj()], 115, Step.TAKE, id="seen again unchanged, the time goes on"),
        pytest.param([obj(), obj(version="2")], 115, Step.TAKE, id="a label is no renewal"),
        pytest.param([obj(), obj(renewed="b")], 115.9, Step.WAIT, id="renewed, the time begins again"),
        pytest.param([obj(), obj(holder="third_1")], 115.9, Step.WAIT, id="another holder, the time begins again"),
        pytest.param([obj(holder="")], 100, Step.TAKE, id="released"),
        pytest.param([obj(holder=None)], 100, Step.TAKE, id="nobody ever held it"),
        pytest.param([{"metadata": {"name": "leader", "resourceVersion": "1"}}], 100, Step.TAKE, id="no spec at all"),
        pytest.param([obj(leaseDurationSeconds=60)], 159.9, Step.WAIT, id="the holder's duration counts, not ours"),
        pytest.param([obj(leaseDurationSeconds=None)], 114.9, Step.WAIT, id="without a duration ours counts"),
        pytest.param([obj(holder=ME)], 100, Step.RENEW, id="ours, though we never heard so"),
        pytest.param([obj(holder=ME)], 1000, Step.RENEW, id="ours, and nobody took it meanwhile"),
        pytest.param([obj(), None], 114.9, Step.WAIT, id="deleted by hand, its holder may not know yet"),
        pytest.param([obj(), None], 115, Step.CREATE, id="deleted by hand, its holder has stopped"),
        pytest.param([obj(), None, obj(renewed="b")], 116.9, Step.WAIT, id="deleted and put back by its holder"),
        pytest.param([obj(holder=ME), None], 101, Step.CREATE, id="ours was deleted by hand"),
        pytest.param([obj(holder="", leaseDurationSeconds=1), None], 101, Step.CREATE, id="released and deleted"),
    ],
)
def test_the_step_follows_from_what_was_seen(objects: list[dict[str, Any] | None], now: float, step: Step) -> None:
    assert decided(seen(*objects), now).step is step


def test_a_candidate_waits_until_the_lease_runs_out() -> None:
    assert decided(seen(obj()), 104) == Decision(Step.WAIT, 11.0)


@pytest.mark.parametrize(
    ("lease", "step", "transitions"),
    [
        pytest.param(None, Step.CREATE, 0, id="the first one ever"),
        pytest.param(seen(obj()).lease, Step.TAKE, 4, id="taken over"),
        pytest.param(seen(obj(holder="")).lease, Step.TAKE, 4, id="taken up after a release"),
        pytest.param(seen(obj(), None).lease, Step.CREATE, 4, id="made again for another holder"),
        pytest.param(seen(obj(holder=ME), None).lease, Step.CREATE, 3, id="made again for us"),
    ],
)
def test_a_new_holder_is_written_with_the_number_of_transitions(lease: Lease | None, step: Step, transitions: int) -> None:
    spec = election.written(step, lease, WALL, settings())["spec"]
    assert spec == {
        "holderIdentity": ME,
        "leaseDurationSeconds": 15,
        "acquireTime": "2030-01-01T12:00:00.000000Z",
        "renewTime": "2030-01-01T12:00:00.000000Z",
        "leaseTransitions": transitions,
    }


def test_a_renewal_changes_the_time_and_is_bound_to_what_was_seen() -> None:
    assert election.written(Step.RENEW, seen(obj(holder=ME, version="7")).lease, WALL, settings()) == {
        "metadata": {"resourceVersion": "7"},
        "spec": {"leaseDurationSeconds": 15, "renewTime": "2030-01-01T12:00:00.000000Z"},
    }


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"renew_deadline_seconds": 10.1}, id="the deadline is beyond the margin"),
        pytest.param({"retry_seconds": 10.0}, id="not one retry before the deadline"),
        pytest.param({"retry_seconds": 0.0}, id="no pause"),
        pytest.param({"duration_seconds": 14}, id="too short for the rest"),
    ],
)
def test_times_that_would_let_two_lead_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(errors.UsageError):
        settings(**changes)


def test_a_restarted_process_is_another_holder() -> None:
    first, second = election.new_identity({"POD_NAME": "occopus-0"}), election.new_identity({"POD_NAME": "occopus-0"})
    assert first != second
    assert {first.partition("_")[0], second.partition("_")[0]} == {"occopus-0"}
    assert election.new_identity({}).partition("_")[0]
