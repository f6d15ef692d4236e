"""How conditions are set: the status flips, the time follows; nothing else moves. Pure; used by every status.py."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from controller.api.meta import Condition, condition
from controller.api.reasons import Reason

#: metav1.Condition allows 32 KiB; a condition is one line for people.
MESSAGE_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class Say:
    """What is to be said in one condition."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: Reason
    message: str


def say(type: str, holds: bool, reason: Reason, message: str) -> Say:
    return Say(type, "True" if holds else "False", reason, message)


def merge(previous: tuple[Condition, ...], said: tuple[Say, ...], generation: int, now: datetime) -> tuple[Condition, ...]:
    """The conditions after saying `said`, sorted by type; what is not said stays as it was."""
    kept = {each.type: each for each in previous}
    for each in said:
        old = condition(previous, each.type)
        since = old.last_transition_time if old is not None and old.status == each.status else now.replace(microsecond=0)
        kept[each.type] = Condition(
            type=each.type,
            status=each.status,
            observed_generation=generation,
            last_transition_time=since,
            reason=each.reason.value,
            message=_one_line(each.message),
        )
    return tuple(kept[type] for type in sorted(kept))


def _one_line(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= MESSAGE_LIMIT else line[: MESSAGE_LIMIT - 1] + "…"
