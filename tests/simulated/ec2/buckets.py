"""The token buckets by which EC2 throttles, each action by its own in an account and region, in the World's time.

Every request takes a token of its action's bucket; RunInstances and TerminateInstances also take one of another bucket for
each instance. Figures and rules: "Request throttling for the Amazon EC2 API"
(https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html, read in the state of 2026).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """`size` tokens at most, `rate` more a second."""

    size: float
    rate: float


NON_MUTATING, UNFILTERED, MUTATING = Limit(100, 20), Limit(50, 10), Limit(50, 5)
#: Requests, of actions with figures of their own.
REQUESTS = {"RunInstances": Limit(5, 2), "TerminateInstances": Limit(100, 5), "CreateTags": Limit(100, 10)}
#: Instances.
INSTANCES = {"RunInstances": Limit(1000, 2), "TerminateInstances": Limit(1000, 20)}
#: Of these a call with neither filter nor pages has a smaller bucket; one that names ids has neither.
LISTS = frozenset(("DescribeInstances", "DescribeSecurityGroups", "DescribeVolumes"))


def request_limit(action: str, *, filtered: bool) -> tuple[str, Limit]:
    """Which bucket a request takes its token of, and its figures."""
    if action in REQUESTS:
        return action, REQUESTS[action]
    if not action.startswith(("Describe", "Get", "List", "Search")):
        return action, MUTATING
    if action in LISTS and not filtered:
        return f"{action} unfiltered", UNFILTERED
    return action, NON_MUTATING


class Buckets:
    """All buckets there are; each is full when first asked for."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._levels: dict[tuple[str, ...], tuple[float, float]] = {}

    def take(self, key: tuple[str, ...], limit: Limit, tokens: int = 1) -> bool:
        """Take so many tokens from the bucket of this key, all or none."""
        now = self._clock()
        level, since = self._levels.get(key, (limit.size, now))
        level = min(limit.size, level + (now - since) * limit.rate)
        enough = level >= tokens
        self._levels[key] = (level - tokens if enough else level, now)
        return enough
