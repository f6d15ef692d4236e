"""The API server is away for five minutes while machines die: nothing is made or ended meanwhile, then exactly what was lost is replaced.

A process whose Lease runs out ends, and the next one waits for the API server, as the operator and its supervisor do; or it lives
through the outage, as where the Lease alone is still answered. Real operators without a real API server: `tests/cluster`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from controller import errors
from controller.ports import MachineId, T
from tests.crash.injector import FaultyDriver, FaultyStore
from tests.simulated.world import NEVER
from tests.system import ec2, rig
from tests.system.documents import cloud, infrastructure, service, template
from tests.system.rig import Main, Rig, ids

AWAY_SECONDS = 300.0
#: A leader that cannot renew its Lease ends after so long (`controller/election.py`).
LEASE_SECONDS = 10.0
#: The list of a cloud, the launches, boot and health; one that may still run is replaced only after those before it, with back-off.
HEALED_SECONDS = 240.0
DOCUMENTS = (
    cloud(),
    template("db"),
    template("app"),
    infrastructure(service("db"), service("app", "db", scaling={"min": 4, "max": 9})),
)


@dataclass(slots=True)
class Outage:
    """A gate of the store, which answers nothing while the outage lasts; with `lease` the process ends meanwhile."""

    rig: Rig
    lease: bool
    since: float | None = None
    #: A call of a driver, the next of which is answered, and then the outage begins.
    begins_after: str = ""

    def install(self) -> None:
        self.rig.wrap_store = lambda store: FaultyStore(store, self)
        self.rig.wrap_driver = lambda driver: FaultyDriver(driver, self)

    async def call(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        """One call of the store. Whether it leads the process knows by itself, until it has ended."""
        if self.since is not None and name != "store.holds":
            raise errors.Unavailable("the API server gives no answer")
        return await do()

    def blocking(self, name: str, do: Callable[[], T]) -> T:
        """One call of a driver."""
        answer = do()
        if name == self.begins_after:
            self.begin()
        return answer

    def begin(self) -> None:
        self.since, self.begins_after = self.rig.clock(), ""

    async def pass_by(self, *harms: Callable[[], None]) -> None:
        """Let it last its time, and do these harms one a minute; nothing is made or ended by the process."""
        rig = self.rig
        assert self.since is not None
        until, made_and_ended = self.since + AWAY_SECONDS, rig.calls("create", "delete")
        await rig.let_pass(LEASE_SECONDS)
        if self.lease:
            await rig.crash()
        for harm in harms:
            await asyncio.sleep(60)
            harm()
        await asyncio.sleep(until - rig.clock())
        assert rig.calls("create", "delete") == made_and_ended
        self.since = None
        if self.lease:
            rig.start()


Play = Callable[[Path, Main], Rig]
Story = Callable[[Rig, Outage], Awaitable[None]]


@pytest.fixture(params=[pytest.param(True, id="its Lease runs out"), pytest.param(False, id="it lives on")])
def lease(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture(params=[pytest.param(rig.play, id="simulated"), pytest.param(ec2.play, id="ec2")])
def play(request: pytest.FixtureRequest) -> Play:
    return request.param


def _told(play: Play, path: Path, lease: bool, story: Story) -> Rig:
    """The story on a system of two services that is Ready and has been so for a while."""

    async def main(rig: Rig) -> None:
        outage = Outage(rig, lease)
        outage.install()
        await rig.restart()
        await rig.up(*DOCUMENTS)
        await rig.let_pass(120)
        await story(rig, outage)

    return play(path, main)


async def _healed(rig: Rig, app: int) -> None:
    await rig.wait(lambda: rig.ready() and (len(rig.live("db")), len(rig.live("app"))) == (1, app), HEALED_SECONDS)
    await rig.unchanged(120)


def test_what_was_lost_while_it_was_away_is_replaced_and_nothing_else(tmp_path: Path, play: Play, lease: bool) -> None:
    lost: dict[str, MachineId] = {}

    async def story(rig: Rig, outage: Outage) -> None:
        lost.update({name: rig.machine(name).id for name in ("shop-db-0", "shop-app-1", "shop-app-2")})
        killed, also_killed, stopped = lost.values()
        before = ids(rig.world.live())
        outage.begin()
        await outage.pass_by(
            lambda: rig.world.kill(killed),
            lambda: rig.world.kill(also_killed),
            lambda: rig.world.stop(stopped),
        )
        # Which of them is seen first is chance.
        await rig.wait(lambda: all(rig.world.machines[each].ending < NEVER for each in lost.values()), HEALED_SECONDS)
        await _healed(rig, 4)
        assert ids(rig.world.live()) & before == before - set(lost.values())

    rig = _told(play, tmp_path, lease, story)
    assert len(rig.made()) == 8
    # Those that ended by themselves are not ended again.
    assert rig.calls("delete") == 1
    assert rig.world.machines[lost["shop-app-2"]].ending < NEVER


def test_a_launch_that_could_not_be_recorded_is_not_sent(tmp_path: Path, play: Play, lease: bool) -> None:
    async def story(rig: Rig, outage: Outage) -> None:
        outage.begins_after = "cloud.prepare"
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 7}})
        await rig.wait(lambda: outage.since is not None, 60)
        await outage.pass_by()
        assert len(rig.made()) == 5
        await _healed(rig, 7)

    assert len(_told(play, tmp_path, lease, story).made()) == 8


@pytest.mark.long
def test_machines_that_could_not_be_recorded_are_not_made_again(tmp_path: Path, play: Play, lease: bool) -> None:
    async def story(rig: Rig, outage: Outage) -> None:
        outage.begins_after = "cloud.create"
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 7}})
        await rig.wait(lambda: outage.since is not None, 60)
        unrecorded = rig.made()[5:]
        assert unrecorded
        # One of them dies before anybody has seen it.
        await outage.pass_by(lambda: rig.world.kill(unrecorded[0].id))
        await _healed(rig, 7)
        assert ids(unrecorded[1:]) <= ids(rig.live())

    assert len(_told(play, tmp_path, lease, story).made()) == 9


@pytest.mark.long
def test_an_end_that_was_begun_is_seen_and_no_other_is_begun(tmp_path: Path, play: Play, lease: bool) -> None:
    async def story(rig: Rig, outage: Outage) -> None:
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 6}})
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 6, 120)
        outage.begins_after = "cloud.delete"
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 5}})
        await rig.wait(lambda: outage.since is not None, 60)
        await outage.pass_by()
        await _healed(rig, 5)

    rig = _told(play, tmp_path, lease, story)
    assert len(rig.made()) == 7
    assert len([each for each in rig.made() if each.ending < NEVER]) == 1
