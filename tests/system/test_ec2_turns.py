"""What is refused on EC2 is asked for less and less, and never keeps others from what they can have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from controller import errors
from tests.simulated.ec2 import Refusal
from tests.system.documents import OWN, PLAIN, Document, cloud, implementation, infrastructure, many, service, template
from tests.system.ec2 import Ec2Rig, play

INF = float("inf")
UNSUPPORTED = Refusal("Unsupported", "The requested configuration is currently not supported.", 400)
DENIED = errors.Denied("You are not authorized to perform this operation.")
FULL = pytest.param(errors.NoCapacity("full"), 7, id="no capacity")


def _batches(rig: Ec2Rig, service: str) -> set[str]:
    return {each["spec"]["batch"]["id"] for each in rig.instances() if each["spec"]["service"] == service}


def _reasons(rig: Ec2Rig, type: str = "Launched") -> list[str]:
    return [rig.why("Instance", each["metadata"]["name"], type) for each in rig.instances()]


def _services(number: int, each: int) -> list[Document]:
    """As many services of as many small machines."""
    services = [service(f"s{index}", scaling={"min": each}) for index in range(number)]
    return [cloud(maxInstances=1000), *(template(f"s{index}") for index in range(number)), infrastructure(*services)]


def _other() -> list[Document]:
    """A service for which there is room."""
    return [template("db", implementations=[implementation(size="large")]), infrastructure(service("db"), name="other")]


# --- no room
def test_a_service_with_room_does_not_wait_behind_those_without(tmp_path: Path) -> None:
    """Five services of a hundred: all that they ask for in halves would keep the account's tokens for machines for minutes."""

    async def main(rig: Ec2Rig) -> None:
        rig.light.behaviour.throttles = True
        rig.world.settings.capacity = {"t3.small": 0}
        await rig.make(*_services(5, 100))
        await rig.let_pass(30)
        await rig.make(*_other())
        await rig.wait(lambda: bool(rig.live("db")), 12)

    rig = play(tmp_path, main)
    assert "RequestLimitExceeded" not in rig.outcomes("RunInstances")


