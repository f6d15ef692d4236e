"""Our buckets never let through what the cloud's own would refuse; they lose little by it, and yield when it complains."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.engine.limiter import SAFE, SLOWEST, Limiter, Pace
from controller.ports import Limit


class Truth:
    """The cloud's bucket, whose clock is ours."""

    def __init__(self, limit: Limit) -> None:
        self.limit, self.tokens, self.at = limit, limit.capacity, 0.0

    def admits(self, number: float, now: float) -> bool:
        self.tokens = min(self.limit.capacity, self.tokens + (now - self.at) * self.limit.per_second)
        self.at = now
        self.tokens -= number
        return self.tokens >= 0


limits = st.builds(Limit, st.sampled_from((5.0, 50.0, 100.0, 1000.0)), st.sampled_from((2.0, 5.0, 20.0)))


@given(limits, st.lists(st.tuples(st.floats(0, 30), st.integers(1, 5)), max_size=200))
def test_what_waits_its_turn_is_never_throttled(limit: Limit, asked: list[tuple[float, int]]) -> None:
    pace, truth, now = Pace(limit), Truth(limit), 0.0
    sent: list[tuple[float, int]] = []
    for pause, number in asked:
        now += pause
        sent.append((now + pace.take(number, now), number))
    assert sent == sorted(sent, key=lambda each: each[0]), "who comes first is served first"
    for moment, number in sent:
        assert truth.admits(number, moment)


@given(limits, st.integers(1, 2000))
def test_a_burst_takes_little_longer_than_the_cloud_itself_would_need(limit: Limit, number: int) -> None:
    pace = Pace(limit)
    last = max(pace.take(1, 0.0) for _ in range(number))
    bound = max(0.0, (number - limit.capacity) / limit.per_second)
    assert bound <= last <= bound / SAFE + 2 / (limit.per_second * SAFE)


def test_a_complaint_halves_the_rate_and_quiet_gives_it_back() -> None:
    pace = Pace(Limit(5.0, 2.0))
    pace.slow_down(0.0)
    pace.slow_down(0.1)  # sent together with the first
    assert pace.factor == 0.5
    assert pace.take(1, 0.1) == pytest.approx(1 / (2.0 * SAFE * 0.5), rel=0.1)
    for moment in range(2, 40):
        pace.slow_down(float(moment))
    assert pace.factor == SLOWEST
    pace.take(0, 39.0 + 10 * 20)
    assert pace.factor == 1.0


def test_machines_and_calls_are_counted_apart() -> None:
    limiter = Limiter({"create": (Limit(5.0, 2.0), Limit(1000.0, 2.0, per_machine=True))})
    assert limiter.reserve("create", 0.0, machines=900) == 0
    assert limiter.reserve("create", 0.0, machines=100) > 0, "the thousand are used up"
    limiter.give_back("create", machines=100)
    assert limiter.reserve("create", 0.0, machines=50) == 0
    assert limiter.reserve("delete", 0.0) == 0, "what has no limit is not paced"
