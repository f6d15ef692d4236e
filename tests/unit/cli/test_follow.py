"""How long a command may take is counted once, however many things it waits for."""

from __future__ import annotations

import pytest

from controller.cli.follow import Limit


@pytest.mark.parametrize(
    ("seconds", "after", "left", "said"),
    [
        pytest.param(10.0, 0.0, 10.0, " within 10 s", id="at first"),
        pytest.param(10.0, 4.0, 6.0, " within 10 s", id="later"),
        pytest.param(10.0, 12.0, 0.0, " within 10 s", id="over"),
        pytest.param(None, 12.0, None, "", id="none"),
    ],
)
def test_what_is_left(seconds: float | None, after: float, left: float | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    limit = Limit(seconds)
    now[0] += after
    assert limit.left == left
    assert str(limit) == said
