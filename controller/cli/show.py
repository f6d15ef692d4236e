"""Draws rows for people: a tree for a terminal, plain lines where there is none. No decision is made here."""

from __future__ import annotations

import sys
from datetime import timedelta

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from controller.view import InfrastructureRow, InstanceRow, Row, ServiceRow

#: Columns where nothing limits them: whoever reads a pipe finds one line each.
_UNLIMITED = 10_000
_WAITING = {"WaitingForDependencies", "WaitingForDependents", "Pending", "Paused"}


def console(*, stderr: bool = False) -> Console:
    """No colour and no width limit where there is no terminal; no colour where NO_COLOR is set."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, soft_wrap=not stream.isatty(), width=None if stream.isatty() else _UNLIMITED)


def tree(rows: list[InfrastructureRow], elapsed: dict[str, float] | None = None) -> Table:
    """One line each: Infrastructure, its services, their machines."""
    table = Table.grid(padding=(0, 2))
    for _ in range(5):  # names, states and addresses stay whole; the reason has what is left of the line
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        _add(table, "", row.name, row.phase, f"{sum(each.ready for each in row.services)}/{len(row.services)}", "", row)
        for number, service in enumerate(row.services):
            last = number == len(row.services) - 1
            _add(table, "└─ " if last else "├─ ", service.name, *_service(service), service)
            for at, instance in enumerate(service.instances):
                branch = ("   " if last else "│  ") + ("└─ " if at == len(service.instances) - 1 else "├─ ")
                _add(table, branch, instance.name, *_instance(instance), instance, (elapsed or {}).get(instance.name))
    return table


def print_tree(rows: list[InfrastructureRow]) -> None:
    """The tree on standard output; without trailing blanks where that is no terminal."""
    out = console()
    if out.is_terminal:
        out.print(tree(rows))
        return
    with out.capture() as captured:
        out.print(tree(rows))
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _service(row: ServiceRow) -> tuple[str, str, str]:
    return ("Ready" if row.ready else row.reason, f"{row.ready_replicas}/{row.replicas}", row.address)


def _instance(row: InstanceRow) -> tuple[str, str, str]:
    return (row.phase, "", row.address)


def _add(table: Table, branch: str, name: str, stand: str, count: str, address: str, row: Row, elapsed: float | None = None) -> None:
    style = "green" if row.ready else "dim" if row.reason in _WAITING else "yellow" if stand not in ("Failed", "Stalled") else "red"
    took = f"{elapsed:.0f}s" if elapsed is not None else age(row.age_seconds)
    why = Text(_why(row), style="yellow" if row.ready else style)
    table.add_row(Text(branch + name), Text(stand, style=style), Text(count), Text(address), Text(took, style="dim"), why)


def _why(row: Row) -> str:
    """Why it is not Ready; and of a service what is to be known though it is."""
    notes = row.notes if isinstance(row, ServiceRow) else ()
    return "; ".join([*([] if row.ready or not row.message else [row.message]), *map(str, notes)])


def age(seconds: int) -> str:
    """As kubectl shows it: 45s, 12m, 3h, 5d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size * (2 if unit != "d" else 1):
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def steps(before: dict[str, str], rows: list[InfrastructureRow], since: timedelta) -> list[str]:
    """What has changed, a line each, for logs and pipes; `before` is brought up to date."""
    lines: list[str] = []
    now: dict[str, str] = {}
    for row in rows:
        for service in row.services:
            stand = f"{'Ready' if service.ready else service.reason} {service.ready_replicas}/{service.replicas}"
            now[f"{row.name}/{service.name}"] = "; ".join([stand, *map(str, service.notes)])
            for instance in service.instances:
                why = "" if instance.ready else instance.message
                now[instance.name] = " ".join(filter(None, (instance.phase, instance.address, why)))
    for name in [*now, *(name for name in before if name not in now)]:
        if before.get(name) != now.get(name):
            lines.append(f"{since.total_seconds():6.1f}s  {name}: {now.get(name, 'gone')}")
    before.clear()
    before.update(now)
    return lines
