"""Conditions: times move on flips alone, what is not said stays, messages are one bounded line."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controller.api.reasons import Reason
from controller.reconcilers.conditions import MESSAGE_LIMIT, Say, merge, say
from tests.properties.build import NOW, said

LATER = NOW + timedelta(minutes=5, microseconds=123456)


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        pytest.param(True, True, False, id="stays true"),
        pytest.param(False, False, False, id="stays false"),
        pytest.param(True, False, True, id="falls"),
        pytest.param(False, True, True, id="rises"),
    ],
)
def test_the_time_moves_with_the_status_alone(before: bool, after: bool, moved: bool) -> None:
    (merged,) = merge((said("Ready", before, Reason.BOOTING),), (say("Ready", after, Reason.READY, "another reason and text"),), 7, LATER)
    assert (merged.last_transition_time != NOW) is moved
    assert (merged.reason, merged.observed_generation) == ("Ready", 7)
    assert merged.last_transition_time in (NOW, NOW + timedelta(minutes=5)), "whole seconds, as metav1.Time keeps them"


def test_what_is_not_said_stays_and_all_are_sorted() -> None:
    old = (said("Ready", True, Reason.READY), said("Healthy", True, Reason.HEALTHY))
    merged = merge(old, (say("Launched", True, Reason.LAUNCHED, "m"),), 1, LATER)
    assert [each.type for each in merged] == ["Healthy", "Launched", "Ready"]
    assert merged[0] == old[1]
    assert merged[2] == old[0]


def test_unknown_is_a_status_of_its_own() -> None:
    (merged,) = merge((said("Ready", False, Reason.BOOTING),), (Say("Ready", "Unknown", Reason.FROZEN, ""),), 1, LATER)
    assert (merged.status, merged.last_transition_time) == ("Unknown", NOW + timedelta(minutes=5))


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        pytest.param("two\nlines\tand  spaces ", "two lines and spaces", id="one line"),
        pytest.param("x" * MESSAGE_LIMIT, "x" * MESSAGE_LIMIT, id="just fits"),
        pytest.param("x" * (MESSAGE_LIMIT + 1), "x" * (MESSAGE_LIMIT - 1) + "…", id="too long"),
    ],
)
def test_a_message_is_one_bounded_line(message: str, kept: str) -> None:
    (merged,) = merge((), (say("Ready", False, Reason.BOOTING, message),), 1, NOW)
    assert merged.message == kept
