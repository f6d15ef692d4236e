"""A clock that is set back, as one that ran ahead is: what had just failed is tried again as soon as ever."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from controller import errors
from tests.simulated import loop
from tests.system.documents import alone
from tests.system.rig import Rig, play, steady


@pytest.fixture
def set_back(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Sets this machine's clock back by two hours. What the world counts by goes on."""
    before, behind = loop.Clock.now, [timedelta(0)]

    def now(clock: loop.Clock) -> datetime:
        return before(clock) - behind[0]

    def back() -> None:
        behind[0] = timedelta(hours=2)

    monkeypatch.setattr(loop.Clock, "now", now)
    return back


@pytest.mark.parametrize("call", [pytest.param(each, id=each) for each in ("identity", "resolve", "prepare", "create")])
def test_what_failed_before_the_clock_was_set_back_is_soon_tried_again(tmp_path: Path, set_back: Callable[[], None], call: str) -> None:
    async def main(rig: Rig) -> None:
        error = errors.Invalid("image", "there is none") if call == "resolve" else errors.Transient("no route to host")
        fault = rig.world.fail(call, error, times=float("inf"))
        await rig.make(*alone(1))
        await rig.let_pass(22)
        rig.world.clear(fault)
        set_back()
        await rig.wait(rig.ready, 180)

    play(tmp_path, main, steady())


def test_a_replacement_that_waits_by_a_clock_that_was_set_back_does_not_wait_long(tmp_path: Path, set_back: Callable[[], None]) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        rig.world.kill(rig.live()[0].id)
        await rig.wait(lambda: rig.ready() and len(rig.made()) == 2)
        rig.world.kill(rig.live()[0].id)
        await rig.until("InstanceGroup", "shop-app", "BackOff", "Progressing", seconds=60)
        set_back()
        await rig.restart()
        await rig.wait(lambda: len(rig.made()) == 3, 400)

    play(tmp_path, main, steady())
