"""The queue against a model of client-go's semantics, and the few things that the model does not show."""

from __future__ import annotations

import asyncio
import random
import weakref
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.engine.queue import RETRY_FIRST_SECONDS, RETRY_MOST_SECONDS, Lane, WorkQueue
from tests.simulated import loop

KEYS = st.sampled_from("abcd")


class Longest(random.Random):
    """Chance that always draws the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


class QueueModel(RuleBasedStateMachine):
    """client-go: `dirty` keys are to be worked on, `busy` ones are; a key that is both comes back when it is done."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = loop.VirtualLoop(loop.Clock())
        self.queue: WorkQueue[str] = self.run_now(self._made())
        self.ready: dict[Lane, list[str]] = {Lane.USER: [], Lane.BACKGROUND: []}
        self.dirty: dict[str, Lane] = {}
        self.busy: set[str] = set()
        self.due: dict[str, tuple[float, int]] = {}
        self.failures: dict[str, int] = {}
        self.count = 0

    def run_now(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    async def _made(self) -> WorkQueue[str]:
        return WorkQueue[str](Longest())

    def teardown(self) -> None:
        self.queue.close()
        self.loop.close()

    # --- the model
    def _model_add(self, key: str, lane: Lane) -> None:
        if key in self.busy:
            self.dirty[key] = lane if self.dirty.get(key) is not Lane.USER else Lane.USER
            return
        self.due.pop(key, None)
        if key in self.dirty:
            if lane is Lane.BACKGROUND or self.dirty[key] is Lane.USER:
                return
            self.ready[Lane.BACKGROUND].remove(key)
        self.dirty[key] = lane
        self.ready[lane].append(key)

    def _model_after(self, key: str, seconds: float) -> None:
        at = self.loop.time() + seconds
        if (key in self.dirty and key not in self.busy) or self.due.get(key, (float("inf"), 0))[0] <= at:
            return
        self.count += 1
        self.due[key] = (at, self.count)

    # --- the rules
    @rule(key=KEYS, lane=st.sampled_from(Lane))
    def add(self, key: str, lane: Lane) -> None:
        self._model_add(key, lane)
        self.run_now(_call(self.queue.add, key, lane))

    @rule(key=KEYS, seconds=st.integers(1, 20))
    def add_after(self, key: str, seconds: int) -> None:
        self._model_after(key, seconds)
        self.run_now(_call(self.queue.add_after, key, seconds))

    @rule(key=KEYS)
    def bring_forward(self, key: str) -> None:
        """So often that what was put off before is cleared away."""
        for seconds in range(120, 20, -1):
            self.add_after(key, seconds)

    @rule(key=KEYS)
    def retry(self, key: str) -> None:
        failures = self.failures.get(key, 0)
        self.failures[key] = failures + 1
        self._model_after(key, min(RETRY_MOST_SECONDS, RETRY_FIRST_SECONDS * 2**failures))
        self.run_now(_call(self.queue.retry, key))

    @rule(key=KEYS)
    def forget(self, key: str) -> None:
        self.failures.pop(key, None)
        self.queue.forget(key)

    @rule()
    def get(self) -> None:
        expected = next((keys[0] for keys in self.ready.values() if keys), None)
        assert self.run_now(_at_once(self.queue.get())) == expected
        if expected is not None:
            self.ready[self.dirty.pop(expected)].remove(expected)
            self.busy.add(expected)

    @precondition(lambda self: bool(self.busy))
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.busy)))
        self.busy.discard(key)
        lane = self.dirty.pop(key, None)
        if lane is not None:
            self._model_add(key, lane)
        self.run_now(_call(self.queue.done, key))

    @rule(seconds=st.integers(1, 100))
    def pass_time(self, seconds: int) -> None:
        until = self.loop.time() + seconds
        for key, _ in sorted(((key, at) for key, at in self.due.items() if at[0] <= until), key=lambda each: each[1]):
            self.due.pop(key, None)
            self._model_add(key, Lane.BACKGROUND)
        self.run_now(asyncio.sleep(seconds))

    # --- what always holds
    @invariant()
    def counts_agree(self) -> None:
        waiting = sum(map(len, self.ready.values()))
        assert len(self.queue) == waiting
        assert self.queue.idle == (not waiting and not self.busy)


TestQueueModel = QueueModel.TestCase
TestQueueModel.settings = settings(stateful_step_count=25)


async def _call(call: Any, *arguments: Any) -> None:
    call(*arguments)


async def _at_once(get: Coroutine[Any, Any, str]) -> str | None:
    """What the queue gives without waiting."""
    task = asyncio.get_running_loop().create_task(get)
    for _ in range(3):
        await asyncio.sleep(0)
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return None


