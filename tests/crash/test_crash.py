"""A crash, or a lost reply, at every call over a port: nothing is made twice, nothing is left over, the end is the same.

`make test` ends the process after every call that changes something, on a cloud with tokens; `make test-long` before it too, and with
its answer lost, and on a cloud with fences. `make test-crash` (CRASH=all) hits every call there is, in every mode, on both and on EC2.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import play
from tests.crash.injector import MUTATING, Mode
from tests.crash.play import Fault, Outcome, Place
from tests.crash.scenarios import SCENARIOS, Scenario
from tests.crash.seldom import SELDOM
from tests.simulated.world import Settings

ALL = os.environ.get("CRASH") == "all"
#: The tests of one scenario are split, so that they run side by side.
PARTS = 4 if ALL else 2
MODES = {"token": (Mode.CRASH_BEFORE, Mode.CRASH_AFTER, Mode.LOST_REPLY), "fence": (Mode.CRASH_AFTER, Mode.LOST_REPLY), "ec2": ()}
SELDOM_MODES = {"token": (Mode.CRASH_AFTER, Mode.LOST_REPLY), "fence": (), "ec2": ()}


def place(cloud: str, path: Path) -> Place:
    """Both lag. One is as EC2: alike machines by one call, whose token is closed by time alone. The other is as Nova: machines singly,
    each with a fence that is made first and removed.
    """
    fence = cloud == "fence"
    settings = Settings(lag_seconds=2.0, settle_seconds=30.0, fences=fence, closes=fence, most_per_call=1 if fence else 100)
    return Place(path, settings, ec2=cloud == "ec2")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: what is tested is not the disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="occopus-", dir=shared if os.access(shared, os.W_OK) else tmp_path) as place:
        yield Path(place)


def _row(scenario: Scenario, cloud: str, mode: Mode) -> object:
    # A claim makes an object whose name it chooses, so that a lost answer counts there as it does at a launch.
    after = mode is Mode.CRASH_AFTER and scenario.name in {*SCENARIOS, "restore"}
    short = cloud == "token" and (after or (scenario.name, mode) == ("restore", Mode.LOST_REPLY))
    marks = () if short else pytest.mark.long
    return pytest.param(scenario, cloud, mode, id=f"{scenario.name}-{cloud}-{mode.name.lower()}", marks=marks)


ROWS = [
    _row(scenario, cloud, mode)
    for scenarios, modes in ((SCENARIOS, MODES), (SELDOM, SELDOM_MODES))
    for scenario in scenarios.values()
    for cloud in modes
    for mode in (tuple(Mode) if ALL else modes[cloud])
]


def _points(free: Outcome, mode: Mode) -> list[int]:
    """Which calls are hit. To die before a call that comes at the very instant of the one before is to die after that one."""
    again = mode is Mode.CRASH_BEFORE and not ALL
    return [at for at, time in enumerate(free.times) if not again or at == 0 or time > free.times[at - 1]]


@functools.cache
def _free(name: str, cloud: str, mode: Mode) -> Outcome:
    """The scenario without a fault."""
    with tempfile.TemporaryDirectory() as path:
        return play.run({**SCENARIOS, **SELDOM}[name], place(cloud, Path(path)), Fault(mode, reads=ALL))


@pytest.mark.parametrize("part", range(PARTS), ids=lambda part: f"part{part}")
@pytest.mark.parametrize(("scenario", "cloud", "mode"), ROWS)
def test_every_call(scenario: Scenario, cloud: str, mode: Mode, part: int, memory: Path) -> None:
    # Which calls are counted depends on the mode for reads alone.
    free = _free(scenario.name, cloud, mode if ALL else Mode.CRASH_AFTER)
    assert free.calls
    assert not free.wrong
    wrong: dict[str, tuple[str, ...]] = {}
    for at in _points(free, mode)[part::PARTS]:
        outcome = play.run(scenario, place(cloud, memory), Fault(mode, at, ALL))
        # Reads depend on time, and time on what happened before; so do the last roll-ups, which may come together.
        assert outcome.hit or ALL or at >= len(free.calls) - 3, f"call {at} was not met"
        if outcome.wrong:
            wrong[f"{at} {outcome.hit}"] = outcome.wrong
    assert not wrong


@pytest.mark.parametrize("mode", [Mode.CRASH_AFTER, Mode.LOST_REPLY])
def test_every_launch_on_ec2(mode: Mode, memory: Path) -> None:
    """By boto3 over HTTP: the calls that make machines, and what is written before and after them."""
    free = _free("create", "ec2", mode)
    assert not free.wrong
    launches = [at for at, call in enumerate(free.calls) if call == "cloud.create"]
    # An answer of the store is lost in the same way whatever the cloud is.
    beside = (-1, 0, 1) if mode is Mode.CRASH_AFTER else (0,)
    for at in sorted({at + by for at in launches for by in beside}):
        outcome = play.run(SCENARIOS["create"], place("ec2", memory), Fault(mode, at))
        assert not outcome.wrong, f"{at} {outcome.hit}"


def test_the_scenarios_meet_every_kind_of_call_that_changes_something(memory: Path) -> None:
    met: set[str] = set()
    for name, scenario in SCENARIOS.items():
        (memory / name).mkdir()
        met |= set(play.run(scenario, place("fence", memory / name), Fault(Mode.CRASH_AFTER)).calls)
    assert met == MUTATING
