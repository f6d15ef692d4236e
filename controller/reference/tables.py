"""A table in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The table with this head; whatever stands in a cell stays in it."""
    escape: Callable[[str], str] = lambda text: " ".join(text.split()).replace("|", "\\|")  # noqa: E731
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(escape, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


__all__ = ["table"]
