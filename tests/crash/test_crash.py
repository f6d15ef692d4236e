"""A crash, or a lost reply, at every call over a port: nothing is made twice, nothing is left over, the end is the same.

`make test` ends the process after every call that changes something, on a cloud with tokens; `make test-long` before it too, and with
its answer lost, on a cloud with fences, and after each third with the objects on Kubernetes. `make test-crash` (CRASH=all) hits every
call there is, in every mode, on all of these and on EC2.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.fixtures import Cluster
from tests.crash import ends, play
from tests.crash.injector import MUTATING, Mode
from tests.crash.play import Fault, Outcome, Place
from tests.crash.scenarios import SCENARIOS, Scenario
from tests.crash.seldom import SELDOM
from tests.simulated.world import Settings

ALL = os.environ.get("CRASH") == "all"
#: The tests of one scenario are split, so that they run side by side.
PARTS = 4 if ALL else 2
_BOTH = (Mode.CRASH_AFTER, Mode.LOST_REPLY)
#: By where the scenarios are played.
MODES = {"token": (Mode.CRASH_BEFORE, *_BOTH), "fence": _BOTH, "kubernetes": (Mode.CRASH_AFTER,), "ec2": ()}
SELDOM_MODES = {"token": _BOTH, "fence": (), "kubernetes": (), "ec2": ()}
#: Where the objects are on an API server.
ON_KUBERNETES = ("kubernetes", "both")
#: Not played on Kubernetes, and why.
NOT_ON_KUBERNETES = {
    "forced-away": "waits for the garbage collector, which works in real time; beside a real operator: tests/cluster/test_restore_ec2.py",
}


def place(where: str, path: Path, cluster: Cluster | None = None) -> Place:
    """Both clouds lag. One is as EC2: alike machines by one call, whose token is closed by time alone. The other is as Nova: machines
    singly, each with a fence that is made first and removed. `kubernetes` is the first with its objects on the API server, and
    `both` is EC2 with them there.
    """
    fence = where == "fence"
    settings = Settings(lag_seconds=2.0, settle_seconds=30.0, fences=fence, closes=fence, most_per_call=1 if fence else 100)
    return Place(path, settings, ec2=where in ("ec2", "both"), cluster=cluster if where in ON_KUBERNETES else None)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: what is tested is not the disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="occopus-", dir=shared if os.access(shared, os.W_OK) else tmp_path) as place:
        yield Path(place)


At = Callable[[str], Place]


@pytest.fixture
def at(memory: Path, request: pytest.FixtureRequest) -> At:
    """The place of a row; the API server is started by the first row that is played there."""

    def found(where: str) -> Place:
        return place(where, memory, request.getfixturevalue("cluster") if where in ON_KUBERNETES else None)

    return found


def _row(scenario: Scenario, where: str, mode: Mode) -> object:
    # A claim makes an object whose name it chooses, so that a lost answer counts there as it does at a launch.
    after = mode is Mode.CRASH_AFTER and scenario.name in {*SCENARIOS, "restore"}
    short = where == "token" and (after or (scenario.name, mode) == ("restore", Mode.LOST_REPLY))
    marks = () if short else pytest.mark.long
    return pytest.param(scenario, where, mode, id=f"{scenario.name}-{where}-{mode.name.lower()}", marks=marks)


ROWS = [
    _row(scenario, where, mode)
    for scenarios, modes in ((SCENARIOS, MODES), (SELDOM, SELDOM_MODES))
    for scenario in scenarios.values()
    for where in modes
    if (where, scenario.name) not in {("kubernetes", each) for each in NOT_ON_KUBERNETES}
    for mode in (tuple(Mode) if ALL else modes[where])
]


def _run(scenario: Scenario, where: Place, fault: Fault, free: Outcome) -> tuple[Outcome, list[str]]:
    """The scenario with a fault, and what is wrong with it."""
    outcome = play.run(scenario, where, fault)
    return outcome, [*outcome.wrong, *ends.unlike(free.end, outcome.end)]


def _points(free: Outcome, mode: Mode) -> list[int]:
    """Which calls are hit. To die before a call that comes at the very instant of the one before is to die after that one."""
    again = mode is Mode.CRASH_BEFORE and not ALL
    return [at for at, time in enumerate(free.times) if not again or at == 0 or time > free.times[at - 1]]


@functools.cache
def _free(name: str, where: str, mode: Mode, cluster: Cluster | None) -> Outcome:
    """The scenario without a fault."""
    with tempfile.TemporaryDirectory() as path:
        return play.run({**SCENARIOS, **SELDOM}[name], place(where, Path(path), cluster), Fault(mode, reads=ALL))


@pytest.mark.parametrize("part", range(PARTS), ids=lambda part: f"part{part}")
@pytest.mark.parametrize(("scenario", "where", "mode"), ROWS)
def test_every_call(scenario: Scenario, where: str, mode: Mode, part: int, at: At) -> None:
    # Which calls are counted depends on the mode for reads alone.
    free = _free(scenario.name, where, mode if ALL else Mode.CRASH_AFTER, at(where).cluster)
    assert free.calls
    assert not free.wrong
    wrong: dict[str, list[str]] = {}
    # A run beside a real API server takes a second.
    step = PARTS if where != "kubernetes" or ALL else 3 * PARTS
    points = _points(free, mode)[part::step]
    unmet: list[int] = []
    for number in points:
        outcome, found = _run(scenario, at(where), Fault(mode, number, ALL), free)
        if not outcome.hit and not _for_want_of_roll_ups(where, outcome, free):
            unmet.append(number)
        if found:
            wrong[f"{number} {outcome.hit}"] = found
    assert not wrong
    # The last roll-ups may come together. Reads depend on time, and time on what happened before.
    assert [each for each in unmet if each < len(free.calls) - 3] == [] or (ALL and len(unmet) <= len(points) // 20), unmet


def _for_want_of_roll_ups(where: str, outcome: Outcome, free: Outcome) -> bool:
    """Whether a run made fewer calls than the one without a fault for its roll-ups alone: watches of an API server tell of several
    kinds in another order each time."""
    fewer = outcome.roll_ups < free.roll_ups
    return where in ON_KUBERNETES and fewer and len(outcome.calls) - outcome.roll_ups >= len(free.calls) - free.roll_ups


def _of_the_cloud(free: Outcome, mode: Mode) -> set[int]:
    """The calls that make and end machines, what is written before and after each, and what lets go of it."""
    # An answer of the store is lost in the same way whatever the cloud is.
    beside = (-1, 0, 1) if mode is Mode.CRASH_AFTER else (0,)
    sent = {number + by for number, call in enumerate(free.calls) if call in ("cloud.create", "cloud.delete") for by in beside}
    return sent | {number for number, call in enumerate(free.calls) if call == "cloud.close"}


def _short_row(name: str, where: str, mode: Mode = Mode.CRASH_AFTER, *marks: pytest.MarkDecorator) -> object:
    return pytest.param(name, where, mode, id=f"{name}-{where}-{mode.name.lower()}", marks=marks)


@pytest.mark.parametrize(
    ("name", "where", "mode"),
    [
        *(_short_row("create", "ec2", mode) for mode in (Mode.CRASH_AFTER, Mode.CRASH_BEFORE, Mode.LOST_REPLY)),
        *(_short_row(name, "ec2") for name in ("scale-out-many", "scale-in", "heal", "delete")),
        _short_row("create", "kubernetes"),
        _short_row("create", "both"),
        *(_short_row(name, "both", Mode.CRASH_AFTER, pytest.mark.long) for name in ("scale-out-many", "scale-in", "heal", "delete")),
    ],
)
def test_every_machine_elsewhere(name: str, where: str, mode: Mode, at: At) -> None:
    """In short what the long rows are whole: by boto3 over HTTP to EC2, and with the objects on a real API server."""
    free = _free(name, where, mode, at(where).cluster)
    assert not free.wrong
    numbers = sorted(_of_the_cloud(free, mode))
    assert numbers
    for number in numbers:
        outcome, wrong = _run(SCENARIOS[name], at(where), Fault(mode, number, ALL), free)
        assert not wrong, f"{number} {outcome.hit}"
        # Which one it is of those that come at one moment may differ.
        assert outcome.hit, f"{number} was not met"


def test_every_launch_while_a_batch_is_halved(at: At) -> None:
    """The process dies after each answer of EC2, of which every other is that there is no room."""
    scenario, launch = SELDOM["no-room"], "cloud.create"
    free = _free(scenario.name, "ec2", Mode.CRASH_AFTER, None)
    assert not free.wrong
    # Five, its halves, and what the second implementation makes.
    assert free.calls.count(launch) > 3
    for number in range(free.calls.count(launch)):
        outcome, wrong = _run(scenario, at("ec2"), Fault(Mode.CRASH_AFTER, number, only=launch), free)
        assert outcome.hit == launch
        assert not wrong, number


def test_the_scenarios_meet_every_kind_of_call_that_changes_something(memory: Path) -> None:
    met: set[str] = set()
    for name, scenario in SCENARIOS.items():
        (memory / name).mkdir()
        met |= set(play.run(scenario, place("fence", memory / name), Fault(Mode.CRASH_AFTER)).calls)
    assert met == MUTATING


def test_what_is_not_played_is_a_scenario() -> None:
    assert set(NOT_ON_KUBERNETES) <= set(SELDOM)
