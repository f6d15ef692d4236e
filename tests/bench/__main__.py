"""`make bench`: measure, print the figures, write `docs/benchmark.md` and its picture, and `.dev/bench.json`.

`python -m tests.bench` is called at the top of the repository. It decides what is measured how often; what a figure is
stands in the modules that measure. With `--again` it words anew what `.dev/bench.json` has of the last measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.bench import ec2, ec2_kubernetes, idle, kubernetes, local, makespan, reaction, report, report_ec2, scale, shapes
from tests.bench.report import Results, Section

PAGE, DATA = Path("docs/benchmark.md"), Path(".dev/bench.json")
#: Bounds of the seconds from running until serving. Without any, what it takes to see that a machine runs shows whole.
HEALTH = {"serves 5 to 15 s after it runs": (5.0, 15.0), "serves when it runs": (0.0, 0.0)}
#: Shapes and how many seeds each has.
SHAPES = ((shapes.chain(10), 10), (shapes.layers(10, 10), 3))
#: Services, machines of each, and runs: the spread of the small one is the noise of all.
SCALES = ((1, 250, 3), (1, 500, 1), (1, 1000, 1), (10, 100, 1))
#: How quiet it was before a machine is lost, in seconds, and over how many seeds.
QUIET = {"just up": 5.0, "quiet for 15 min": 900.0}
REACTIONS = 20
#: Instances on a real API server.
KUBERNETES = (100, 1000)
#: Of what is brought up on EC2 the shape and how many seeds; fleets there by their machines, whether they are alike, and runs.
ON_EC2 = (shapes.layers(10, 10), 3)
FLEETS = ((100, True, 3), (100, False, 3), (1000, True, 1), (1000, False, 1))

T = TypeVar("T")
Step = tuple[str, Callable[[], None]]


class Bench:
    """The steps, and what they found so far."""

    def __init__(self) -> None:
        self.makespans: dict[str, list[makespan.Makespan]] = {}
        self.scales: dict[str, list[scale.Scale]] = {}
        self.reactions: dict[str, list[reaction.Reaction]] = {}
        self.idle: list[idle.Idle] = []
        self.local: list[local.Local] = []
        self.kubernetes: dict[int, kubernetes.Kubernetes] = {}
        self.ec2: list[ec2.Fleet] = []
        self.ec2_kubernetes: list[ec2_kubernetes.Writes] = []

    def steps(self) -> list[Step]:
        """All there is to measure: its title, and the measurement."""
        found: list[Step] = []
        for shape, seeds in SHAPES:
            for how, bounds in HEALTH.items():
                title = f"{shape.title}, {how}"
                found += [(f"makespan: {title}", self._makespan(title, shape, seed, bounds)) for seed in range(seeds)]
        shape, seeds = ON_EC2
        title = f"{shape.title}, {ec2.ON_EC2}"
        found += [(f"makespan: {title}", self._makespan_on_ec2(title, shape, seed)) for seed in range(seeds)]
        for services, replicas, runs in SCALES:
            title = shapes.flat(services, replicas).title
            found += [(f"scale: {title}", self._scale(title, services, replicas))] * runs
        found.append(("idle: 1000 Instances", lambda: self.idle.append(_child(idle.Idle, "idle", 1, 1000))))
        for title, seconds in QUIET.items():
            found += [(f"reaction: {title}", self._reaction(title, seed, seconds)) for seed in range(REACTIONS)]
        for number, alike, runs in FLEETS:
            found += [(f"ec2: {number} {'alike' if alike else 'different'}", self._ec2(number, alike))] * runs
        for number, alike, _ in FLEETS:
            found.append((f"ec2 on Kubernetes: {number} {'alike' if alike else 'different'}", self._ec2_kubernetes(number, alike)))
        for number in KUBERNETES:
            found.append((f"kubernetes: {number} Instances", self._kubernetes(number)))
        return [*found, ("real processes", lambda: self.local.append(local.measure()))]

    def results(self) -> Results:
        return Results(
            self.makespans, self.scales, self.idle[-1], self.reactions, self.local[-1], self.kubernetes, self.ec2, self.ec2_kubernetes
        )

    def _makespan(self, title: str, shape: shapes.Shape, seed: int, bounds: tuple[float, float]) -> Callable[[], None]:
        return lambda: self.makespans.setdefault(title, []).append(makespan.measure(shape, seed, bounds))

    def _makespan_on_ec2(self, title: str, shape: shapes.Shape, seed: int) -> Callable[[], None]:
        return lambda: self.makespans.setdefault(title, []).append(ec2.makespan(shape, seed))

    def _scale(self, title: str, services: int, replicas: int) -> Callable[[], None]:
        return lambda: self.scales.setdefault(title, []).append(_child(scale.Scale, "scale", services, replicas))

    def _kubernetes(self, number: int) -> Callable[[], None]:
        def step() -> None:
            self.kubernetes[number] = _child(kubernetes.Kubernetes, "kubernetes", 1, number)

        return step

    def _ec2(self, number: int, alike: bool) -> Callable[[], None]:
        return lambda: self.ec2.append(_child(ec2.Fleet, "ec2", number, int(alike)))

    def _ec2_kubernetes(self, number: int, alike: bool) -> Callable[[], None]:
        return lambda: self.ec2_kubernetes.append(_child(ec2_kubernetes.Writes, "ec2_kubernetes", number, int(alike)))

    def _reaction(self, title: str, seed: int, seconds: float) -> Callable[[], None]:
        return lambda: self.reactions.setdefault(title, []).append(reaction.measure(seed, seconds))


def _child(kind: type[T], name: str, *numbers: int) -> T:
    """One measurement in a process of its own, as what it gives there. Raises CalledProcessError."""
    command = (sys.executable, "-m", "tests.bench.child", name, *map(str, numbers))
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return TypeAdapter(kind).validate_json(said)


def measured(console: Console) -> Results:
    bench = Bench()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        steps = bench.steps()
        task = progress.add_task("", total=len(steps))
        for title, step in steps:
            progress.update(task, description=title)
            step()
            progress.advance(task)
            if not console.is_terminal:
                print(f"measured {title}", file=sys.stderr, flush=True)
    return bench.results()


def machine() -> str:
    """What these figures were measured on."""
    model = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    kibibytes = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    load = os.getloadavg()[2]
    return (
        f"{os.cpu_count()} processors ({model}), {kibibytes / 1024**2:.0f} GiB, {platform.system()} {platform.release()}, Python"
        f" {platform.python_version()}, load of the last 15 minutes {load:.1f}"
    )


def _lines(path: str) -> list[str]:
    place = Path(path)
    return place.read_text().splitlines() if place.exists() else []


def show(console: Console, found: list[Section]) -> None:
    for each in found:
        table = Table("figure", "value", "goal", title=each.title, title_justify="left", expand=False)
        for row in each.figures:
            said = "" if row.met is None else (" met" if row.met else " MISSED")
            table.add_row(row.what, row.value, row.goal + said)
        console.print(table)


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure for half an hour; see the module.")
    options.add_argument("--again", action="store_true", help="word anew what was measured the last time")
    console = Console(width=None if sys.stdout.isatty() else 160)
    if options.parse_args().again:
        kept = json.loads(DATA.read_text())
        results, where = TypeAdapter(Results).validate_python(kept["measured"]), kept["machine"]
    else:
        results, where = measured(console), machine()
    found = report.sections(results)
    show(console, found)
    PAGE.write_text(report.markdown(found, where))
    (PAGE.parent / report_ec2.PICTURE).write_text(report_ec2.picture(results.ec2))
    DATA.parent.mkdir(mode=0o700, exist_ok=True)
    DATA.write_text(json.dumps({"machine": where, "figures": report.as_json(found), "measured": asdict(results)}, indent=1))
    console.print(f"{len(report.missed(found))} goals missed; written: {PAGE}, {DATA}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
