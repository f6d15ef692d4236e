"""An account that throttles below its published rate: launches come more slowly at each complaint, and at the old pace again later."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from controller import errors
from controller.ports import Limit
from tests.system import ec2, rig
from tests.system.documents import OWN, cloud, infrastructure, many, service, template
from tests.system.rig import Rig, steady

#: What EC2 publishes of RunInstances, and the engine's part of it: seconds from one launch to the next.
RATE = {"create": (Limit(5.0, 2.0),)}
USUAL = 1 / (2.0 * 0.95)
COMPLAINTS = 10


@pytest.mark.parametrize(
    ("play", "action"), [pytest.param(rig.play, "create", id="simulated"), pytest.param(ec2.play, "RunInstances", id="ec2")]
)
def test_a_throttled_account_is_asked_more_slowly_at_each_complaint_and_at_the_old_pace_later(
    tmp_path: Path, play: Callable[..., Rig], action: str
) -> None:
    async def main(rig: Rig) -> None:
        rig.world.fail(action, errors.Throttled("slow down"), times=COMPLAINTS)
        await rig.make(*many(20, OWN))
        await rig.wait(rig.ready, 300)
        _slower_then_faster(_sent(rig, action))
        # By 0.05 of the rate each 10 s it is whole again after 190 s at the latest, counted from the last complaint.
        await rig.let_pass(150)
        before = len(_sent(rig, action))
        await rig.make(infrastructure(service("app", scaling={"min": 40})))
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 40, 120)
        again = _sent(rig, action)[before:]
        assert (20 - 5) * USUAL <= again[-1] - again[0] <= 1.15 * 20 * USUAL

    rig = play(tmp_path, main, steady(limits=RATE))
    assert [each.outcome for each in rig.world.ledger if each.action == action].count("Throttled") == COMPLAINTS
    assert len(_sent(rig, action)) == 40 + COMPLAINTS
    tokens = {each.token for each in rig.world.ledger if each.action == action}
    assert len(tokens) == len(rig.made()) == 40


@pytest.mark.parametrize("complaints", [pytest.param(1, id="once"), pytest.param(4, id="four times")])
def test_a_launch_of_a_hundred_that_is_throttled_does_not_wait_for_a_hundred_tokens(tmp_path: Path, complaints: int) -> None:
    """A refused call takes none of what EC2 counts by machines, and most complaints are of calls, which others may have made."""

    async def main(rig: Rig) -> None:
        rig.world.fail("RunInstances", errors.Throttled("Request limit exceeded."), times=complaints)
        await rig.make(cloud(maxInstances=1000), template("app"), infrastructure(service("app", scaling={"min": 300})))
        await rig.wait(lambda: len(rig.made()) == 300, 40)

    rig = ec2.play(tmp_path, main)
    assert len(_sent(rig, "RunInstances")) == 3 + complaints


def _sent(rig: Rig, action: str) -> list[float]:
    """When each launch was sent."""
    return [each.time for each in rig.world.ledger if each.action == action]


def _slower_then_faster(sent: list[float]) -> None:
    """After the first burst each complaint doubles the gap, up to 16 times the usual; what is answered well shortens it again."""
    burst = sent.count(sent[0])
    assert burst <= 5
    gaps = [then - before for before, then in itertools.pairwise(sent[burst - 1 :])]
    complained, answered = gaps[: COMPLAINTS - burst], gaps[COMPLAINTS - burst :]
    for number, gap in enumerate(complained):
        assert gap >= 0.9 * USUAL * min(16, 2 ** (number + 1)), f"gap {number} of {gaps}"
    assert 0.9 * 16 * USUAL <= max(complained) <= 1.15 * 16 * USUAL
    assert sum(answered[:5]) >= 5 * 6 * USUAL, "by a little each 10 s"
    assert sum(answered[-5:]) <= 5 * max(complained) / 3, "and the pace recovers"
