"""What a renderer remembers of the cost of renders, and whom it lets wait."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller import errors
from controller.context import costs
from controller.context.costs import Costs, What
from controller.ports import RenderRequest
from tests.unit.context.values import VALUES

WHAT = What("template", "whole")
REQUEST = RenderRequest("#!\n", "web", VALUES, 100)


def _verdict(of: Costs, now: float, what: What = WHAT, waiting: int = 1) -> str:
    try:
        of.check(what, "web", waiting, now)
    except errors.OccopusError as error:
        return type(error).__name__
    return ""


def test_what_cost_too_much_is_tried_again_after_twice_as_long_each_time() -> None:
    kept, now, pauses = Costs(), 0.0, list[float]()
    for _ in range(9):
        kept.learn(WHAT, "too long", 2.2, now)
        tried = next(each for each in range(100_000) if not _verdict(kept, now + each))
        pauses.append(float(tried))
        now += tried
    assert pauses[:3] == [300, 600, 1200]
    assert pauses[-2:] == [costs.COSTLY_MOST_SECONDS] * 2
    kept.learn(WHAT, None, 0.1, now)
    kept.learn(WHAT, "too long", 2.2, now)
    assert not _verdict(kept, now + costs.COSTLY_FIRST_SECONDS), "what it cost before it was rendered counts no more"


def test_after_a_slow_render_few_wait_and_what_was_quick_always_may() -> None:
    kept, quick, other = Costs(), What("quick", "1"), What("other", "2")
    enough = costs.WAITING_MOST + 1
    kept.learn(quick, None, 0.1, 0)
    assert not _verdict(kept, 0, other, 32)
    kept.learn(WHAT, "too long", 2.2, 10)
    assert _verdict(kept, 11, other, enough) == "RendererFailed"
    assert not _verdict(kept, 11, other, costs.WAITING_MOST)
    assert not _verdict(kept, 11, What("quick", "3"), enough)
    assert not _verdict(kept, 10 + costs.SLOW_FOR_SECONDS, other, enough)
    kept.learn(What("quick", "3"), "too long", 2.2, 12)
    assert _verdict(kept, 13, quick, enough) == "RendererFailed", "with other values it takes long"


def test_while_many_wait_what_cost_too_much_is_said_still() -> None:
    """Else a status would say now this, now that."""
    kept = Costs()
    kept.learn(WHAT, "too long", 2.2, 0)
    kept.learn(What("other", "2"), "too long", 2.2, 300)
    assert _verdict(kept, 301, WHAT, costs.WAITING_MOST + 1) == "TooCostly"
    assert not _verdict(kept, 301, WHAT)


def test_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "_REMEMBERED", 2)
    kept = Costs()
    for number in range(3):
        kept.learn(What(f"quick {number}", ""), None, 0.1, 0)
        kept.learn(What("costly", f"costly {number}"), "too long", 2.2, 0)
    assert [bool(_verdict(kept, 1, What("", f"costly {number}"))) for number in range(3)] == [False, True, True]
    enough = costs.WAITING_MOST + 1
    assert [bool(_verdict(kept, 1, What(f"quick {number}", ""), enough)) for number in range(3)] == [True, False, False]


@pytest.mark.parametrize(
    ("other", "same"),
    [
        pytest.param(replace(REQUEST, name="another"), True, id="name"),
        pytest.param(replace(REQUEST, values={**VALUES, "instance": {"name": "web-7", "index": 7, "id": "7"}}), True, id="machine"),
        pytest.param(replace(REQUEST, values={**VALUES, "infrastructure": "other", "service": "other"}), True, id="group"),
        pytest.param(replace(REQUEST, values={**VALUES, "variables": {"word": "another"}}), False, id="variables"),
        pytest.param(replace(REQUEST, values={**VALUES, "services": {}}), False, id="addresses"),
        pytest.param(replace(REQUEST, limit_bytes=200), False, id="limit"),
        pytest.param(replace(REQUEST, template="#!\n\n"), False, id="template"),
    ],
)
def test_what_the_cost_depends_on(other: RenderRequest, same: bool) -> None:
    assert (costs.of(other) == costs.of(REQUEST)) is same