def test_nothing_is_lost_and_no_key_has_two_workers() -> None:
    """Workers of different speeds, and keys that are added while they are worked on."""
    seen: dict[int, int] = {}
    busy: set[int] = set()

    async def work(queue: WorkQueue[int], rng: random.Random) -> None:
        while True:
            key = await queue.get()
            assert key not in busy
            busy.add(key)
            seen[key] = asserted[key]
            await asyncio.sleep(rng.uniform(0, 3))
            busy.discard(key)
            queue.done(key)

    asserted: dict[int, int] = {}

    async def main() -> None:
        queue: WorkQueue[int] = WorkQueue()
        rng = random.Random(7)
        tasks = [asyncio.create_task(work(queue, rng)) for _ in range(5)]
        for number in range(1000):
            key = rng.randrange(20)
            asserted[key] = number
            queue.add(key, rng.choice(list(Lane)))
            await asyncio.sleep(rng.choice((0, 0, 0.1)))
        while not queue.idle:
            await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in results)

    loop.run(main())
    assert seen == asserted, "some worker saw the state of each key's last add"


@pytest.mark.parametrize(
    ("retries", "limit", "least", "most"),
    [
        pytest.param(1, (), 0.05, 0.5, id="first"),
        pytest.param(2, (), 0.1, 1.0, id="second"),
        pytest.param(5, (), 0.8, 8.0, id="fifth"),
        pytest.param(40, (), 6.0, 60.0, id="at the longest"),
        pytest.param(40, (2.0,), 0.2, 2.0, id="at another limit"),
    ],
)
def test_back_off_doubles_with_full_jitter(retries: int, limit: tuple[float, ...], least: float, most: float) -> None:
    async def main(seed: int) -> float:
        queue: WorkQueue[str] = WorkQueue(random.Random(seed))
        for number in range(retries):
            started = loop.clock()
            queue.retry("key", *limit)
            assert await queue.get() == "key"
            queue.done("key")
            if number == retries - 1:
                return loop.clock() - started
        raise AssertionError("no retry")

    waits = [loop.run(main(seed)) for seed in range(40)]
    assert all(least <= each <= most for each in waits)
    assert max(waits) - min(waits) > (most - least) / 2, "spread over the whole range"


def test_oldest_seconds_tells_for_how_long_the_first_key_waits() -> None:
    async def main() -> tuple[float, float, float]:
        queue: WorkQueue[str] = WorkQueue()
        before = queue.oldest_seconds()
        queue.add("a")
        await asyncio.sleep(5)
        queue.add("b", Lane.USER)
        await asyncio.sleep(2)
        both = queue.oldest_seconds()
        assert await queue.get() == "b"
        assert await queue.get() == "a"
        return before, both, queue.oldest_seconds()

    assert loop.run(main()) == pytest.approx((0, 7, 0))


def test_a_key_that_moved_to_the_other_lane_still_counts_as_the_oldest() -> None:
    """Behind a younger one it is not the first of its lane."""

    async def main() -> float:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        await asyncio.sleep(5)
        queue.add("b", Lane.USER)
        queue.add("a", Lane.USER)
        await asyncio.sleep(2)
        return queue.oldest_seconds()

    assert loop.run(main()) == pytest.approx(7)


def test_the_earliest_due_time_counts_and_wakes_once() -> None:
    async def main() -> tuple[float, bool]:
        queue: WorkQueue[str] = WorkQueue()
        for seconds in (20, 5, 10, 40):
            queue.add_after("key", seconds)
        assert await queue.get() == "key"
        at = loop.clock()
        queue.done("key")
        await asyncio.sleep(100)
        return at, queue.idle

    assert loop.run(main()) == (5, True)


@dataclass(frozen=True)
class Numbered:
    """One of equal keys, each an object of its own."""

    number: int


def test_what_was_put_off_and_woken_earlier_is_not_kept() -> None:
    """A machine that starts is looked at each second, and is to be looked at in ten minutes, when it has taken too long."""

    async def main() -> int:
        queue: WorkQueue[Numbered] = WorkQueue()
        given: list[weakref.ref[Numbered]] = []
        for _ in range(600):
            for number in range(10):
                key = Numbered(number)
                given.append(weakref.ref(key))
                queue.add_after(key, 600)
                queue.add(key)
                del key
                queue.done(await queue.get())
        return sum(1 for each in given if each() is not None)

    assert loop.run(main()) < 100


def test_what_a_user_did_comes_first() -> None:
    async def main() -> list[str]:
        queue: WorkQueue[str] = WorkQueue()
        for key in "abc":
            queue.add(key)
        queue.add("u")
        queue.add("u", Lane.USER)
        queue.add("b", Lane.USER)
        return [await queue.get() for _ in range(4)]

    assert loop.run(main()) == ["u", "b", "a", "c"]


@pytest.mark.parametrize("seconds", [pytest.param(0, id="zero"), pytest.param(-3, id="past")])
def test_a_due_time_that_is_now_wakes_at_once(seconds: float) -> None:
    async def main() -> float:
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("key", seconds)
        assert await queue.get() == "key"
        return loop.clock()

    assert loop.run(main()) == 0
