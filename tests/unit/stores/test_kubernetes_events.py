"""Events of the Kubernetes home: made once, counted, never a reason for a pass to fail."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from typing import Any

import pytest

from controller.ports import Event
from controller.stores import events
from controller.stores.kubernetes import KubernetesStore
from tests.contract.stores import Clock
from tests.unit.stores import lying
from tests.unit.stores.lying import CLOUD, DROPPED_BEFORE, Lie, Lying, status

READY = Event(CLOUD, "u-1", "Normal", "Ready", "all is well")


def recorded(server: Lying) -> list[dict[str, Any]]:
    return [obj for path, obj in server.objects.items() if "/events/" in path]


def counts(server: Lying) -> dict[str, int]:
    return {each["note"]: each.get("series", {}).get("count", 1) for each in recorded(server)}


def test_an_event_says_all_that_the_api_wants() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        await store.record(READY)
        (event,) = recorded(server)
        assert event["metadata"]["namespace"] == "default"
        assert event["metadata"]["name"].startswith("acme-north.")
        assert event["eventTime"] == "2026-01-02T03:04:05.000000Z"
        assert event["reportingController"] == "occopus.io/controller"
        assert event["reportingInstance"]
        assert (event["action"], event["reason"], event["type"], event["note"]) == ("Ready", "Ready", "Normal", "all is well")
        about = {"apiVersion": "occopus.io/v1alpha1", "kind": "Cloud", "namespace": "default", "name": "acme-north", "uid": "u-1"}
        assert event["regarding"] == about

    lying.run(test)


def test_equal_events_are_one_series_for_an_hour() -> None:
    clock = Clock()

    async def test(server: Lying, store: KubernetesStore) -> None:
        for _ in range(3):
            await store.record(READY)
            clock.move(3599)
        (event,) = recorded(server)
        assert event["series"] == {"count": 3, "lastObservedTime": "2026-01-02T05:04:03.000000Z"}
        clock.move(1)
        await store.record(READY)
        assert [each.get("series", {}).get("count", 1) for each in recorded(server)] == [3, 1]
        await store.record(replace(READY, uid="u-2"))
        await store.record(replace(READY, message="other"))
        assert len(recorded(server)) == 4

    lying.run(test, clock=clock)


def test_equal_events_at_once_are_one() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        await asyncio.gather(*(store.record(READY) for _ in range(20)))
        assert counts(server) == {"all is well": 20}

    lying.run(test)


def test_an_event_that_was_deleted_is_made_again() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        await store.record(READY)
        server.objects.clear()
        await store.record(READY)
        await store.record(READY)
        assert counts(server) == {"all is well": 2}

    lying.run(test)


def test_so_many_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "REMEMBERED", 3)

    async def test(server: Lying, store: KubernetesStore) -> None:
        for message in ("a", "b", "c", "a", "d", "a", "b"):
            await store.record(replace(READY, message=message))
        assert sorted((each["note"], each.get("series", {}).get("count", 1)) for each in recorded(server)) == [
            *(("a", 3), ("b", 1), ("b", 1), ("c", 1), ("d", 1)),
        ]

    lying.run(test)


@pytest.mark.parametrize(
    "message", [pytest.param("x" * 5000, id="ascii"), pytest.param("ü" * 600, id="two-bytes"), pytest.param("x" * 1024, id="fits")]
)
def test_long_words_are_cut_to_what_the_api_takes(message: str) -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        long = replace(CLOUD, name="n" * 253)
        await store.record(Event(long, "u", "Normal", "R" * 200, message))
        (event,) = recorded(server)
        assert 1000 <= len(event["note"].encode()) <= 1024
        assert event["note"] == message or event["note"].endswith("…")
        assert len(event["reason"]) == len(event["action"]) == 128
        assert len(event["metadata"]["name"]) <= 253

    lying.run(test)


TERMINATING = status(403, "Forbidden", causes=[{"reason": "NamespaceTerminating", "field": "metadata.namespace"}])


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        pytest.param(TERMINATING, 0, id="namespace-goes"),
        pytest.param(status(404, "NotFound", name="default", kind="namespaces"), 1, id="namespace-gone"),
        pytest.param(Lie(code=500, body={}), 1, id="500"),
        pytest.param(DROPPED_BEFORE, 1, id="dropped"),
        pytest.param(status(422, "Invalid", "no"), 1, id="invalid"),
    ],
)
def test_an_event_that_cannot_be_recorded_fails_nothing(lie: Lie, said: int, caplog: pytest.LogCaptureFixture) -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        server.lies = [lie]
        await store.record(READY)
        assert recorded(server) == []
        await store.record(READY)
        assert counts(server) == {"all is well": 1}

    with caplog.at_level(logging.INFO):
        lying.run(test)
    assert len([each for each in caplog.records if each.name == events.__name__]) == said


def test_a_right_that_is_missing_is_logged_once_a_namespace_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        server.lies = [status(403, "Forbidden")] * 5
        for namespace in ("default", "default", "default", "other", "other"):
            await store.record(replace(READY, regarding=replace(CLOUD, namespace=namespace)))
        assert store.events_forbidden == {"default": 3, "other": 2}
        await store.record(READY)
        assert counts(server) == {"all is well": 1}

    with caplog.at_level(logging.INFO):
        lying.run(test)
    assert len([each for each in caplog.records if each.name == events.__name__]) == 2


def test_a_count_that_was_lost_is_counted_at_the_next() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        await store.record(READY)
        server.lies = [Lie(drop=True, deed=True)]
        await store.record(READY)
        await store.record(READY)
        assert counts(server)["all is well"] >= 2
        assert len(recorded(server)) == 1
        assert json.dumps(recorded(server))

    lying.run(test)
