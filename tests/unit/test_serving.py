"""What the operator answers over HTTP: alive, ready, metrics; on one port or two, as standby too."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import cast

import aiohttp
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families as families

from controller import errors, serving
from controller.api.instance import Instance, InstanceStatus
from controller.engine import metrics
from controller.engine.engine import Engine
from controller.serving import Endpoints
from tests.properties import build


def free_ports(number: int) -> list[int]:
    """Ports that are free together."""
    chosen = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    try:
        return [each.getsockname()[1] for each in chosen]
    finally:
        for each in chosen:
            each.close()


class Operator:
    """What is served, and what it is asked."""

    def __init__(self, session: aiohttp.ClientSession, engine: Engine | None = None) -> None:
        self.session = session
        self.engine = engine
        self.alive: str | None = None
        self.ready: dict[str, str | None] = {"first lists": None, "first sweep": None}

    def endpoints(self, metrics_port: int | None, health_port: int | None) -> Endpoints:
        checks = {name: lambda name=name: self.ready[name] for name in self.ready}
        return Endpoints("127.0.0.1", metrics_port, health_port, {"worker": lambda: self.alive}, checks)

    async def ask(self, port: int, path: str) -> tuple[int, str]:
        async with self.session.get(f"http://127.0.0.1:{port}{path}") as response:
            return response.status, await response.text()

    async def scrape(self, port: int) -> dict[str, float]:
        status, text = await self.ask(port, "/metrics")
        assert status == 200
        samples = [sample for family in families(text) for sample in family.samples]
        return {"/".join([each.name, *each.labels.values()]): each.value for each in samples}


def told(story: Callable[[Operator], Awaitable[None]]) -> None:
    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            await story(Operator(session))

    asyncio.run(run())


def working() -> Engine:
    """As much of an engine as its gauges look at: two Instances are Ready, one was and ends, three keys wait."""
    instances = [build.instance(index, status=InstanceStatus(phase="Ready"), deleting=index == 2) for index in range(3)]

    class Queue:
        def __len__(self) -> int:
            return 3

        def oldest_seconds(self) -> float:
            return 1.5

    def models(kind: str, model: object) -> list[Instance]:
        assert kind == "Instance"
        return instances

    return cast(
        Engine, SimpleNamespace(objects=SimpleNamespace(models=models), queue=Queue(), clouds=SimpleNamespace(suspects=lambda: ["one"]))
    )


def test_readiness_says_each_check_that_does_not_hold() -> None:
    async def story(operator: Operator) -> None:
        (port,) = free_ports(1)
        async with serving.serve(operator.endpoints(None, port), lambda: None):
            assert await operator.ask(port, "/readyz") == (200, "ok\n")
            operator.ready = {"first lists": "Clouds were not listed yet", "first sweep": "aws was not asked yet"}
            assert await operator.ask(port, "/readyz") == (
                503,
                "first lists: Clouds were not listed yet\nfirst sweep: aws was not asked yet\n",
            )
            operator.ready["first lists"] = None
            assert await operator.ask(port, "/readyz") == (503, "first sweep: aws was not asked yet\n")
            assert await operator.ask(port, "/healthz") == (200, "ok\n")

    told(story)


def test_liveness_follows_its_own_checks_alone() -> None:
    async def story(operator: Operator) -> None:
        (port,) = free_ports(1)
        async with serving.serve(operator.endpoints(None, port), lambda: None):
            operator.alive = "it has died"
            assert await operator.ask(port, "/healthz") == (503, "worker: it has died\n")
            assert await operator.ask(port, "/readyz") == (200, "ok\n")

    told(story)


@pytest.mark.parametrize("shared", [pytest.param(True, id="one port"), pytest.param(False, id="two ports")])
def test_each_port_answers_what_is_its_own(shared: bool) -> None:
    async def story(operator: Operator) -> None:
        health, metrics = free_ports(1) * 2 if shared else free_ports(2)
        async with serving.serve(operator.endpoints(metrics, health), lambda: None):
            asked = [(port, path) for port in (health, metrics) for path in ("/healthz", "/readyz", "/metrics", "/")]
            answers = [(await operator.ask(port, path))[0] for port, path in asked]
        assert answers == ([200, 200, 200, 404] * 2 if shared else [200, 200, 404, 404, 404, 404, 200, 404])

    told(story)


def test_a_standby_counts_nothing_until_it_leads() -> None:
    async def story(operator: Operator) -> None:
        (port,) = free_ports(1)
        async with serving.serve(operator.endpoints(port, None), lambda: operator.engine):
            standby = await operator.scrape(port)
            assert [standby[name] for name in ("occopus_queue_depth", "occopus_queue_age_seconds", "occopus_unclaimed_machines")] == [
                0,
                0,
                0,
            ]
            operator.engine = working()
            leader = await operator.scrape(port)
            assert (leader["occopus_instances/Ready"], leader["occopus_instances/Ending"]) == (2, 1)
            assert [leader[name] for name in ("occopus_queue_depth", "occopus_queue_age_seconds", "occopus_unclaimed_machines")] == [
                3,
                1.5,
                1,
            ]

    told(story)


def test_a_second_block_serves_after_the_first_has_ended() -> None:
    async def story(operator: Operator) -> None:
        (port,) = free_ports(1)
        for _ in range(2):
            async with serving.metrics(working(), port):
                assert (await operator.scrape(port))["occopus_instances/Ready"] == 2
            with pytest.raises(aiohttp.ClientConnectionError):
                await operator.ask(port, "/metrics")
            assert b"occopus_queue_depth" not in generate_latest(metrics.REGISTRY)

    told(story)


@pytest.mark.parametrize(
    ("purpose", "wanted"),
    [
        pytest.param("health checks", ("free", "taken"), id="of health"),
        pytest.param("metrics", ("taken", "free"), id="of metrics"),
        pytest.param("health checks and metrics", ("taken", "taken"), id="of both"),
    ],
)
def test_a_taken_port_is_named_and_nothing_is_left_served(purpose: str, wanted: tuple[str, str]) -> None:
    async def story(operator: Operator) -> None:
        (free,) = free_ports(1)
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = other.getsockname()[1]
            metrics_port, health_port = ({"free": free, "taken": taken}[each] for each in wanted)
            with pytest.raises(errors.UsageError, match=f"port {taken} on 127.0.0.1 cannot be used for {purpose}:"):
                async with serving.serve(operator.endpoints(metrics_port, health_port), lambda: None):
                    pytest.fail("it must not begin")
        with pytest.raises(aiohttp.ClientConnectionError):
            await operator.ask(free, "/healthz")
        async with serving.serve(operator.endpoints(free, free), lambda: None):
            assert "occopus_queue_depth" in await operator.scrape(free)

    told(story)
