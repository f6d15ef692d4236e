"""Launches on EC2 that go wrong: no reply, late visibility, refusals, a token that somebody used. Never two machines, never a leak."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from controller import errors
from controller.engine import prober
from controller.ports import CloudDriver, Machine
from tests.simulated.ec2 import Refusal, ec2_client
from tests.simulated.world import World
from tests.system import clouds
from tests.system.documents import OWN, alone, cloud, infrastructure, many, service, template
from tests.system.ec2 import Ec2Rig, play
from tests.system.rig import ids, steady

INF = float("inf")
SIZES = [pytest.param(1, id="one"), pytest.param(30, id="thirty")]


@pytest.mark.parametrize("number", SIZES)
@pytest.mark.parametrize("made", [pytest.param(True, id="made"), pytest.param(False, id="not made")])
def test_a_dropped_connection_repeats_the_same_call_to_the_byte(tmp_path: Path, made: bool, number: int) -> None:
    async def main(rig: Ec2Rig) -> None:
        rig.world.fail("RunInstances", errors.Transient("dropped"), after=made, times=2)
        await rig.make(*many(number))
        await rig.until("Instance", "shop-app-0", "CloudUnreachable", "Launched", seconds=30)
        await rig.wait(rig.ready, 120)

    rig = play(tmp_path, main, steady(lag_seconds=10))
    assert len(rig.made()) == number
    first, *again = rig.launches()
    assert [each.fields.flat for each in again] == [first.fields.flat] * 2
    assert min(then.at - before.at for before, then in itertools.pairwise([first, *again])) >= 1.8, "2 s, jittered by 10 %"


@pytest.mark.parametrize("number", SIZES)
def test_machines_that_no_read_shows_for_a_minute_are_neither_made_again_nor_given_up(tmp_path: Path, number: int) -> None:
    async def main(rig: Ec2Rig) -> None:
        rig.light.behaviour.mutations_lag = True
        await rig.make(*many(number))
        await rig.wait(lambda: len(rig.made()) == number, 30)
        await rig.let_pass(45)
        assert all(each["status"]["machine"]["id"] for each in rig.instances())
        await rig.wait(rig.ready, 100)
        await rig.unchanged(100)

    rig = play(tmp_path, main, steady(lag_seconds=60))
    assert len(rig.launches()) == 1
    assert rig.outcomes("DescribeInstances").count("InvalidInstanceID.NotFound") >= 2, "asked by id it was unknown too"


@pytest.mark.parametrize("lost", [pytest.param(False, id="answered"), pytest.param(True, id="reply lost")])
@pytest.mark.parametrize("lag", [pytest.param(5, id="short lag"), pytest.param(60, id="a minute's lag")])
def test_not_found_right_after_the_launch_is_no_proof_of_an_end(tmp_path: Path, lag: float, lost: bool) -> None:
    """EC2 answers NotFound to the very call that ends the machine: it is asked again until the machine shows."""

    async def main(rig: Ec2Rig) -> None:
        rig.light.behaviour.mutations_lag = True
        if lost:
            rig.world.fail("RunInstances", errors.Transient("dropped"), after=True, times=INF)
        await rig.make(*many(3))
        await rig.wait(lambda: len(rig.made()) == 3, 30)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 600)
        assert rig.world.live() == []

    rig = play(tmp_path, main, steady(lag_seconds=lag))
    assert lost or "InvalidInstanceID.NotFound" in rig.outcomes("TerminateInstances")
    assert len(rig.made()) == 3


def test_sixty_different_machines_keep_to_the_published_rate_and_none_is_throttled(tmp_path: Path) -> None:
    """Five at once and two a second: sixty take (60 - 5) / 2 seconds at the least."""
    bound = (60 - 5) / 2

    async def main(rig: Ec2Rig) -> None:
        rig.light.behaviour.throttles = True
        await rig.make(*many(60, OWN))
        await rig.wait(lambda: len(rig.launches()) >= 20)
        await rig.let_pass(2)
        waiting = [each["status"] for each in rig.instances() if "launch" not in each["status"]]
        assert waiting
        assert not any("conditions" in each for each in waiting)
        assert rig.said("InstanceGroup", "shop-app", "Progressing")[2].endswith("; others await their launch")
        await rig.wait(rig.ready, 200)
        sent = [each.at for each in rig.launches()]
        assert bound <= max(sent) - min(sent) <= 1.15 * bound
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 120)

    rig = play(tmp_path, main)
    assert len(rig.launches()) == 60
    assert not [each for each in rig.world.ledger if each.outcome == "RequestLimitExceeded"]


@pytest.mark.parametrize("number", SIZES)
def test_a_token_that_somebody_used_is_looked_for_by_tag_then_burnt_and_replaced(tmp_path: Path, number: int) -> None:
    async def main(rig: Ec2Rig) -> None:
        rig.world.fail("RunInstances", errors.Transient("dropped"), times=1)
        await rig.make(*many(number))
        await rig.wait(lambda: len(rig.launches()) == 1, 30)
        (sent,) = rig.launches()
        zone, image = sent.fields.text("Placement.AvailabilityZone"), sent.fields.text("ImageId")
        client = ec2_client(rig.light)
        client.run_instances(ImageId=image, MinCount=1, MaxCount=1, ClientToken=sent.token, Placement={"AvailabilityZone": zone})
        (theirs,) = rig.world.live()
        at = rig.clock()
        await rig.hear("LaunchLost", "shop-app-0", 300)
        assert rig.clock() - at >= 120
        await rig.wait(rig.ready, 200)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 120)
        assert ids(rig.world.live()) == {theirs.id}

    rig = play(tmp_path, main)
    assert rig.outcomes("RunInstances").count("IdempotentParameterMismatch") == 1
    assert len(rig.tokens()) == 2
    assert len(rig.made("app")) == number


def test_a_spent_token_is_never_sent_again(tmp_path: Path) -> None:
    """The machine was made, its reply lost, and somebody ended it before the call could be repeated."""

    async def main(rig: Ec2Rig) -> None:
        rig.world.fail("RunInstances", errors.Transient("dropped"), after=True, times=1)
        await rig.make(*alone(1))
        await rig.wait(lambda: len(rig.made()) == 1, 30)
        rig.world.forget(rig.made()[0].id)
        await rig.hear("LaunchLost", "shop-app-0", 300)
        await rig.wait(rig.ready, 200)

    rig = play(tmp_path, main)
    assert rig.outcomes("RunInstances") == ["lost ok", "IdempotentInstanceTerminated", "ok"]
    assert len(rig.made()) == 2


@pytest.mark.parametrize("made", [pytest.param(True, id="made"), pytest.param(False, id="not made")])
def test_a_subnets_tag_that_moves_to_another_zone_moves_no_launch_that_is_unknown(tmp_path: Path, made: bool) -> None:
    """A token counts in its zone: sent to another one it would make a second machine."""

    async def main(rig: Ec2Rig) -> None:
        fault = rig.world.fail("RunInstances", errors.Transient("dropped"), after=made, times=INF)
        await rig.make(cloud(), template("app"))
        await rig.implement("app", one={"subnet": {"name": "two"}})
        await rig.make(infrastructure(service("app")))
        await rig.wait(lambda: len(rig.launches()) == 1, 30)
        _, two, three = rig.light.catalogue.subnets
        two.tags, three.tags = {"Name": "old"}, {"Name": "two"}
        await rig.restart()
        await rig.let_pass(90)
        rig.world.clear(fault)
        await rig.wait(rig.ready, 200)
        assert rig.live()[0].spec["zone"] == "eu-west-1b"
        assert {each.fields.text("SubnetId") for each in rig.launches()} == {two.id}
        # What is made from now on is where the tag is.
        rig.world.kill(rig.live()[0].id)
        await rig.wait(lambda: [each.spec["zone"] for each in rig.live()] == ["eu-west-1c"], 120)

    rig = play(tmp_path, main, steady(lag_seconds=100))
    assert len(rig.made()) == 2
    assert len(rig.tokens()) == 2


def test_a_launch_that_hangs_stops_nobody_else_and_comes_late_as_the_same_machine(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        hang = rig.stick()
        rig.world.fail("RunInstances", hang, times=2, where=lambda token: token == rig.launches()[0].token)
        await rig.make(cloud(), template("app"), template("web"), infrastructure(service("app")))
        await rig.wait(hang.reached.is_set, 30)
        await rig.make(infrastructure(service("web", scaling={"min": 2}), name="other"))
        begun = rig.clock()
        await rig.wait(lambda: rig.ready("other"), 60)
        assert rig.clock() - begun <= 45, "boot and health are 40"
        lost = rig.live("web")[0].id
        rig.world.kill(lost)
        await rig.wait(lambda: len(rig.made("web")) == 3, 20)
        lists = [each.at for each in rig.heard if each.is_list]
        assert max(then - before for before, then in itertools.pairwise(lists)) <= 3
        await rig.until("Instance", "shop-app-0", "CloudUnreachable", "Launched", seconds=60)
        await rig.wait(lambda: len(rig.launches()) == 4, 60)
        assert rig.made("app") == []
        hang.release()
        await rig.wait(lambda: rig.ready() and rig.ready("other"), 120)

    rig = play(tmp_path, main)
    assert len(rig.made("app")) == 1


@pytest.mark.parametrize("number", SIZES)
@pytest.mark.parametrize("goes", [pytest.param(True, id="deleted"), pytest.param(False, id="wanted")])
def test_a_refusal_says_nothing_of_an_earlier_call_that_had_no_answer(tmp_path: Path, goes: bool, number: int) -> None:
    """The process died with its call on the way; there is no room when the next one repeats it, and room when the first arrives."""

    async def main(rig: Ec2Rig) -> None:
        hang = rig.stick()
        rig.world.fail("RunInstances", hang)
        await rig.make(*many(number))
        await rig.wait(hang.reached.is_set, 30)
        await rig.crash()
        rig.world.fail("RunInstances", errors.NoCapacity("full"))
        rig.start()
        await rig.wait(lambda: rig.outcomes("RunInstances") == ["NoCapacity"], 30)
        await rig.until("Instance", "shop-app-0", "Launching", "Launched", seconds=5)
        assert "full" in rig.said("Instance", "shop-app-0", "Launched")[2]
        if goes:
            await rig.delete("Infrastructure", "shop")
        await rig.let_pass(60)
        assert len(rig.instances()) == number, "nobody lets go, nor makes another, while the first call may still arrive"
        hang.release()
        await rig.wait(rig.gone if goes else rig.ready, 200)

    rig = play(tmp_path, main)
    assert len(rig.made()) == number
    assert len(rig.tokens()) == 1


def test_members_of_a_batch_wait_for_what_an_earlier_process_sent_last(tmp_path: Path) -> None:
    """Its first call is minutes old by then, its last one is on the way."""

    async def main(rig: Ec2Rig) -> None:
        hang = rig.stick()
        down = rig.world.fail("RunInstances", errors.Transient("dropped"), times=INF)
        await rig.make(*many(30))
        await rig.let_pass(300)
        rig.world.clear(down)
        rig.world.fail("RunInstances", hang)
        await rig.wait(hang.reached.is_set, 30)
        await rig.delete("Infrastructure", "shop")
        await rig.let_pass(5)
        await rig.restart()
        await rig.let_pass(60)
        assert len(rig.instances()) == 30
        hang.release()
        await rig.wait(rig.gone, 300)

    rig = play(tmp_path, main)
    assert len(rig.made()) == 30
    assert rig.world.live() == []


def test_a_refusal_counts_once_an_earlier_call_can_have_made_nothing(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        rig.world.fail("RunInstances", errors.Transient("dropped"))
        rig.world.fail("RunInstances", errors.NoCapacity("full"))
        await rig.make(*many(30))
        await rig.hear("NoCapacity", "shop-app-0", 200)
        assert rig.clock() >= 120
        await rig.wait(rig.ready, 200)

    rig = play(tmp_path, main)
    assert len(rig.made()) == 30
    assert [each.size for each in rig.launches()] == [30, 30, 15, 15]


class _Kept(clouds.Before):
    """A driver whose list is asked for when something has changed: a thousand lists of 200 machines are four minutes of parsing."""

    def __init__(self, driver: CloudDriver, world: World) -> None:
        super().__init__(driver, lambda action: None)
        self._world = world
        self._kept: tuple[object, Sequence[Machine]] = (None, ())

    def list(self, *, running: bool = True) -> Sequence[Machine]:
        now = self._world.clock()
        looks = [running, *((each.id, each.state(now)) for each in self._world.machines.values())]
        if self._kept[0] != looks:
            self._kept = (looks, super().list(running=running))
        return self._kept[1]


async def _never_healthy(rig: Ec2Rig, number: int, seconds: float) -> None:
    def kept(driver: CloudDriver) -> CloudDriver:
        return _Kept(driver, rig.world)

    rig.world.never_healthy = lambda machine: True
    await rig.restart(lambda: setattr(rig, "wrap_driver", kept))
    await rig.make(cloud(maxInstances=5000), template("app"), infrastructure(service("app", scaling={"min": number})))
    await rig.let_pass(seconds)
    assert "StartupTimeout" in rig.said("InstanceGroup", "shop-app")[2]


def test_a_hundred_machines_that_never_get_healthy_are_replaced_by_a_fifth_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A check a second of each would be 350,000 of them, and tell no more.
    monkeypatch.setattr(prober, "STARTUP_PERIOD_SECONDS", 60.0)
    rig = play(tmp_path, lambda rig: _never_healthy(rig, 100, 3500), steady(shown_seconds=60.0))
    made = [each.created for each in rig.made()]
    # All fail together 600 s after their launch: five times within the hour a fifth of them goes.
    assert sorted(Counter(made).values()) == [20] * 5 + [100]
    assert len(rig.launches()) == 1 + 5, "and by no more calls"
    assert max(sum(1 for each in rig.made() if each.lives(at)) for at in made) <= 120


@pytest.mark.long
def test_a_thousand_machines_that_never_get_healthy_are_replaced_by_a_fifth_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prober, "STARTUP_PERIOD_SECONDS", 60.0)
    rig = play(tmp_path, lambda rig: _never_healthy(rig, 1000, 1400), steady(shown_seconds=60.0))
    made = [each.created for each in rig.made()]
    # All fail 600 s after the last of them was launched.
    assert [number for at, number in sorted(Counter(made).items()) if at > 600] == [200, 200]
    assert len(rig.launches()) == 10 + 2 * 2, "a hundred by each call"
    assert max(sum(1 for each in rig.made() if each.lives(at)) for at in made) <= 1200


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(errors.Transient("dropped"), id="dropped"),
        pytest.param(Refusal("InternalError", "An internal error has occurred", 500), id="500"),
        pytest.param(Refusal("Unavailable", "The server is overloaded", 503), id="503"),
        pytest.param(errors.Throttled("slow down"), id="throttled"),
    ],
)
def test_the_sdk_repeats_no_mutation_by_itself(tmp_path: Path, error: errors.CloudError) -> None:
    """Botocore would, three or five times within a second; a launch that is repeated unseen is no more paced nor counted."""

    async def main(rig: Ec2Rig) -> None:
        rig.world.fail("RunInstances", error, times=1)
        rig.world.fail("TerminateInstances", error, times=1)
        await rig.make(*alone(1))
        await rig.wait(rig.ready, 120)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 120)

    rig = play(tmp_path, main)
    launches, ends = (sorted(each.at for each in rig.heard if each.action == action) for action in ("RunInstances", "TerminateInstances"))
    assert len(launches) == len(ends) == 2
    assert launches[1] - launches[0] >= 1.8
    assert ends[1] - ends[0] >= 1
