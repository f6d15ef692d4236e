"""The figures of a real Kubernetes API as a section of the report. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.bench.figures import Figure, Section, at_most
from tests.bench.kubernetes import IDLE_SECONDS, Kubernetes, Phase

#: The goals (issue 6, "Figures").
UP_GOAL, DOWN_GOAL, RESTART_GOAL_SECONDS = 5.0, 3.0, 30.0
#: With a hundred Instances, and with more.
RSS_GOAL_MIB, RSS_GOAL_MORE_MIB = 170.0, 350.0
EVENTS_GOAL = 3.0
_TAKES = {
    "writes an Instance": "one call that makes or deletes many: a machine is written to four times while it comes up and twice"
    " when it goes, and roll-ups are shared out.",
    "events an Instance": "a word less: each is told as made, Ready, going and gone, and its group's words are shared out.",
    "resident memory": "less of each object in the cache; the simulated cloud and its machines are in it too.",
    "restart → all": "fewer or larger pages of the first lists.",
    "writes of an idle": "a write of an idle system is a defect: it has to be found and taken out.",
    "writes and mutating": "what a restart changes is a defect: it has to be found and taken out.",
}
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
            at_most(f"{number}: writes an Instance, created → Ready", [up], UP_GOAL, 2),
            Figure(f"{number}: … of these its own", f"{_own(run, run.up):.2f}"),
            at_most(f"{number}: writes an Instance, deleted", [down], DOWN_GOAL, 2),
            Figure(f"{number}: … of these its own", f"{_own(run, run.down):.2f}"),
            at_most(f"{number}: events an Instance, created → gone", [_events(run, run.up) + _events(run, run.down)], EVENTS_GOAL, 2),
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
        " out, Events apart; no Lease is held, whose renewals (one in 2 s) would come beside. Memory includes the simulated cloud's"
        " machines."
    )
    return Section("Kubernetes", how, figures, takes=_TAKES)


def _sum(phase: Phase, chosen: Callable[[str], bool]) -> int:
    return sum(number for what, number in phase.writes.items() if chosen(what.split()[1]))


def _writes(phase: Phase) -> int:
    return _sum(phase, lambda what: what != _EVENTS)


def _per(run: Kubernetes, phase: Phase) -> float:
    return _writes(phase) / run.instances


def _own(run: Kubernetes, phase: Phase) -> float:
    return _sum(phase, lambda what: what.partition("/")[0] == "instances") / run.instances


def _events(run: Kubernetes, phase: Phase) -> float:
    return _sum(phase, lambda what: what == _EVENTS) / run.instances


def _cpu(run: Kubernetes, phase: Phase) -> float:
    return 1000 * phase.cpu_seconds / run.instances
