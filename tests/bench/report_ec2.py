"""The figures of a fleet on EC2 as a section of the report, and its picture. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

from tests.bench.ec2 import IDLE_SECONDS, TERMINATING_SECONDS, Fleet
from tests.bench.ec2_kubernetes import Writes
from tests.bench.figures import Figure, Section, at_most, spread

#: The goals (issue 7, "Figures to reach").
FAN_OUT_GOAL = 1.30
CALLS_ALIKE_GOAL, READS_GOAL, CALLS_DIFFERENT_GOAL = 0.02, 0.5, 1.0
ALIKE_BEYOND_GOAL_SECONDS, DIFFERENT_GOAL = 30.0, 1.10
CPU_GOAL_MS = 60.0
RSS_GOALS_MIB = {100: 170.0, 1000: 350.0}
LISTS_GOAL = 300
RESTART_GOAL_SECONDS, DOWN_GOAL_SECONDS = 30.0, 60.0
CONDITION_GOAL_SECONDS, CALL_GOAL_SECONDS, ABSENT_GOAL_SECONDS = 20.0, 25.0, 60.0
UP_GOAL, DOWN_GOAL, EVENTS_GOAL = 5.0, 3.0, 3.0
#: What it would take to meet a goal that is missed, by words of the figures.
_TAKES = {
    "writes a machine, created": "a call that makes many: each is written to four times (made, its launch, its machine, that it"
    " serves; once more where it takes long), and roll-ups every two seconds are shared out.",
    "writes a machine, deleted": "a call that deletes many: each is written to twice (deleted, let go), and roll-ups are shared out.",
    "events a machine": "a word less: each is told as made, Ready, going and gone, and its group's words are shared out.",
    "writes of": "a write of an idle system is a defect: it has to be found and taken out.",
    "idle: writes": "a write of an idle system is a defect: it has to be found and taken out.",
    "restart: mutating": "what a restart changes is a defect: it has to be found and taken out.",
    "restart → all": "fewer pages, or lists of more Clouds at once.",
    "CPU-ms": "fewer writes and lists: of different machines a third are the writes, a tenth is boto3's launch, most of the rest"
    " are lists.",
    "resident memory": "less of each object in the cache; the light EC2 and its machines are in it too.",
    "lists an hour": "a slower pace, by which what happens is known later.",
    "reads": "a slower pace while machines boot, by which dependents start later.",
    "mutating calls": "larger batches, or fewer refusals.",
    "throttled": "a bucket of ours further below EC2's.",
    "merely absent": "whole lists more often: NotFound is asked twice, 30 s apart, after a list has lacked the machine.",
    "condition": "more lists: one in 12.5 s is the slowest.",
    "call for another": "more lists: one in 12.5 s is the slowest.",
    "makespan": "the list that shows the last machine, and the write that says it serves, sooner.",
    "beyond the slowest": "the list that shows the last machine, and the write that says it serves, sooner.",
    "last launch": "a bucket of ours nearer to EC2's, with throttled calls now and then.",
    "deleted: beyond": "more writes at once: each machine's object is written to twice.",
}
_HOUR_SECONDS = 3600.0
#: The picture's file, beside the page.
PICTURE = "benchmark-ec2.svg"


def section(runs: Sequence[Fleet], writes: Sequence[Writes]) -> Section:
    """Runs of one fleet stand one after the other, and give a row of figures; then what they write to Kubernetes."""
    how = (
        "The `ec2` driver and boto3 against a light EC2 that throttles by EC2's published buckets, shows a change 2 s late and boots"
        " machines in 20 to 60 s, in virtual time. A list counts once whatever its pages. CPU is of the controller's thread, boto3"
        " included; memory is of the whole process and includes the light EC2 and its machines. The bound of different machines is what"
        " EC2's bucket of launch requests lets through (5 at once, then 2 a second); of alike ones there is none, as one call makes a"
        " hundred. Goals are held against the worst of the runs; each run of 100 loses three machines in each way, of 1,000 one, at"
        " random moments. Health is the simulated cloud's word: no probe is in the CPU. What is written to Kubernetes is counted in the"
        " audit log of a real API server, roll-ups shared out, Events apart; no Lease is held."
    )
    fleets = [list(each) for _, each in itertools.groupby(runs, _name)]
    rows = [row for each in fleets for row in (*_up(each), *_standing(each), *_lost(each), *_down(each))]
    rows += [row for each in writes for row in _writes(each)]
    return Section("EC2", how, rows, PICTURE, _TAKES)


def _name(run: Fleet) -> str:
    return f"{run.instances} {'alike' if run.alike else 'different'}"


def _each(runs: Sequence[Fleet], value: Callable[[Fleet], float]) -> list[float]:
    return [value(run) for run in runs]


def _up(runs: Sequence[Fleet]) -> list[Figure]:
    last, name, number = runs[-1], _name(runs[-1]), runs[-1].instances
    throttled = [run.up.throttled + run.up.calls.get("CreateTags", 0) for run in runs]
    return [
        *_times(runs),
        at_most(
            f"{name}: mutating calls a machine, created → Ready",
            _each(runs, lambda run: run.up.mutating / number),
            CALLS_ALIKE_GOAL if last.alike else CALLS_DIFFERENT_GOAL,
            3,
        ),
        at_most(
            f"{name}: reads a machine, created → Ready",
            _each(runs, lambda run: _reads(run) / number),
            READS_GOAL if last.alike and number == 100 else None,
            2,
        ),
        Figure(f"{name}: … lists, questions by id, their pages", f"{last.up.lists}, {last.up.described}, {last.up.pages}"),
        at_most(f"{name}: throttled calls and CreateTags", throttled, 0, 0),
        at_most(f"{name}: CPU-ms a machine, created → Ready", _each(runs, lambda run: 1000 * run.up.cpu_seconds / number), CPU_GOAL_MS, 1),
        Figure(
            f"{name}: writes a machine to the state file, created → Ready",
            spread(_each(runs, lambda run: run.up.writes / number), digits=2),
        ),
        at_most(f"{name}: resident memory, MiB", _each(runs, lambda run: run.rss_after), RSS_GOALS_MIB.get(number), 0),
    ]


def _times(runs: Sequence[Fleet]) -> list[Figure]:
    name, bound = _name(runs[-1]), runs[-1].bound
    if not runs[-1].alike:
        launched = f"{name}: last launch ÷ the bucket's own bound of {bound:.0f} s"
        whole = f"{name}: makespan ÷ (bound + longest boot + health)"
        return [
            at_most(launched, _each(runs, lambda run: run.launched / bound), DIFFERENT_GOAL, 3),
            at_most(whole, _each(runs, lambda run: run.up.seconds / (bound + run.longest)), None, 3),
        ]
    ratios = _each(runs, lambda run: run.up.seconds / run.longest)
    beyond = _each(runs, lambda run: run.up.seconds - run.longest)
    return [
        at_most(f"{name}: makespan ÷ longest (boot + health)", ratios, FAN_OUT_GOAL, 3),
        at_most(f"{name}: all Ready beyond the slowest machine, s", beyond, ALIKE_BEYOND_GOAL_SECONDS, 1),
    ]


def _standing(runs: Sequence[Fleet]) -> list[Figure]:
    name = _name(runs[-1])
    return [
        at_most(f"{name}: idle: writes", _each(runs, lambda run: run.idle.writes), 0, 0),
        at_most(f"{name}: idle: lists an hour", _each(runs, lambda run: run.idle.lists * _HOUR_SECONDS / IDLE_SECONDS), LISTS_GOAL, 0),
        at_most(f"{name}: restart: mutating calls and writes", _each(runs, lambda run: run.restart.mutating + run.restart.writes), 0, 0),
        at_most(f"{name}: restart → all verified, virtual s", _each(runs, lambda run: run.restart.seconds), RESTART_GOAL_SECONDS, 1),
    ]


def _lost(runs: Sequence[Fleet]) -> list[Figure]:
    name = _name(runs[-1])
    found: list[Figure] = []
    for how, losses in (
        ("terminated", [each for run in runs for each in run.lost]),
        ("stopped", [each for run in runs for each in run.stopped]),
    ):
        found.append(at_most(f"{name}: one {how} → condition, s", [said for said, _ in losses], CONDITION_GOAL_SECONDS, 1, "losses"))
        found.append(at_most(f"{name}: one {how} → call for another, s", [called for _, called in losses], CALL_GOAL_SECONDS, 1, "losses"))
    absent = [max(each) for run in runs for each in run.absent]
    return [*found, at_most(f"{name}: one merely absent → call for another, s", absent, ABSENT_GOAL_SECONDS, 1, "losses")]


def _writes(run: Writes) -> list[Figure]:
    name = f"{run.instances} {'alike' if run.alike else 'different'} on Kubernetes"
    up, down = (_shared(phase) / run.instances for phase in (run.up, run.down))
    events = [phase.get("create events", 0) / run.instances for phase in (run.up, run.down)]
    still = _shared(run.idle) + _shared(run.restart)
    return [
        at_most(f"{name}: writes a machine, created → Ready", [up], UP_GOAL, 2),
        at_most(f"{name}: writes a machine, deleted", [down], DOWN_GOAL, 2),
        at_most(f"{name}: events a machine, created → gone", [sum(events)], EVENTS_GOAL, 2),
        Figure(f"{name}: writes of {IDLE_SECONDS:.0f} s of quiet, and of a restart", str(still), "0", still == 0),
    ]


def _shared(phase: Mapping[str, int]) -> int:
    return sum(number for what, number in phase.items() if not what.endswith(" events"))


def _down(runs: Sequence[Fleet]) -> list[Figure]:
    last, name = runs[-1], _name(runs[-1])
    beyond = _each(runs, lambda run: run.down.seconds - TERMINATING_SECONDS)
    cpu = spread(_each(runs, lambda run: 1000 * run.down.cpu_seconds / run.instances))
    return [
        at_most(f"{name}: deleted: beyond the cloud's own {TERMINATING_SECONDS:.0f} s", beyond, DOWN_GOAL_SECONDS, 1),
        Figure(f"{name}: deleted: calls; CPU-ms a machine", f"{last.down.mutating}; {cpu}"),
    ]


def _reads(run: Fleet) -> int:
    return run.up.lists + run.up.described + sum(run.up.calls.values()) - run.up.mutating - run.up.pages


# --- the picture ----------------------------------------------------------------------------------------------------
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 720, 320, 60, 40, 20
_COLOURS = ("#0b6e99", "#b5521b", "#4a7c2c", "#7a3e9d")


def picture(runs: Sequence[Fleet]) -> str:
    """Machines Ready over time, as SVG: a line of the first run of each fleet, four at most, dashed what EC2's bucket lets be launched."""
    runs = [next(each) for _, each in itertools.groupby(runs, _name)]
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
