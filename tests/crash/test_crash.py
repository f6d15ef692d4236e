"""A crash, or a lost reply, at every call over a port: nothing is made twice, nothing is left over, the end is the same.

`make test` hits every call that changes something, on a cloud with tokens and on one with fences. `make test-crash` (CRASH=all)
hits every call there is, in every mode, on both.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import scenarios
from tests.crash.injector import MUTATING, Mode
from tests.crash.scenarios import Fault
from tests.simulated.world import Settings

ALL = os.environ.get("CRASH") == "all"
#: The tests of one scenario are split, so that they run side by side.
PARTS = 4 if ALL else 2
CLOUDS = ("token", "fence", "ec2")
MODES = {
    "ec2": tuple(Mode) if ALL else (),
    "token": tuple(Mode) if ALL else (Mode.CRASH_BEFORE, Mode.CRASH_AFTER, Mode.LOST_REPLY),
    "fence": tuple(Mode) if ALL else (Mode.CRASH_AFTER,),
}


def settings(cloud: str) -> Settings:
    """Both lag. One is as EC2: alike machines by one call, whose token is closed by time alone. The other is as Nova: machines singly,
    each with a fence that is made first and removed.
    """
    fence = cloud == "fence"
    return Settings(lag_seconds=2.0, settle_seconds=30.0, fences=fence, closes=fence, most_per_call=1 if fence else 100)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: what is tested is not the disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="occopus-", dir=shared if os.access(shared, os.W_OK) else tmp_path) as place:
        yield Path(place)


@pytest.mark.parametrize("part", range(PARTS), ids=lambda part: f"part{part}")
@pytest.mark.parametrize(
    ("cloud", "mode"), [pytest.param(cloud, mode, id=f"{cloud}-{mode.name.lower()}") for cloud in CLOUDS for mode in MODES[cloud]]
)
@pytest.mark.parametrize("name", scenarios.SCENARIOS)
def test_every_call(name: str, cloud: str, mode: Mode, part: int, memory: Path) -> None:
    scenario = scenarios.SCENARIOS[name]
    ec2 = cloud == "ec2"
    free = scenarios.run(scenario, memory, Fault(mode, reads=ALL), settings(cloud), ec2=ec2)
    assert free.calls
    assert not free.wrong
    wrong: dict[str, tuple[str, ...]] = {}
    for at in range(part, len(free.calls), PARTS):
        outcome = scenarios.run(scenario, memory, Fault(mode, at, ALL), settings(cloud), ec2=ec2)
        # Reads depend on time, and time on what happened before; so do the last roll-ups, which may come together.
        assert outcome.hit or ALL or at >= len(free.calls) - 3, f"call {at} was not met"
        if outcome.wrong:
            wrong[f"{at} {outcome.hit}"] = outcome.wrong
    assert not wrong


@pytest.mark.parametrize(("part", "mode"), [(part, mode) for part in range(2) for mode in (Mode.CRASH_AFTER, Mode.LOST_REPLY)])
@pytest.mark.parametrize("name", ["create", "delete-early"] if ALL else ["create"])
def test_every_change_on_ec2(name: str, mode: Mode, part: int, memory: Path) -> None:
    """By boto3 over HTTP, over the calls to the cloud and what is written between them."""
    scenario = scenarios.SCENARIOS[name]
    free = scenarios.run(scenario, memory, Fault(mode), settings("ec2"), ec2=True)
    near = sorted({at + beside for at, call in enumerate(free.calls) if call.startswith("cloud.") for beside in (-1, 0, 1)})
    for at in near[part::2]:
        outcome = scenarios.run(scenario, memory, Fault(mode, at), settings("ec2"), ec2=True)
        assert not outcome.wrong, f"{at} {outcome.hit}"


def test_the_scenarios_meet_every_kind_of_call_that_changes_something(memory: Path) -> None:
    met: set[str] = set()
    for name, scenario in scenarios.SCENARIOS.items():
        (memory / name).mkdir()
        met |= set(scenarios.run(scenario, memory / name, Fault(Mode.CRASH_AFTER), settings("fence")).calls)
    assert met == MUTATING
