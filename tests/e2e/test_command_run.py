"""`occopus run`: heals what is killed from outside, says what it does in logs and metrics, ends when told."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import time
import urllib.request
from contextlib import closing
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.descriptions import CHAIN
from tests.e2e.desk import COMMAND_SECONDS, UP_SECONDS, Desk

TIMEOUT = ("--timeout", str(UP_SECONDS))
#: From the kill to the replacement's Ready, beyond its own boot (issue: figures).
HEALED_SECONDS = 25.0
#: A supervisor kills what does not end in time; systemd's and Kubernetes' grace is longer.
STOP_SECONDS = 10


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


def scrape(port: int) -> dict[str, dict[str, float]]:
    """Metric → labels as text → value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    samples = [sample for family in families for sample in family.samples]
    found: dict[str, dict[str, float]] = {sample.name: {} for sample in samples}
    for sample in samples:
        found[sample.name][",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))] = sample.value
    return found


def entries(log: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in log.splitlines()]


def test_a_killed_machine_is_replaced_and_all_of_it_is_told(desk: Desk) -> None:
    port = free_port()
    running = desk.start_run("--metrics-port", str(port), "--log-format", "json", "--log-level", "debug")
    try:
        desk.occopus("up", "-f", desk.write("infra.yaml", CHAIN), "-q", *TIMEOUT)
        assert scrape(port)["occopus_instances"]["phase=Ready"] == 4
        (lost,) = [each for each in desk.machines() if each["name"] == "chain-app-0"]
        with closing(sqlite3.connect(desk.state, isolation_level=None)) as other:
            # While another program holds the file nothing can be written; it says for which object, and gets over it.
            other.execute("BEGIN IMMEDIATE")
            desk.kill(lost["id"])
            desk.until(running, lambda: '"kind": "Instance' in desk.started())
            other.execute("ROLLBACK")
        killed = time.monotonic()
        while not replaced(desk, lost["id"]):
            assert time.monotonic() - killed < HEALED_SECONDS
        assert scrape(port)["occopus_instances"]["phase=Ready"] == 4
        # What depends on it was left alone, and so was its neighbour.
        assert len(desk.machines()) == 5
        running.send_signal(signal.SIGTERM)
        assert running.wait(STOP_SECONDS) == 0
    finally:
        running.kill()
        running.wait(COMMAND_SECONDS)
    log = entries(desk.started())
    (told, *_) = [each for each in log if each.get("kind", "").startswith("Instance")]
    assert {"time", "level", "logger", "message"} <= set(told)
    assert told["namespace"] == "default"
    assert told["name"].startswith("chain-")
    assert all("exception" not in each for each in log)
    assert len([each for each in desk.machines() if each["state"] == "running"]) == 4


def replaced(desk: Desk, lost: str) -> bool:
    app = desk.services()["app"]
    machines = [each["machine"] for each in app["instances"] if each["ready"]]
    return len(machines) == 2 and lost not in machines and app["ready"]


def test_what_it_cannot_have_is_told_in_a_sentence(desk: Desk, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"port {port} on 127.0.0.1" in desk.refused(2, "run", "--metrics-port", port)
    assert "cannot be written" in desk.refused(2, "run", "--pid-file", str(tmp_path / "nope" / "pid"))
