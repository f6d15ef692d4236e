"""The threads that drivers' calls run in: as many as a lane may have, and none of a lane that nobody uses any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

from controller.assembly import CALL_THREADS, CallThreads


def run(scenario: Callable[[CallThreads], Awaitable[None]]) -> None:
    async def main() -> None:
        threads = CallThreads()
        try:
            await scenario(threads)
        finally:
            threads.close()

    asyncio.run(main())


def of_lanes() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("cloud ")]


def test_no_thread_is_left_of_a_lane_that_nobody_uses() -> None:
    """Each Cloud that is asked who it is has a lane, and so has each account."""

    async def scenario(threads: CallThreads) -> None:
        for number in range(50):
            assert await threads(lambda number=number: number, f"lane-{number}") == number
        for each in of_lanes():
            await asyncio.to_thread(each.join, 10)
            assert not each.is_alive()

    run(scenario)


def test_calls_that_nobody_waits_for_any_more_still_have_their_threads() -> None:
    """Else a cloud that hangs would be given more and more of them."""
    release = threading.Event()

    async def scenario(threads: CallThreads) -> None:
        hanging = [asyncio.create_task(threads(lambda: release.wait(30), "lane")) for _ in range(CALL_THREADS)]
        other = asyncio.create_task(threads(lambda: None, "lane"))
        assert await threads(lambda: "at once", "another") == "at once"
        for each in hanging:
            each.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        late = asyncio.create_task(threads(lambda: "late", "lane"))
        assert await threads(lambda: "at once", "another") == "at once"
        assert len(of_lanes()) <= CALL_THREADS + 1
        assert not other.done()
        assert not late.done()
        release.set()
        assert await late == "late"

    run(scenario)


def test_closing_cancels_what_has_not_begun() -> None:
    release = threading.Event()

    async def scenario(threads: CallThreads) -> None:
        begun = [asyncio.create_task(threads(lambda: release.wait(30), "lane")) for _ in range(CALL_THREADS)]
        waiting = asyncio.create_task(threads(lambda: None, "lane"))
        assert await threads(lambda: "at once", "another") == "at once"
        threads.close()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        release.set()
        assert await asyncio.gather(*begun) == [True] * CALL_THREADS

    run(scenario)
