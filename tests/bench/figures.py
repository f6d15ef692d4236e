"""A figure and a section of the report, and how a figure is worded. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


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
    #: What it would take to meet a goal that is missed, by words of the figures that it is about.
    takes: Mapping[str, str] = field(default_factory=dict[str, str])

    def what_it_takes(self, figure: Figure) -> str:
        """For the goal of that figure. Raises KeyError where nothing is said of it."""
        return next((text for words, text in self.takes.items() if words in figure.what), "") or self.takes[figure.what]


def spread(values: Sequence[float], unit: str = "", digits: int = 1, of: str = "runs") -> str:
    """The median, and how far the values reach, which is the noise; `of` says of how many what there is."""
    least, middle, most = (f"{each:.{digits}f}" for each in (min(values), statistics.median(values), max(values)))
    if len(values) == 1:
        return middle + unit
    reach = "" if least == most else f"{least} to {most}, "
    return f"{middle}{unit} ({reach}{len(values)} {of})"


def at_most(what: str, values: Sequence[float], goal: float | None, digits: int, of: str = "runs") -> Figure:
    """A figure whose goal, where there is one, is held against the worst value."""
    said = spread(values, digits=digits, of=of)
    return Figure(what, said) if goal is None else Figure(what, said, f"≤ {goal:g}", max(values) <= goal)
