"""Who has a socket next: never more than there are, none that waits for nothing, and none kept from who comes anew."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.engine.shares import Shares

SOCKETS = 64


def _any(share: object) -> bool:
    return True


def _taken(shares: Shares[str, int]) -> Counter[str]:
    """Take all that may be taken now."""
    taken: Counter[str] = Counter()
    while (turn := shares.take(_any)) is not None:
        taken[turn[0]] += 1
    return taken


def _hold(sockets: int, *names: str, each: int = 1000) -> Shares[str, int]:
    """Each of these shares comes in turn and takes all that it may; then all give back one after the other, until that changes nothing."""
    shares, held = Shares[str, int](sockets), Counter[str]()
    for name in names:
        for number in range(each):
            shares.wait(name, number)
        held += _taken(shares)
    for name in names * 20:
        shares.give_back(name)
        held[name] -= 1
        held += _taken(shares)
    return shares


@pytest.mark.parametrize(
    ("holders", "comes_to"),
    [
        pytest.param("", 32, id="one alone: half"),
        pytest.param("a", 21, id="beside one: a third"),
        pytest.param("abc", 12, id="beside three"),
    ],
)
def test_how_many_a_share_comes_to(holders: str, comes_to: int) -> None:
    shares = _hold(SOCKETS, *holders)
    held = 0
    for number in range(1000):
        shares.wait("z", number)
    for name in (*holders, "") * 50:
        held += _taken(shares)["z"]
        if name:
            shares.give_back(name)
    held += _taken(shares)["z"]
    assert abs(held - comes_to) <= 2


@given(st.integers(1, 5))
def test_who_comes_anew_has_a_socket_at_once_whatever_others_hold(holders: int) -> None:
    shares = _hold(SOCKETS, *map(str, range(holders)))
    shares.wait("new", 0)
    assert shares.take(_any) == ("new", 0)


def test_in_a_share_who_waits_longest_is_first_and_shares_take_turns() -> None:
    shares = Shares[str, int](SOCKETS)
    for name, number in (("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5), ("c", 6)):
        shares.wait(name, number)
    turns = [shares.take(_any) for _ in range(7)]
    assert turns == [("a", 1), ("b", 4), ("c", 6), ("a", 2), ("b", 5), ("a", 3), None]


def test_a_share_that_may_not_is_passed_over() -> None:
    shares = Shares[str, int](SOCKETS)
    for name in "aab":
        shares.wait(name, 0)
    assert shares.take(lambda share: share != "a") == ("b", 0)
    assert shares.take(lambda share: share != "a") is None
    assert shares.take(_any) == ("a", 0)


@pytest.mark.parametrize("sockets", [pytest.param(each, id=f"{each} sockets") for each in (1, 2, 3, 64)])
@given(data=st.data())
def test_whatever_comes_and_goes_all_have_their_turn_and_no_socket_is_lost(sockets: int, data: st.DataObject) -> None:
    shares, held, waiting = Shares[int, int](sockets), list[int](), 0
    for _ in range(data.draw(st.integers(0, 200))):
        if held and data.draw(st.booleans()):
            shares.give_back(held.pop(data.draw(st.integers(0, len(held) - 1))))
        else:
            shares.wait(data.draw(st.integers(0, 4)), 0)
            waiting += 1
        while (turn := shares.take(_any)) is not None:
            held.append(turn[0])
            waiting -= 1
        assert len(held) <= sockets
        assert held or not waiting, "something waits and nothing is under way"
    while held:
        shares.give_back(held.pop())
        while (turn := shares.take(_any)) is not None:
            held.append(turn[0])
            waiting -= 1
    assert waiting == 0
