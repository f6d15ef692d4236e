"""`python -m tools.leftovers --dir .dev`: ends local machines of a directory that no record names any more, and says so.

`make down` calls it last. A machine whose directory was removed by hand is unknown to its cloud, and its processes go on. They are
found by what they were started with: a guardian by its command line, what it ran by its environment. It looks at nothing else of
this computer, and knows no state.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from controller.clouds.local import processes, records

#: Nothing is to be saved of a machine that nobody knows.
_GRACE_SECONDS, _LIMIT_SECONDS = 0.0, 10.0
_GUARDIAN = "controller.clouds.local.guardian"


@dataclass(frozen=True, slots=True)
class Found:
    """A process of a machine: `machine` is the directory that it was started with, which may be gone."""

    pid: int
    machine: Path
    mark: str
    guardian: bool


def find(directory: Path) -> list[Found]:
    """The processes of machines in `<directory>/machines`, whether that is still there or not."""
    machines = directory.resolve() / "machines"
    return [each for each in _all() if each.machine.parent == machines]


def end(found: list[Found]) -> list[Path]:
    """End them all, with what they started; the machines of which something is left."""
    places = {each.mark: each.machine for each in found}
    guardians = [each.pid for each in found if each.guardian]
    ended = processes.end(places.keys(), guardians, grace_seconds=_GRACE_SECONDS, limit_seconds=_LIMIT_SECONDS)
    return sorted(place for mark, place in places.items() if mark not in ended)


def _all() -> Iterator[Found]:
    for place in Path("/proc").iterdir():
        if not place.name.isdecimal():
            continue
        try:
            line = [each.decode(errors="replace") for each in (place / "cmdline").read_bytes().split(b"\0")[:-1]]
            variables = (each.decode(errors="replace").partition("=") for each in (place / "environ").read_bytes().split(b"\0"))
            environment = {name: value for name, _, value in variables}
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile, or is another user's
        guardian = line[-2:-1] == [_GUARDIAN]
        root = line[-1] + "/" + records.ROOT if guardian else environment.get(records.ROOT_VARIABLE, "")
        if root and environment.get(records.MARK_VARIABLE):
            yield Found(int(place.name), Path(root).parent, environment[records.MARK_VARIABLE], guardian)


def main() -> int:
    """Exit status 0, or 1 where something could not be ended."""
    parser = argparse.ArgumentParser(prog="python -m tools.leftovers", description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path(".dev"))
    directory: Path = parser.parse_args().dir
    others = sorted(each.name for each in directory.glob("*.db") if each.name != "state.db")
    if others:
        ways = " and ".join(f"`occopus --state {directory / each} delete --all`" for each in others)
        print(f"error: {directory} holds other state files, whose machines may be wanted: {ways} ends them", file=sys.stderr)
        return 1
    found = find(directory)
    left = end(found)
    for machine in sorted({each.machine for each in found} - set(left)):
        pids = ", ".join(str(each.pid) for each in found if each.machine == machine)
        print(f"Ended machine {machine.name}, which nothing knew any more (processes {pids})")
    for machine in left:
        print(f"error: machine {machine.name} has processes that cannot be ended", file=sys.stderr)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
