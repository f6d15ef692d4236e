"""Where the code calls a port: found in its source, and told of each call while it runs.

The crash suite compares the two, so that a call which no scenario reaches fails a test. A site is a line that names a method of the
store, of a driver, or of what the engine puts before them: the cache that writes, `say`, and `holds` where it was handed on.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import itertools
import sys
from collections.abc import Iterator, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import controller

ROOT = Path(controller.__file__).parent
#: What stands behind the ports.
BEHIND = ("stores", "clouds")
#: Methods by the last name of what they are called on, underscores aside. The cache's own reads are no calls over a port.
METHODS: Mapping[str, frozenset[str]] = {
    "store": frozenset({"get", "list", "create", "patch", "delete", "watch", "record", "holds"}),
    "objects": frozenset(
        {"create", "write", "write_status", "write_launch", "say_trouble", "delete", "refresh", "set_finalizer", "disown", "guard", "event"}
    ),
    "driver": frozenset({"identity", "list", "resolve", "describe", "prepare", "create", "delete", "close", "console"}),
    "engine": frozenset({"say"}),
    "self": frozenset({"_holds"}),
}


@dataclass(frozen=True, slots=True, order=True)
class Site:
    """A call in the source: its file below `controller/`, the function it stands in, what is called, and the line."""

    path: str
    function: str
    call: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.function}: {self.call}"


@functools.cache
def found() -> frozenset[Site]:
    """Every site there is."""
    paths = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
    return frozenset[Site]().union(*(sites_of((ROOT / each).read_text(), each.as_posix()) for each in paths if each.parts[0] not in BEHIND))


def sites_of(source: str, path: str) -> frozenset[Site]:
    """The sites of one file."""
    return frozenset(_sites(ast.parse(source), path, ""))


def _sites(node: ast.AST, path: str, function: str) -> Iterator[Site]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        function = node.name
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in METHODS.get(_last_name(node.value), ()):
        yield Site(path, function, f"{_last_name(node.value)}.{node.attr}", node.end_lineno or node.lineno)
    for child in ast.iter_child_nodes(node):
        yield from _sites(child, path, function)


def _last_name(node: ast.expr) -> str:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name.lstrip("_")


# --- while it runs --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Place:
    """Lines of a file below `controller/` that a frame is at: an expression may take several."""

    path: str
    first: int
    last: int


@dataclass(slots=True)
class Trace:
    """What the calls of a run came through, and those that came from nowhere that the source shows."""

    met: set[Site] = field(default_factory=set[Site])
    strays: set[str] = field(default_factory=set[str])

    def add(self, call: str, places: tuple[Place, ...]) -> None:
        sites = at(call, places)
        self.met |= sites
        if not sites:
            self.strays.add(f"{call} at {places[:1]}")


class Traced(asyncio.Task[Any]):
    """A task that knows where it was begun."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.begun = here()
        super().__init__(*arguments, **named)


def traced(loop: asyncio.AbstractEventLoop, work: Any, context: Context | None = None) -> Traced:
    """A task factory for `loop.set_task_factory`."""
    return Traced(work, loop=loop, context=context)


def here() -> tuple[Place, ...]:
    """Where in the code this is called from, innermost first; of a task, then where it was begun."""
    places = tuple(place for frame in _frames() if (place := _place(frame.f_code, frame.f_lasti)) is not None)
    task = asyncio.current_task() if asyncio._get_running_loop() else None
    return places + (task.begun if isinstance(task, Traced) else ())


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]  # inspect.stack() reads source files
    while frame is not None:
        yield frame
        frame = frame.f_back


@functools.cache
def _place(code: CodeType, instruction: int) -> Place | None:
    path = Path(code.co_filename)
    if not path.is_relative_to(ROOT):
        return None
    first, last, _, _ = next(itertools.islice(code.co_positions(), instruction // 2, None))
    assert first is not None
    return Place(path.relative_to(ROOT).as_posix(), first, last or first)


@functools.cache
def at(call: str, places: tuple[Place, ...]) -> frozenset[Site]:
    """The sites that a call of the store or the cloud came through; none where the source has a call that `found` does not see."""
    met = frozenset(site for each in places for site in found() if site.path == each.path and each.first <= site.line <= each.last)
    return met if met & _naming(call) else frozenset()


@functools.cache
def _naming(call: str) -> frozenset[Site]:
    """The sites that may make a call of this name themselves."""
    port, method = call.split(".")
    names = {f"{'driver' if port == 'cloud' else port}.{method}", f"self._{method}"}
    return frozenset(site for site in found() if site.call in names)
