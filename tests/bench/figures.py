"""A figure and a section of the report. Pure data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One row. `met` is None where there is no goal."""

    what: str
    value: str
    goal: str = ""
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    how: str
    figures: Sequence[Figure]
    #: A file beside the page.
    picture: str = ""
    #: What stands in the way where a goal is missed.
    misses: str = ""
