"""The longest path through a graph of weighted services: no order of coming up can be faster. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter

Needs = Mapping[str, Sequence[str]]


def longest(needs: Needs, weights: Mapping[str, float]) -> tuple[str, ...]:
    """The services of the heaviest path, the first to come up first; empty for an empty graph.

    `needs` names each service with those it depends on, `weights` the seconds that each takes by itself. Raises
    `graphlib.CycleError` for a cycle, KeyError for a service that is depended on and not in the graph.
    """
    until: dict[str, float] = {}
    before: dict[str, str] = {}
    for name in TopologicalSorter(needs).static_order():
        last = max(needs[name], key=lambda each: until[each], default=None)
        until[name] = weights[name] + (until[last] if last is not None else 0.0)
        if last is not None:
            before[name] = last
    path = [max(until, key=lambda each: until[each])] if until else []
    while path and path[-1] in before:
        path.append(before[path[-1]])
    return tuple(reversed(path))


def length(path: Sequence[str], weights: Mapping[str, float]) -> float:
    """The seconds of a path."""
    return sum(weights[each] for each in path)


__all__ = ["Needs", "length", "longest"]
