"""The figures of a real Kubernetes API as a section of the report. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.bench.figures import Figure, Section
from tests.bench.kubernetes import IDLE_SECONDS, Kubernetes, Phase

#: The goals (issue 6, "Figures").
UP_GOAL, DOWN_GOAL, RESTART_GOAL_SECONDS = 5.0, 3.0, 30.0
#: With a hundred Instances, and with more.
RSS_GOAL_MIB, RSS_GOAL_MORE_MIB = 170.0, 350.0
_WHAT_IT_TAKES = (
    "Of goals that are missed: a machine is written to four times while it comes up and twice when it goes, and roll-ups are shared out;"
    " fewer would need one call that makes or deletes many."
)
#: Events are written beside: one for each thing that a user is told.
_EVENTS = "events"


def section(runs: Mapping[int, Kubernetes]) -> Section:
    """Runs by number of Instances."""
    figures: list[Figure] = []
    for number, run in sorted(runs.items()):
        up, down = _per(run, run.up), _per(run, run.down)
        idle, again = _writes(run.idle), _writes(run.restart)
        most = RSS_GOAL_MIB if number <= 100 else RSS_GOAL_MORE_MIB
        figures += [
            _goal(f"{number}: writes an Instance, created → Ready", up, _events(run, run.up), UP_GOAL),
            Figure(f"{number}: … of these its own", f"{_own(run, run.up):.2f}"),
            Figure(
                f"{number}: writes an Instance, deleted", f"{down:.2f} + {_events(run, run.down)}", f"≤ {DOWN_GOAL:g}", down <= DOWN_GOAL
            ),
            Figure(f"{number}: … of these its own", f"{_own(run, run.down):.2f}"),
            Figure(f"{number}: CPU-ms an Instance up, down", f"{_cpu(run, run.up):.1f}, {_cpu(run, run.down):.1f}"),
            Figure(
                f"{number}: resident memory, MiB before → all Ready",
                f"{run.rss_before:.0f} → {run.rss_after:.0f}",
                f"≤ {most:g}",
                run.rss_after <= most,
            ),
            Figure(f"{number}: writes of an idle system in {IDLE_SECONDS:.0f} s", str(idle), "0", idle == 0),
            Figure(
                f"{number}: restart → all verified, s",
                f"{run.restart.wall_seconds:.1f}",
                f"≤ {RESTART_GOAL_SECONDS:g}",
                run.restart.wall_seconds <= RESTART_GOAL_SECONDS,
            ),
            Figure(
                f"{number}: writes and mutating cloud calls of a restart",
                f"{again} + {run.restart_mutating_calls}",
                "0",
                again + run.restart_mutating_calls == 0,
            ),
        ]
    how = (
        "A real kube-apiserver with etcd, the operator's parts (kopf's watches, the Kubernetes home) but for the cloud, which is simulated,"
        " and health, which is asked of it. Writes are those of the API server's audit log, roll-ups into groups and Infrastructures shared"
        " out, Events apart. Memory includes the simulated cloud's machines."
    )
    return Section("Kubernetes", how, figures, misses=_WHAT_IT_TAKES)


def _goal(what: str, writes: float, events: str, goal: float) -> Figure:
    return Figure(what, f"{writes:.2f} + {events}", f"≤ {goal:g}", writes <= goal)


def _sum(phase: Phase, chosen: Callable[[str], bool]) -> int:
    return sum(number for what, number in phase.writes.items() if chosen(what.split()[1]))


def _writes(phase: Phase) -> int:
    return _sum(phase, lambda what: what != _EVENTS)


def _per(run: Kubernetes, phase: Phase) -> float:
    return _writes(phase) / run.instances


def _own(run: Kubernetes, phase: Phase) -> float:
    return _sum(phase, lambda what: what.partition("/")[0] == "instances") / run.instances


def _events(run: Kubernetes, phase: Phase) -> str:
    return f"{_sum(phase, lambda what: what == _EVENTS) / run.instances:.2f} events"


def _cpu(run: Kubernetes, phase: Phase) -> float:
    return 1000 * phase.cpu_seconds / run.instances
