"""The examples, by the real `occopus` command in a state directory of their own; nothing of them is left running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
#: The examples are up in under 10 s each; a busy machine takes a multiple.
UP_SECONDS = 120
#: Beyond the command's own time-out: its start, and an end that waits for calls on their way.
COMMAND_SECONDS = UP_SECONDS + 60


class Desk:
    """The command over one state file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # Machines run `python3` from PATH: the one of these tests.
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        self._environment = {**os.environ, "PATH": path, "OCCOPUS_STATE": str(directory / "state.db")}

    def program(self, *arguments: str) -> str:
        """Run a program to its end; its standard output. Fails the test where it fails, with what it said."""
        done = subprocess.run(arguments, capture_output=True, text=True, env=self._environment, timeout=COMMAND_SECONDS, check=False)
        assert done.returncode == 0, f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def occopus(self, *arguments: str) -> str:
        return self.program(sys.executable, "-m", "controller.cli.main", *arguments)

    def up(self, example: str) -> None:
        self.occopus("up", "-f", str(EXAMPLES / example), "--timeout", str(UP_SECONDS))

    def services(self) -> dict[str, Any]:
        """Service → its row in `status -o json`, of the one infrastructure there is."""
        (found,) = json.loads(self.occopus("status", "-o", "json"))["infrastructures"]
        return {each["name"]: each for each in found["services"]}

    def end(self) -> None:
        """Delete all, and look that no process of any of its machines is left."""
        if (self.directory / "state.db").exists():
            self.occopus("delete", "--all", "--timeout", str(UP_SECONDS))
        assert self.processes() == []

    def processes(self) -> list[str]:
        """Every process whose environment or arguments name a machine of this directory, as pid and command line."""
        machines = str(self.directory / "machines").encode()
        return [f"{pid} {line}" for pid, environment, line in _processes() if machines in environment or machines.decode() in line]


def _processes() -> Iterator[tuple[str, bytes, str]]:
    for place in Path("/proc").iterdir():
        if not place.name.isdecimal() or int(place.name) == os.getpid():
            continue
        try:
            environment, arguments = (place / "environ").read_bytes(), (place / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile, or is another user's
        yield place.name, environment, arguments.replace(b"\0", b" ").decode(errors="replace")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    try:
        yield desk
    finally:
        desk.end()


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
    library, state = str(EXAMPLES / "library.py"), str(desk.directory / "state.db")
    said = desk.program(sys.executable, library, state).splitlines()
    assert [line.partition(" is Ready at ")[0] for line in said] == ["db", "app", "web"]
    # The command goes on with what the library has made.
    assert f"web is Ready at {desk.services()['web']['address']}" in said
    assert desk.program(sys.executable, library, "--delete", state) == "quickstart is gone\n"
    assert desk.processes() == []
