"""A crash, or a lost reply, at every call over a port: nothing is made twice, nothing is left over, the end is the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.crash import scenarios
from tests.crash.injector import MUTATING, Mode
from tests.simulated.world import Settings

#: The tests of one scenario are split, so that they run side by side.
PARTS = 2

CLOUDS = {
    "token": Settings(lag_seconds=2.0, settle_seconds=30.0),
    "fence": Settings(lag_seconds=2.0, settle_seconds=30.0, fences=True, closes=False),
}


@pytest.mark.parametrize("part", range(PARTS), ids=lambda part: f"part{part}")
@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.name.lower())
@pytest.mark.parametrize("name", scenarios.SCENARIOS)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_call(cloud: str, name: str, mode: Mode, part: int, tmp_path: Path) -> None:
    scenario = scenarios.SCENARIOS[name]
    base = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path
    directory = base / f"occopus-{os.getpid()}-{tmp_path.name}"
    directory.mkdir()
    try:
        free = scenarios.run(scenario, directory, mode, None, CLOUDS[cloud])
        assert not free.wrong
        wrong = {
            f"{at} {outcome.hit}": outcome.wrong
            for at in range(part, len(free.calls), PARTS)
            if (outcome := scenarios.run(scenario, directory, mode, at, CLOUDS[cloud])).wrong
        }
    finally:
        shutil.rmtree(directory)
    assert not wrong
    assert free.calls


def test_calls_that_change_something_are_met(tmp_path: Path) -> None:
    """What the scenarios hit covers every kind of mutating call that there is."""
    met = {
        call
        for name in scenarios.SCENARIOS
        for call in scenarios.run(scenarios.SCENARIOS[name], tmp_path / name, Mode.CRASH_AFTER, None, CLOUDS["fence"]).calls
        if (tmp_path / name).mkdir(exist_ok=True) is None
    }
    assert met >= MUTATING