@pytest.mark.long
def test_a_service_that_comes_while_another_is_halved_is_made_at_once(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        rig.light.behaviour.throttles = True
        rig.world.settings.capacity = {"t3.small": 0}
        await rig.make(*_services(8, 100))
        await rig.wait(lambda: len(rig.launches()) >= 6, 30)
        await rig.make(*_other())
        await rig.wait(lambda: bool(rig.live("db")), 12)

    play(tmp_path, main)


@pytest.mark.parametrize(
    ("refusal", "halves"),
    [
        FULL,
        pytest.param(errors.QuotaExceeded("quota"), 7, id="quota", marks=pytest.mark.long),
        pytest.param(UNSUPPORTED, 1, id="not to be had in any number"),
    ],
)
def test_a_hundred_machines_without_room_are_asked_for_thirty_times_an_hour(
    tmp_path: Path, refusal: errors.CloudError | Refusal, halves: int
) -> None:
    """100, 50, 25, 12, 6, 3, 1; then one at a time with the back-off: at once, after 10 s, doubling to 300 s, which is 1 + 5 + 12."""

    async def main(rig: Ec2Rig) -> None:
        fault = rig.world.fail("RunInstances", refusal, times=INF)
        await rig.make(*many(100))
        await rig.let_pass(3600)
        sizes = [each.size for each in rig.launches()]
        assert sizes[:halves] == [100, 50, 25, 12, 6, 3, 1][:halves]
        assert set(sizes[halves:]) == {1}
        assert halves + 10 <= len(sizes) <= halves + 20
        assert "BackOff" in rig.why("InstanceGroup", "shop-app")
        rig.world.clear(fault)
        # One shows that there is room, the rest is asked for by one call.
        before = len(sizes)
        await rig.wait(rig.ready, 330 + 60)
        assert [each.size for each in rig.launches()[before:]] == [1, 99]

    assert len(play(tmp_path, main).made()) == 100


@pytest.mark.long
def test_where_all_implementations_are_full_each_is_asked_by_one_machine(tmp_path: Path) -> None:
    """For three minutes an implementation without room is passed over: 20 times an hour each, beside the back-off."""

    async def main(rig: Ec2Rig) -> None:
        rig.world.settings.capacity = {"t3.small": 0, "t3.large": 0}
        two = template("app", implementations=[implementation("one"), implementation("two", size="large")])
        await rig.make(cloud(maxInstances=1000), two, infrastructure(service("app", scaling={"min": 100})))
        await rig.let_pass(3600)
        halved = [each for each in rig.launches() if each.size > 1]
        assert len(halved) <= 2 * 6
        assert len(rig.launches()) <= 2 * (7 + 20 + 18)
        rig.world.settings.capacity = {}
        await rig.wait(rig.ready, 330 + 60)

    assert len(play(tmp_path, main).made()) == 100


def test_what_fits_is_found_by_few_calls_and_the_size_that_fitted_is_asked_for_again(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        rig.world.settings.capacity = {"t3.small": 80}
        await rig.make(*many(100))
        await rig.wait(lambda: _reasons(rig, "Ready").count("Ready") == 80, 200)
        sizes = [each.size for each in rig.launches()]
        assert sizes[: len(_FITTED)] == _FITTED
        rig.world.settings.capacity = {}
        await rig.wait(rig.ready, 330 + 200)

    assert len(play(tmp_path, main).made()) == 100


#: 80 of 100: what was refused is halved, what fitted is asked for again, until not even one fits.
_FITTED = [100, 50, 50, 25, 25, 12, 6, 3, 3, 1]


# --- denied
def _everywhere(token: str) -> bool:
    return True


async def _deny(rig: Ec2Rig, where: Callable[[str], bool] = _everywhere) -> None:
    """A hundred different machines, all denied, until it has settled."""
    rig.light.behaviour.throttles = True
    rig.world.fail("RunInstances", DENIED, times=INF, where=where)
    await rig.make(*many(100, OWN))
    await rig.wait(lambda: len(rig.instances()) == 100 and set(_reasons(rig)) == {"Denied"}, 60)


def _allow(rig: Ec2Rig) -> None:
    rig.world.faults.clear()


def _seconds_for(number: int) -> float:
    """What the account's rate of launches takes for so many."""
    return (number - 4) / (2 * 0.95)


def test_denied_launches_are_asked_for_by_one_and_all_go_on_once_it_is_allowed(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await _deny(rig)
        await rig.let_pass(600 - rig.clock())
        assert len(rig.launches()) <= 100
        late = [each.at for each in rig.launches() if each.at > 60]
        assert len(late) <= 9 * 7, "each ten seconds at most, whatever the number of Instances"
        said = {rig.said("Instance", each["metadata"]["name"], "Launched")[2] for each in rig.instances()}
        assert len(said) == 2, "the one that asks, and those that wait for it"
        assert all("not authorized" in each for each in said)
        before = len(rig.launches())
        _allow(rig)
        await rig.wait(lambda: len(rig.made()) == 100, 15 + _seconds_for(100))
        assert len(rig.launches()) == before + 100
        await rig.wait(rig.ready, 100)

    rig = play(tmp_path, main)
    assert len(rig.tokens()) == 100
    assert "RequestLimitExceeded" not in rig.outcomes("RunInstances")


def test_a_new_process_asks_by_one_launch_too(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await _deny(rig)
        before = len(rig.launches())
        for _ in range(3):
            await rig.restart()
            await rig.let_pass(9.5)
        assert len(rig.launches()) - before <= 3 * 4, "at once, after 2 s and after 4 s"
        _allow(rig)
        await rig.restart()
        await rig.wait(lambda: len(rig.made()) == 100, 15 + _seconds_for(100))

    assert len(play(tmp_path, main).tokens()) == 100


def test_other_credentials_are_tried_at_once(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await _deny(rig)
        await rig.let_pass(120)
        # Right after it was asked: by itself it would be asked in ten seconds.
        asked = len(rig.launches())
        await rig.wait(lambda: len(rig.launches()) > asked, 15)
        _allow(rig)
        rig.light.keys["AKIDMORE"] = rig.light.keys["AKIDMAIN"]
        await rig.key("AKIDMORE")
        await rig.wait(lambda: len(rig.made()) >= 3, 4)

    play(tmp_path, main)


@pytest.mark.long
def test_another_asks_where_the_one_that_asked_is_deleted(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await _deny(rig)
        await rig.let_pass(60)
        token = rig.launches()[-1].token
        (asks,) = [each["metadata"]["name"] for each in rig.instances() if each["spec"]["batch"]["id"] == token]
        await rig.delete("Instance", asks)
        before = len(rig.launches())
        await rig.let_pass(60)
        assert rig.launches()[-1].token != token
        assert 3 <= len(rig.launches()) - before <= 10
        _allow(rig)
        await rig.wait(lambda: len(rig.made()) >= 100, 15 + _seconds_for(100))
        await rig.wait(rig.ready, 200)

    play(tmp_path, main)


@pytest.mark.parametrize("text", [pytest.param(PLAIN, id="by one call"), pytest.param(OWN, id="singly")])
def test_what_another_implementation_is_denied_holds_up_nobody(tmp_path: Path, text: str) -> None:
    async def main(rig: Ec2Rig) -> None:
        rig.light.behaviour.throttles = True
        rig.world.fail("RunInstances", DENIED, times=INF, where=lambda token: token in _batches(rig, "app"))
        app = template("app", text)
        web = template("web", text, implementations=[implementation(size="large")])
        await rig.make(cloud(maxInstances=1000), app, web)
        await rig.make(infrastructure(service("app", scaling={"min": 20})))
        await rig.wait(lambda: set(_reasons(rig)) == {"Denied"}, 60)
        await rig.make(infrastructure(service("web", scaling={"min": 20}), name="other"))
        await rig.wait(lambda: len(rig.live("web")) == 20, 15 + _seconds_for(20))
        assert rig.live() == []
        _allow(rig)
        await rig.wait(lambda: len(rig.live()) == 20, 15 + _seconds_for(20))

    play(tmp_path, main)


# --- another that cannot be used
@pytest.mark.parametrize("why", ["CloudInvalid", "SecretNotFound"])
def test_a_full_implementation_beside_one_that_cannot_be_used_is_asked_less_and_less(tmp_path: Path, why: str) -> None:
    async def main(rig: Ec2Rig) -> None:
        rig.world.fail("RunInstances", errors.NoCapacity("full"), times=INF)
        await rig.make(cloud(), cloud("other"))
        if why == "CloudInvalid":
            await rig.make(template("app"))
            await rig.implement("app", one={}, two={"image": {"id": "ami-00000000000000bad"}})
        else:
            await rig.make(template("app", implementations=[implementation("one"), implementation("two", on="other")]))
            await rig.patch("Cloud", "other", {"spec": {"ec2": {"credentials": {"secretRef": {"name": "none"}}}}})
            await rig.until("Cloud", "other", why, seconds=60)
        await rig.make(infrastructure(service("app", scaling={"min": 2})))
        await rig.let_pass(600)
        assert len(rig.launches()) < 20
        rig.world.faults.clear()
        await rig.wait(rig.ready, 700)

    play(tmp_path, main)
