"""Virtual time: it jumps, it stands still for threads, and it says when nothing can ever happen."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta

import pytest

from tests.simulated import loop


def test_sleeping_takes_no_time() -> None:
    async def main() -> timedelta:
        started = loop.now()
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(24 * 3600 * 3))
        return loop.now() - started

    before = time.monotonic()
    assert loop.run(main()) == timedelta(days=3)
    assert time.monotonic() - before < 5


def test_timers_fire_in_order_at_their_times() -> None:
    seen: list[tuple[str, float]] = []

    async def after(seconds: float, name: str) -> None:
        await asyncio.sleep(seconds)
        seen.append((name, loop.clock()))

    async def main() -> None:
        await asyncio.gather(after(2, "second"), after(0.1, "first"), after(2.5, "third"))

    loop.run(main())
    assert [name for name, _ in seen] == ["first", "second", "third"]
    assert [at for _, at in seen] == pytest.approx([0.1, 2, 2.5])


def test_a_timeout_meets_what_never_comes() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 30)
        return loop.clock()

    assert loop.run(main()) == pytest.approx(30)


def test_time_starts_where_it_is_told_and_goes_on_in_the_next_run() -> None:
    async def main() -> float:
        await asyncio.sleep(10)
        return loop.clock()

    assert loop.run(main(), start=loop.EPOCH + timedelta(hours=1)) == pytest.approx(3610)
    clock = loop.Clock(5)
    assert [loop.run(main(), clock=clock), loop.run(main(), clock=clock)] == pytest.approx([15, 25])
    assert clock.now() == loop.EPOCH + timedelta(seconds=25)


def test_nothing_to_wait_for_is_a_deadlock_that_names_the_task() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.create_task(stuck(), name="the stuck one")

    with pytest.raises(loop.DeadlockError, match="the stuck one"):
        loop.run(main())


def test_a_task_that_spins_is_a_livelock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_TURNS_LIMIT", 1000)

    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(loop.LivelockError):
        loop.run(main())


def test_many_moments_are_no_livelock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_TURNS_LIMIT", 100)

    async def main() -> float:
        for _ in range(1000):
            await asyncio.sleep(1)
        return loop.clock()

    assert loop.run(main()) == pytest.approx(1000)


def test_time_stands_still_for_a_thread() -> None:
    release = threading.Event()

    async def main() -> tuple[float, float]:
        timer = asyncio.create_task(asyncio.sleep(60))
        work = asyncio.create_task(asyncio.to_thread(release.wait, 30))
        threading.Timer(0.1, release.set).start()
        assert await work
        at = loop.clock()
        await timer
        return at, loop.clock()

    assert loop.run(main()) == (0, pytest.approx(60))


def test_what_fails_in_a_callback_fails_the_run() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(1, _fail)
        await asyncio.sleep(2)

    with pytest.raises(AssertionError) as caught:
        loop.run(main())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def _fail() -> None:
    raise ZeroDivisionError


def test_a_failure_of_main_is_the_runs() -> None:
    async def main() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        loop.run(main())
