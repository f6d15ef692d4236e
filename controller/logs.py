"""Logs, for whoever runs the controller: text or JSON, with the names of what is worked on bound to each line."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Generator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, Literal

_bound: ContextVar[dict[str, str]] = ContextVar("bound", default={})  # noqa: B039 - never changed in place


@contextlib.contextmanager
def bound(**names: str) -> Generator[None]:
    """Put these names on every line logged inside."""
    token = _bound.set({**_bound.get(), **names})
    try:
        yield
    finally:
        _bound.reset(token)


class _Bind(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.bound = _bound.get()
        return True


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        names: dict[str, str] = getattr(record, "bound", {})
        where = f"{names['kind']} {names['namespace']}/{names['name']}: " if "kind" in names else ""
        # One line: what a cloud or a user wrote must not look like a line of ours.
        message = " ".join(record.getMessage().splitlines())
        line = f"{_time(record)} {record.levelname:<7} {where}{message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        names: dict[str, str] = getattr(record, "bound", {})
        entry = {"time": _time(record), "level": record.levelname, "logger": record.name, "message": record.getMessage(), **names}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def configure(format: Literal["text", "json"], level: str, stream: IO[str] | None = None) -> None:
    """Send all logs to `stream` (standard error)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(_Bind())
    handler.setFormatter(_Json() if format == "json" else _Text())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
