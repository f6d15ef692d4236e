"""Strategies that several property tests share."""

from __future__ import annotations

import random

from hypothesis import strategies as st


class Seeded(random.Random):
    """A source of chance that a failing example can name. Much faster than `st.randoms`, which draws each number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def __repr__(self) -> str:
        return f"Seeded({self.number})"


def chance() -> st.SearchStrategy[Seeded]:
    return st.builds(Seeded, st.integers(0, 2**32))
