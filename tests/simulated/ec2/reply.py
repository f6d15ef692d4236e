"""What the light EC2 tells its server to do about a request."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Response:
    """What to send."""

    status: int
    body: bytes
    content_type: str = "text/xml;charset=UTF-8"


@dataclass(frozen=True, slots=True)
class Dropped:
    """Close the connection and say nothing."""


@dataclass(frozen=True, slots=True)
class Held:
    """Wait for the event, then go on."""

    event: threading.Event
    then: Callable[[], Reply]


Reply = Response | Dropped | Held
