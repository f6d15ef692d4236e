"""Turns within an account's rate: who comes late is not last, what is not used is another's, and nobody is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from controller.engine.limiter import Limiter
from controller.engine.turns import KEPT_SECONDS, Turns, Wish
from controller.ports import Limit
from tests.simulated import loop

#: Four at once, one a second after that, by the safe part of it.
CALLS = Limit(5.0, 1.0)
MACHINES = Limit(101.0, 1.0, per_machine=True)


class Asking:
    """Turns whose askers come for them at once, in a list of who was served and when."""

    def __init__(self, *limits: Limit, comes: bool = True) -> None:
        self.turns = Turns(Limiter({"create": limits}), lambda seconds: None)
        self.served: list[str] = []
        self.at: dict[str, float] = {}
        self._comes = comes

    def ask(self, uid: str, machines: int = 1) -> float:
        """`uid` begins with the letter of its group."""
        wait = self.turns.ask(Wish(uid, uid[0], machines, lambda: self._told(uid, machines)))
        if wait == 0:
            self.served.append(uid)
            self.at[uid] = asyncio.get_running_loop().time()
        return wait

    def _told(self, uid: str, machines: int) -> None:
        if self._comes:
            asyncio.get_running_loop().call_soon(self.ask, uid, machines)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop.run(scenario())


def test_a_group_that_comes_is_served_next_and_then_groups_take_turns() -> None:
    async def scenario() -> None:
        asking = Asking(CALLS)
        for number in range(20):
            asking.ask(f"a{number}")
        await asyncio.sleep(0.5)
        for number in range(3):
            asking.ask(f"b{number}")
        await asyncio.sleep(9)
        assert asking.served[:4] == ["a0", "a1", "a2", "a3"]
        assert [each[0] for each in asking.served[4:]] == ["b", "a", "b", "a", "b", "a", "a", "a", "a"]

    run(scenario)


def test_a_large_wish_keeps_none_from_a_group_that_comes_and_is_served_in_the_end() -> None:
    async def scenario() -> None:
        asking = Asking(MACHINES)
        assert asking.ask("a0", 100) == 0
        assert asking.ask("a1", 50) > 50
        assert asking.ask("b0") > 0
        await asyncio.sleep(3)
        assert asking.served == ["a0", "b0"]
        for number in range(1, 100):
            asking.ask(f"b{number}")
        await asyncio.sleep(60)
        assert "a1" in asking.served

    run(scenario)


def test_more_machines_than_the_bucket_ever_holds_are_served_when_it_is_full() -> None:
    async def scenario() -> None:
        asking = Asking(MACHINES)
        assert asking.ask("a0", 150) == 0
        assert asking.ask("a1", 150) > 0
        await asyncio.sleep(150 / 0.95 + 10)
        assert asking.served == ["a0", "a1"]

    run(scenario)


def test_the_tokens_for_machines_that_are_given_back_are_the_next_ones() -> None:
    async def scenario() -> None:
        asking = Asking(CALLS, MACHINES)
        asking.ask("a0", 100)
        asking.ask("b0", 100)
        asking.turns.give_back(calls=0, machines=100)
        await asyncio.sleep(0)
        assert asking.served == ["a0", "b0"]

    run(scenario)


@pytest.mark.parametrize("how", ["forgotten", "missed"])
def test_a_turn_that_is_not_taken_is_anothers(how: str) -> None:
    async def scenario() -> None:
        asking = Asking(MACHINES, comes=False)
        asking.ask("a0", 100)
        asking.ask("a1", 100)
        await asyncio.sleep(110)  # the turn of a1 has come, and nobody takes it
        assert asking.ask("b0", 50) > 0
        if how == "forgotten":
            asking.turns.forget("a1")
            assert asking.ask("b0", 50) == 0
        else:
            await asyncio.sleep(KEPT_SECONDS)
            assert asking.ask("b0", 50) == 0
            assert asking.ask("a1", 100) > 0, "it is asked for anew"

    run(scenario)


def test_who_waits_and_is_forgotten_keeps_nobody_waiting() -> None:
    async def scenario() -> None:
        asking = Asking(CALLS)
        for number in range(50):
            asking.ask(f"a{number}")
        for number in range(4, 49):
            asking.turns.forget(f"a{number}")
        await asyncio.sleep(1.2)
        assert asking.served == ["a0", "a1", "a2", "a3", "a49"]

    run(scenario)


def test_without_limits_every_turn_has_come() -> None:
    async def scenario() -> None:
        asking = Asking()
        assert [asking.ask(f"a{number}", 100) for number in range(100)] == [0.0] * 100

    run(scenario)


def test_those_behind_one_that_is_forgotten_come_at_once_if_there_is_enough_for_them() -> None:
    async def scenario() -> None:
        asking = Asking(CALLS, MACHINES)
        asking.ask("a0", 100)
        for wish, machines in (("b0", 50), ("b1", 50), ("c0", 1)):
            asking.ask(wish, machines)
        await asyncio.sleep(1)
        assert asking.served == ["a0"], "the largest has waited longest, and is next"
        for wish in ("b0", "b1"):
            asking.turns.forget(wish)
        await asyncio.sleep(0.1)
        assert asking.served == ["a0", "c0"]

    run(scenario)
