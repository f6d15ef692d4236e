"""The examples, by the real `occopus` command in a state directory of their own; nothing of them is left running."""

from __future__ import annotations

import json
import sys
import urllib.request

import pytest

from tests.e2e.desk import EXAMPLES, Desk


def fetch(address: str, port: int) -> str:
    with urllib.request.urlopen(f"http://{address}:{port}/", timeout=5) as answer:
        return answer.read().decode()


def test_quickstart_serves_a_page_that_reached_the_database(desk: Desk) -> None:
    desk.up("quickstart.yaml")
    services = desk.services()
    assert {name: each["ready_replicas"] for name, each in services.items()} == {"db": 1, "app": 2, "web": 1}
    page = fetch(services["web"]["address"], 8080)
    apps = {each["address"] for each in services["app"]["instances"]}
    assert "Hello from Occopus" in page
    assert f"reached db {services['db']['address']}" in page
    assert any(f"reached app {app}," in page for app in apps)
    # The machines run: without this the look for what is left behind could not fail.
    assert len(desk.processes()) >= 8


def test_ping_pair_sender_was_told_the_receiver_and_got_its_answer(desk: Desk) -> None:
    desk.up("ping-pair.yaml")
    services = desk.services()
    assert list(services) == ["receiver", "sender"]
    assert fetch(services["sender"]["address"], 8080) == f"{services['receiver']['address']} answered pong\n"


@pytest.mark.long
def test_cluster_workers_join_as_it_grows_and_leave_as_it_shrinks(desk: Desk) -> None:
    desk.up("cluster.yaml")
    assert members(desk) == {"cluster-worker-0", "cluster-worker-1"}
    desk.occopus("scale", "cluster", "worker", "4")
    desk.up("cluster.yaml")
    assert members(desk) == {f"cluster-worker-{index}" for index in range(4)}
    desk.occopus("scale", "cluster", "worker", "2")
    desk.up("cluster.yaml")
    # The youngest go first.
    assert set(instances(desk)) == {"cluster-worker-0", "cluster-worker-1"}


def instances(desk: Desk) -> list[str]:
    return [each["name"] for each in desk.services()["worker"]["instances"] if each["ready"]]


def members(desk: Desk) -> set[str]:
    """The master's own list."""
    return set(json.loads(fetch(desk.services()["master"]["address"], 6000)))


def test_the_library_program_tells_each_service_and_takes_all_down(desk: Desk) -> None:
    library, state = str(EXAMPLES / "library.py"), str(desk.state)
    said = desk.program(sys.executable, library, state).splitlines()
    assert [line.partition(" is Ready at ")[0] for line in said] == ["db", "app", "web"]
    # The command goes on with what the library has made.
    assert f"web is Ready at {desk.services()['web']['address']}" in said
    assert desk.program(sys.executable, library, "--delete", state) == "quickstart is gone\n"
    assert desk.processes() == []
