"""Events of the Kubernetes home: made by `events.k8s.io/v1`, equal ones counted in a series.

Called by `controller.stores.kubernetes`. Events are best effort: nothing here ever raises for what the API server says, since no
pass may fail because of what it tells its user. What may be said, and how often, is the caller's matter; no secret is in it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from controller import errors
from controller.api import kinds
from controller.ports import Event, Now, Obj
from controller.stores.answers import Asked
from controller.stores.requests import Requests
from controller.stores.resources import EVENTS

log = logging.getLogger(__name__)

CONTROLLER = "occopus.io/controller"
#: After so long an equal event is a new one. API servers keep events for an hour after the last write (`--event-ttl`).
SERIES = timedelta(hours=1)
#: So many different events are remembered; of one that was forgotten the next is a new one.
REMEMBERED = 4096
#: Limits of the server (apimachinery `ValidateEventCreate`), in characters of ASCII or bytes.
_REASON_LIMIT, _NOTE_LIMIT_BYTES, _INSTANCE_LIMIT = 128, 1024, 128
#: What stays of the object's name in the event's: names may be 253 characters, and an id follows.
_NAME_LIMIT = 253 - 1 - 16
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class _Series:
    """One event as it stands. The lock keeps equal events that come at once from being made twice."""

    name: str = ""
    count: int = 0
    last: datetime = _NEVER
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Recorder:
    """Remembers what was said lately, to count it instead of repeating it."""

    def __init__(self, requests: Requests, now: Now) -> None:
        self._requests = requests
        self._now = now
        self._said: OrderedDict[Event, _Series] = OrderedDict()
        self._forbidden: dict[str, int] = {}
        self._instance = (os.environ.get("POD_NAME") or socket.gethostname())[:_INSTANCE_LIMIT]

    @property
    def forbidden(self) -> Mapping[str, int]:
        """How many events the API server did not let us record, by namespace."""
        return self._forbidden

    async def record(self, event: Event) -> None:
        """Make the event, or count it once more. Never raises a StoreError."""
        namespace = event.regarding.namespace
        series = self._series(event)
        try:
            async with series.lock:
                await self._record(event, series)
        except errors.Forbidden as error:
            if namespace not in self._forbidden:
                log.warning("Events cannot be recorded in namespace %s, which is not said again: %s", namespace, error)
            self._forbidden[namespace] = self._forbidden.get(namespace, 0) + 1
        except (errors.Conflict, errors.ObjectNotFound):
            return  # The namespace is going, and the event's reader with it.
        except errors.StoreError as error:
            log.warning("An event was not recorded: %s", error)

    def _series(self, event: Event) -> _Series:
        series = self._said.setdefault(event, _Series())
        self._said.move_to_end(event)
        while len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        return series

    async def _record(self, event: Event, series: _Series) -> None:
        now = self._now()
        if series.count and now - series.last < SERIES and await self._counted(event, series, now):
            series.count, series.last = series.count + 1, now
            return
        name = f"{event.regarding.name[:_NAME_LIMIT].rstrip('.-')}.{uuid.uuid4().hex[:16]}"
        await self._requests.send(self._asked("create", event, name), self._object(event, name, now))
        series.name, series.count, series.last = name, 1, now

    async def _counted(self, event: Event, series: _Series, now: datetime) -> bool:
        """False where the event is no more: somebody deleted it, or the API server keeps events for less than an hour."""
        counted = {"series": {"count": series.count + 1, "lastObservedTime": _micro(now)}}
        try:
            await self._requests.send(self._asked("patch", event, series.name), counted, query={"fieldManager": "occopus"})
        except errors.ObjectNotFound:
            return False
        return True

    @staticmethod
    def _asked(verb: str, event: Event, name: str) -> Asked:
        return Asked(verb, EVENTS, event.regarding.namespace, name)

    def _object(self, event: Event, name: str, now: datetime) -> Obj:
        about = event.regarding
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": about.namespace},
            "eventTime": _micro(now),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "action": event.reason[:_REASON_LIMIT],
            "reason": event.reason[:_REASON_LIMIT],
            "type": event.type,
            "note": _cut(event.message),
            "regarding": {
                "apiVersion": kinds.api_version(about.kind) or "",
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": event.uid,
            },
        }


def _micro(time: datetime) -> str:
    """`metav1.MicroTime`, which wants all six digits."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _cut(message: str) -> str:
    """The message within the server's limit, which counts bytes."""
    raw = message.encode()
    if len(raw) <= _NOTE_LIMIT_BYTES:
        return message
    return raw[: _NOTE_LIMIT_BYTES - 3].decode(errors="ignore") + "…"


__all__ = ["CONTROLLER", "REMEMBERED", "SERIES", "Recorder"]
