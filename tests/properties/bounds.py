"""How many machines of each service of `documents.chain` a story may make, at once and in all: from what was wanted, taken and lost.

What was made too much and ended again soon after is seen here, where the end of the story shows nothing of it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.simulated.world import NEVER, SimulatedMachine
from tests.system.rig import Rig

#: Of each service, the least and the most that may be wanted.
_SCALES = {"db": (1, 1), "app": (2, 5), "web": (1, 1)}


@dataclass(slots=True)
class Asked:
    """What users asked for: of each service the most machines ever wanted, and how many they took away."""

    most: dict[str, int] = field(default_factory=lambda: {service: least for service, (least, _) in _SCALES.items()})
    taken: Counter[str] = field(default_factory=Counter[str])

    def take(self, service: str) -> None:
        """An Instance was deleted."""
        self.taken[service] += 1

    def scale(self, service: str, before: int, replicas: int) -> None:
        """`replicas` of its group was changed."""
        old, new = _wanted(service, before), _wanted(service, replicas)
        self.most[service] = max(self.most[service], new)
        self.taken[service] += max(0, old - new)


def judge(rig: Rig, asked: Asked) -> None:
    """Ask the world for all that it ever made. To be asked when as many live as are wanted."""
    for service, most in asked.most.items():
        made, taken = rig.made(service), asked.taken[service]
        _judge_all(made, taken, rig.clock())
        _judge_peak(made, most + max(1, most // 5) + taken)


def _wanted(service: str, replicas: int) -> int:
    least, most = _SCALES[service]
    return min(most, max(least, replicas))


def _judge_all(made: Sequence[SimulatedMachine], taken: int, now: float) -> None:
    """Each machine that was ended was lost, or may go."""
    ended = [each for each in made if each.ending < now and not _was_lost(each)]
    assert len(ended) <= taken, f"{taken} may go, and ended were {[each.id for each in ended]}"


def _was_lost(machine: SimulatedMachine) -> bool:
    """Whether it ended, stopped or fell ill by itself. When is not asked: the World keeps the newest time alone."""
    return machine.ended <= machine.ending or min(machine.stopped, machine.failed, machine.unhealthy) < NEVER


def _judge_peak(made: Sequence[SimulatedMachine], bound: int) -> None:
    """What ends, or does not run any more, may run beside what is made in its place; what is ill within the brake."""
    ends = ((each.created, min(each.ending, each.stopped, each.failed)) for each in made)
    changes = sorted(change for begin, end in ends for change in ((begin, 1), (end, -1)))
    peak = max(itertools.accumulate(number for _, number in changes), default=0)
    assert peak <= bound, f"{peak} at once, at most {bound} may be"


__all__ = ["Asked", "judge"]
