"""The figures of a fleet on EC2 as a section of the report, and its picture. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.bench.ec2 import IDLE_SECONDS, TERMINATING_SECONDS, Fleet
from tests.bench.ec2_kubernetes import Writes
from tests.bench.figures import Figure, Section

#: The goals (issue 7, "Figures to reach").
FAN_OUT_GOAL = 1.30
CALLS_ALIKE_GOAL, READS_GOAL, CALLS_DIFFERENT_GOAL = 0.02, 0.5, 1.0
ALIKE_BEYOND_GOAL_SECONDS, DIFFERENT_GOAL = 30.0, 1.10
CPU_GOAL_MS = 60.0
RSS_GOALS_MIB = {100: 170.0, 1000: 350.0}
LISTS_GOAL = 300
RESTART_GOAL_SECONDS, DOWN_GOAL_SECONDS = 30.0, 60.0
CONDITION_GOAL_SECONDS, CALL_GOAL_SECONDS, ABSENT_GOAL_SECONDS = 20.0, 25.0, 60.0
UP_GOAL, DOWN_GOAL = 5.0, 3.0
#: What stands in the way of the goals that are missed.
_WHAT_IT_TAKES = (
    "Of goals that are missed: a machine of a fleet is written to four times while it comes up (made, its launch, its machine, that it"
    " serves; once more where it takes long) and twice when it goes (deleted, let go); fewer would need a call that makes or deletes many."
    " The roll-ups of its group and Infrastructure, every two seconds, are shared out: seldomer ones would cost those who wait for them. Of"
    " the processor's time of different machines a third are the writes, a tenth is boto3's launch, most of the rest are lists."
)
_HOUR_SECONDS = 3600.0
#: The picture's file, beside the page.
PICTURE = "benchmark-ec2.svg"


def section(runs: Sequence[Fleet], writes: Sequence[Writes]) -> Section:
    """One run a row of figures; the runs by number and whether the machines are alike, then what they write to Kubernetes."""
    how = (
        "The `ec2` driver and boto3 against a light EC2 that throttles by EC2's published buckets, shows a change 2 s late and boots"
        " machines in 20 to 60 s, in virtual time. A list counts once whatever its pages. CPU is of the controller's thread, boto3"
        " included; memory is of the whole process and includes the light EC2 and its machines. The bound of different machines is what"
        " EC2's bucket of launch requests lets through (5 at once, then 2 a second); of alike ones there is none, as one call makes a"
        " hundred. What is written to Kubernetes is counted in the audit log of a real API server, roll-ups shared out, Events apart."
    )
    rows = [row for run in runs for row in (*_up(run), *_standing(run), *_lost(run), *_down(run))]
    rows += [row for each in writes for row in _writes(each)]
    return Section("EC2", how, rows, PICTURE, _WHAT_IT_TAKES)


def _name(run: Fleet) -> str:
    return f"{run.instances} {'alike' if run.alike else 'different'}"


def _up(run: Fleet) -> list[Figure]:
    name, number = _name(run), run.instances
    calls, reads = run.up.mutating / number, (_reads(run)) / number
    goal = CALLS_ALIKE_GOAL if run.alike else CALLS_DIFFERENT_GOAL
    tagged = run.up.calls.get("CreateTags", 0)
    cpu = 1000 * run.up.cpu_seconds / number
    found = [
        _at_most(f"{name}: mutating calls a machine, created → Ready", calls, goal, 3),
        _at_most(f"{name}: reads a machine, created → Ready", reads, READS_GOAL if run.alike and number == 100 else None, 2),
        Figure(f"{name}: … lists, questions by id, their pages", f"{run.up.lists}, {run.up.described}, {run.up.pages}"),
        Figure(f"{name}: throttled calls, CreateTags", f"{run.up.throttled}, {tagged}", "0", run.up.throttled + tagged == 0),
        _at_most(f"{name}: CPU-ms a machine, created → Ready", cpu, CPU_GOAL_MS, 1),
        Figure(f"{name}: writes a machine to the state file, created → Ready", f"{run.up.writes / number:.2f}"),
        _at_most(f"{name}: resident memory, MiB", run.rss_after, RSS_GOALS_MIB.get(number), 0),
    ]
    return [*_times(run), *found]


def _times(run: Fleet) -> list[Figure]:
    name, seconds = _name(run), run.up.seconds
    if not run.alike:
        ratio = run.launched / run.bound if run.bound else 0.0
        return [
            _at_most(f"{name}: last launch ÷ the bucket's own bound of {run.bound:.0f} s", ratio, DIFFERENT_GOAL, 3),
            _at_most(f"{name}: makespan ÷ (bound + longest boot + health)", seconds / (run.bound + run.longest), None, 3),
        ]
    beyond = seconds - run.longest
    return [
        _at_most(f"{name}: makespan ÷ longest (boot + health)", seconds / run.longest, FAN_OUT_GOAL, 3),
        _at_most(f"{name}: all Ready beyond the slowest machine, s", beyond, ALIKE_BEYOND_GOAL_SECONDS, 1),
    ]


def _standing(run: Fleet) -> list[Figure]:
    name = _name(run)
    lists = run.idle.lists * _HOUR_SECONDS / IDLE_SECONDS
    changed = run.restart.mutating + run.restart.writes
    return [
        Figure(f"{name}: idle: writes", str(run.idle.writes), "0", run.idle.writes == 0),
        _at_most(f"{name}: idle: lists an hour", lists, LISTS_GOAL, 0),
        Figure(f"{name}: restart: mutating calls + writes", f"{run.restart.mutating} + {run.restart.writes}", "0", changed == 0),
        _at_most(f"{name}: restart → all verified, virtual s", run.restart.seconds, RESTART_GOAL_SECONDS, 1),
    ]


def _lost(run: Fleet) -> list[Figure]:
    name = _name(run)
    found: list[Figure] = []
    for how, (said, called) in (("terminated", run.lost), ("stopped", run.stopped)):
        found.append(_at_most(f"{name}: one {how} → condition, s", said, CONDITION_GOAL_SECONDS, 1))
        found.append(_at_most(f"{name}: one {how} → call for another, s", called, CALL_GOAL_SECONDS, 1))
    return [*found, _at_most(f"{name}: one merely absent → call for another, s", max(run.absent), ABSENT_GOAL_SECONDS, 1)]


def _writes(run: Writes) -> list[Figure]:
    name = f"{run.instances} {'alike' if run.alike else 'different'} on Kubernetes"
    up, down = (_shared(phase) / run.instances for phase in (run.up, run.down))
    events = [phase.get("create events", 0) / run.instances for phase in (run.up, run.down)]
    still = _shared(run.idle) + _shared(run.restart)
    return [
        Figure(f"{name}: writes a machine, created → Ready", f"{up:.2f} + {events[0]:.2f} events", f"≤ {UP_GOAL:g}", up <= UP_GOAL),
        Figure(f"{name}: writes a machine, deleted", f"{down:.2f} + {events[1]:.2f} events", f"≤ {DOWN_GOAL:g}", down <= DOWN_GOAL),
        Figure(f"{name}: writes of {IDLE_SECONDS:.0f} s of quiet, and of a restart", str(still), "0", still == 0),
    ]


def _shared(phase: Mapping[str, int]) -> int:
    return sum(number for what, number in phase.items() if not what.endswith(" events"))


def _down(run: Fleet) -> list[Figure]:
    name = _name(run)
    return [
        _at_most(
            f"{name}: deleted: beyond the cloud's own {TERMINATING_SECONDS:.0f} s",
            run.down.seconds - TERMINATING_SECONDS,
            DOWN_GOAL_SECONDS,
            1,
        ),
        Figure(f"{name}: deleted: calls, CPU-ms a machine", f"{run.down.mutating}, {1000 * run.down.cpu_seconds / run.instances:.1f}"),
    ]


def _reads(run: Fleet) -> int:
    return run.up.lists + run.up.described + sum(run.up.calls.values()) - run.up.mutating - run.up.pages


def _at_most(what: str, value: float, goal: float | None, digits: int) -> Figure:
    if goal is None:
        return Figure(what, f"{value:.{digits}f}")
    return Figure(what, f"{value:.{digits}f}", f"≤ {goal:g}", value <= goal)


# --- the picture ----------------------------------------------------------------------------------------------------
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 720, 320, 60, 40, 20
_COLOURS = ("#0b6e99", "#b5521b", "#4a7c2c", "#7a3e9d")


def picture(runs: Sequence[Fleet]) -> str:
    """Machines Ready over time, as SVG: a line a run, four at most, and dashed what EC2's bucket lets be launched."""
    seconds = max(run.up.seconds for run in runs)
    most = max(run.instances for run in runs)

    def place(time: float, number: float) -> str:
        x = _LEFT + (_WIDTH - _LEFT - 10) * time / seconds
        y = _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * number / most
        return f"{x:.1f},{y:.1f}"

    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">']
    lines.append(f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>')
    for part in range(5):
        number, time = most * part / 4, seconds * part / 4
        y, x = place(0, number).split(",")[1], place(time, 0).split(",")[0]
        lines.append(f'<path d="M{_LEFT},{y} H{_WIDTH - 10}" stroke="#ddd"/>')
        lines.append(f'<text x="{_LEFT - 6}" y="{y}" text-anchor="end">{number:.0f}</text>')
        lines.append(f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{time:.0f} s</text>')
    for index, (run, colour) in enumerate(zip(runs, _COLOURS[: len(runs)], strict=True)):
        points = " ".join(place(time, number) for time, number in ((0.0, 0), *run.ready))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines.append(f'<text x="{_LEFT + 12}" y="{_TOP + 4 + 16 * index}" fill="{colour}">{_name(run)}, Ready</text>')
        if run.bound:
            bound = f"{place(0, 5)} {place(run.bound, run.instances)}"
            lines.append(f'<polyline points="{bound}" fill="none" stroke="{colour}" stroke-dasharray="5 4"/>')
    lines.append(f'<text x="{_WIDTH // 2}" y="{_HEIGHT - 6}" text-anchor="middle">dashed: what EC2\'s bucket lets be launched</text></svg>')
    return "\n".join([*lines, ""])


__all__ = ["CALL_GOAL_SECONDS", "CONDITION_GOAL_SECONDS", "picture", "section"]
