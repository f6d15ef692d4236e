"""What is seen from outside: bounded metrics without names, logs with them, and no secret anywhere."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from controller import errors, logs
from controller.engine import metrics
from controller.logs import bound
from controller.ports import Account, T
from tests.simulated import loop
from tests.simulated.harness import SHOP, System

SECRET = "s3cr3t-of-all"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged; the root logger is as before afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_lines_carry_the_bound_names(lines: io.StringIO) -> None:
    logs.configure("json", "info", lines)
    log = logging.getLogger("controller.test")
    with bound(kind="Instance", namespace="default", name="one"), bound(group="shop-app"):
        log.info("said %s", "so")
    log.warning("outside")
    inside, outside = (json.loads(line) for line in lines.getvalue().splitlines())
    assert {name: inside[name] for name in ("kind", "namespace", "name", "group", "level", "message")} == {
        "kind": "Instance",
        "namespace": "default",
        "name": "one",
        "group": "shop-app",
        "level": "INFO",
        "message": "said so",
    }
    assert "kind" not in outside


def test_tasks_do_not_see_each_others_names(lines: io.StringIO) -> None:
    logs.configure("json", "info", lines)
    log = logging.getLogger("controller.test")

    async def one(name: str) -> None:
        with bound(name=name):
            await asyncio.sleep(0)
            log.info(name)

    async def main() -> None:
        await asyncio.gather(*(one(str(number)) for number in range(10)))

    asyncio.run(main())
    assert all(entry["name"] == entry["message"] for entry in map(json.loads, lines.getvalue().splitlines()))


def test_text_lines_say_where_and_errors_keep_their_traceback(lines: io.StringIO) -> None:
    logs.configure("text", "warning", lines)
    log = logging.getLogger("controller.test")
    log.info("not said")
    with bound(kind="Instance", namespace="default", name="one"):
        try:
            raise ValueError("why")
        except ValueError:
            log.exception("it broke")
    said = lines.getvalue()
    assert "not said" not in said
    assert "Instance default/one: it broke" in said
    assert "ValueError: why" in said


def _text() -> str:
    return generate_latest(metrics.REGISTRY).decode()


def test_a_whole_life_leaves_no_name_and_no_secret_behind(tmp_path: Path, lines: io.StringIO) -> None:
    """Bring-up, a loss and the end: metrics name neither machine nor infrastructure, and nobody tells the secret."""
    logs.configure("json", "debug", lines)
    secret = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "keys"}, "data": {"k": base64.b64encode(SECRET.encode()).decode()}}
    shop = SHOP.replace("runcmd: [db]", "runcmd: [db, '{{ variables.word }}']").replace(
        "spec:\n  services:", "spec:\n  variables: [{name: word, valueFrom: {secretKeyRef: {name: keys, key: k}}}]\n  services:"
    )
    clock = loop.Clock()
    system = System(tmp_path / "state.db", clock)

    async def main() -> list[str]:
        system.start()
        await system.store.create(secret)
        await system.apply(shop)
        await system.wait(system.ready)
        killed = next(iter(system.world.machines))
        system.world.kill(killed)
        await system.wait(lambda: not system.ready())
        await system.wait(system.ready)
        kinds = ("Cloud", "Infrastructure", "InstanceGroup", "Instance", "ControllerRevision", "Event")
        shown = [json.dumps(await system.store.list(kind)) for kind in kinds]
        assert any(SECRET.encode() in machine.user_data for machine in system.world.machines.values())
        await system.crash()
        return shown

    shown = loop.run(main(), clock=clock)
    assert not [each for each in shown if SECRET in each]
    assert SECRET not in lines.getvalue()
    text = _text()
    assert SECRET not in text
    series = [line for line in text.splitlines() if not line.startswith("#")]
    names = {"shop", "sim", *(each.name for each in system.world.machines.values()), *system.world.machines, *system.world.addresses}
    assert not [line for line in series for name in names if f'"{name}"' in line]
    assert 'occopus_reconciles_total{kind="Instance",result="ok"}' in text
    assert 'occopus_cloud_calls_total{action="create",kind="simulated",result="ok"}' in text


def test_gauges_are_counted_when_they_are_asked_for() -> None:
    registry = CollectorRegistry()
    registry.register(metrics.Now(lambda: ["Ready", "Ready", "", "Booting"], lambda: (3, 1.5), lambda: 2))
    text = generate_latest(registry).decode()
    for line in (
        'occopus_instances{phase="Ready"} 2.0',
        'occopus_instances{phase="Booting"} 1.0',
        'occopus_instances{phase="New"} 1.0',
        "occopus_queue_depth 3.0",
        "occopus_queue_age_seconds 1.5",
        "occopus_unclaimed_machines 2.0",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        pytest.param(errors.Throttled("slow"), "Throttled", id="of the tree"),
        pytest.param(KeyError("boto"), "Transient", id="a defect of the driver"),
    ],
)
def test_a_call_that_fails_is_counted_by_its_class(error: Exception, counted: str) -> None:
    def call() -> None:
        raise error

    async def threads(run: Callable[[], T], lane: str, /) -> T:
        return run()

    labels = {"kind": "probe-of-metrics", "action": counted, "result": counted}
    before = metrics.REGISTRY.get_sample_value("occopus_cloud_calls_total", labels) or 0.0
    with pytest.raises(errors.CloudError):
        asyncio.run(metrics.cloud_call(threads, Account("probe-of-metrics", "a", "", ""), counted, call))
    assert metrics.REGISTRY.get_sample_value("occopus_cloud_calls_total", labels) == before + 1


def test_a_line_of_the_log_is_one_line(lines: io.StringIO) -> None:
    logs.configure("text", "info", lines)
    logging.getLogger("controller.test").warning("an image named %s", "x\n2030-01-01T00:00:00 INFO all is well")
    assert lines.getvalue().count("\n") == 1
