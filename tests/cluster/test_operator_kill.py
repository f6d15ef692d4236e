"""Real SIGKILL and SIGTERM of the operator where a machine could be made twice or be lost; the next one comes to the same end."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from controller.ports import Obj
from tests.cluster.fixtures import Cluster
from tests.cluster.operator import END_SECONDS, Operator, Place, Story, at_a_place, faulty
from tests.e2e.descriptions import CLOUD, infrastructure, service, template
from tests.faulty import END, INTENT, MADE

PAIR = CLOUD + template() + infrastructure("pair", service("first"), service("second", "first", more=", replicas: 2"))
EACH = {"first": 1, "second": 2}
KILLED = -signal.SIGKILL


async def pair_is_ready(place: Place) -> None:
    """Each Instance has its machine, and none was made beside them, not even for a moment."""
    await place.settled("pair", EACH)
    assert len(place.machines()) == 3


async def going(place: Place) -> list[Obj]:
    return [each for each in await place.objects("Instance") if "deletionTimestamp" in each["metadata"]]


def killed_while_it_launches(point: str, machines: int) -> Story:
    async def story(place: Place) -> None:
        dying = await place.lead(module=faulty(point))
        await place.apply(PAIR)
        assert await dying.ended() == KILLED
        (before,) = await place.objects("Instance")
        assert "launch" in before["status"]
        assert "machine" not in before["status"]
        assert len(place.machines()) == machines
        await place.lead()
        await pair_is_ready(place)
        (after,) = [each for each in await place.objects("Instance") if each["spec"]["service"] == "first"]
        assert (after["metadata"]["uid"], after["status"]["launch"]) == (before["metadata"]["uid"], before["status"]["launch"])
        await place.delete_all()

    return story


async def killed_when_an_end_was_begun(place: Place) -> None:
    dying = await place.lead(module=faulty(END))
    await place.apply(PAIR)
    await pair_is_ready(place)
    await place.delete("Infrastructure", "pair")
    assert await dying.ended() == KILLED
    assert {each["spec"]["service"] for each in await going(place)} == {"second"}
    assert "first" in {each["tags"]["occopus.io/service"] for each in place.live()}
    await place.lead()
    await place.delete_all()
    assert len(place.machines()) == 3


async def killed_during_a_deletion(place: Place) -> None:
    leader = await place.lead()
    await place.apply(PAIR)
    await pair_is_ready(place)
    await place.delete("Infrastructure", "pair")
    await place.until(lambda: going(place), "an Instance is going")
    await leader.kill()
    (first,) = [each for each in await place.objects("Instance") if each["spec"]["service"] == "first"]
    assert "deletionTimestamp" not in first["metadata"]
    await place.lead()
    await place.delete_all()
    # In order: the first ended after the last of those that depend on it.
    ended = {each["tags"]["occopus.io/service"]: each["ending"] for each in sorted(place.machines(), key=lambda each: each["ending"])}
    assert list(ended) == ["second", "first"]
    assert ended["first"] >= max(each["ended"] for each in place.machines() if each["tags"]["occopus.io/service"] == "second")


def test_killed_at_any_point_the_next_one_comes_to_the_same_end(cluster: Cluster, tmp_path: Path) -> None:
    at_a_place(
        cluster,
        tmp_path,
        killed_while_it_launches(INTENT, machines=0),
        killed_while_it_launches(MADE, machines=1),
        killed_when_an_end_was_begun,
        killed_during_a_deletion,
    )


# --- SIGTERM --------------------------------------------------------------------------------------------------------
ONE = CLOUD + template() + infrastructure("one", service("only"))


async def launching(place: Place) -> bool:
    return any("launch" in each.get("status", {}) for each in await place.objects("Instance"))


async def told_to_stop(operator: Operator) -> None:
    began = time.monotonic()
    operator.send(signal.SIGTERM)
    assert await operator.ended() == 0, operator.log()
    assert time.monotonic() - began < END_SECONDS, operator.log()
    assert "Traceback" not in operator.log()


def told_to_stop_while_it_launches(seconds: float, machines: int) -> Story:
    async def story(place: Place) -> None:
        slow = await place.lead(module=faulty(f"before:create:{seconds}"))
        await place.apply(ONE)
        await place.until(lambda: launching(place), "a launch is recorded")
        await told_to_stop(slow)
        (before,) = await place.objects("Instance")
        assert "launch" in before["status"]
        assert len(place.machines()) == machines
        # Handed over: the next one need not wait.
        assert (await place.lease())["spec"]["holderIdentity"] == ""
        await place.start()
        await place.settled("one", {"only": 1})
        assert len(place.machines()) == 1
        (after,) = await place.objects("Instance")
        assert (after["metadata"]["uid"], after["status"]["launch"]) == (before["metadata"]["uid"], before["status"]["launch"])
        await place.delete_all()

    return story


def test_told_to_stop_while_it_launches_it_ends_soon_and_the_next_one_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    """A call that ends in time is let end; of one that hangs the outcome is for the next process to find."""
    at_a_place(cluster, tmp_path, told_to_stop_while_it_launches(5, machines=1), told_to_stop_while_it_launches(60, machines=0))
