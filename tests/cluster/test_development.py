"""`make up` and `make down` themselves: the operator is started again when it dies, and nothing is left at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.descriptions import CLOUD, infrastructure, service, template
from tests.e2e.desk import Desk
from tools.control_plane import ControlPlane

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0


class Home:
    """A directory as `.dev` is."""

    def __init__(self, directory: Path, plane: ControlPlane | None = None) -> None:
        self.directory = directory
        self.desk = Desk(directory)
        #: The cluster: its own, or one of the user's.
        self.plane = plane or ControlPlane(directory)

    def make(self, command: str, *more: str) -> str:
        """`make up` or `make down`, as the Makefile calls it."""
        done = self.run(command, *more)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{self.log()}"
        return done.stdout

    def run(self, command: str, *more: str) -> subprocess.CompletedProcess[str]:
        called = (sys.executable, "-m", "tools.development", command, "--dir", str(self.directory), *more)
        # A KUBECONFIG that nothing can use: it is not read.
        path = f"{self.plane.kubectl.parent}:{self.desk.environment['PATH']}"
        environment = {**self.desk.environment, "KUBECONFIG": "/nonexistent", "PATH": path}
        return subprocess.run(called, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180, check=False)

    def kubectl(self, *arguments: str, text: str = "") -> str:
        called = (str(self.plane.kubectl), "--kubeconfig", str(self.plane.kubeconfig), *arguments)
        done = subprocess.run(called, input=text, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{self.log()}"
        return done.stdout

    def log(self) -> str:
        return (self.directory / "controller.log").read_text() if (self.directory / "controller.log").exists() else ""

    def pid(self) -> int:
        """The operator's, 0 while there is none."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int((self.directory / "controller.pid").read_text())
        return 0

    def command_line(self, pid: int) -> str:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return ""

    def processes(self) -> list[str]:
        """All whose command line names the directory, but for this one and those that it has reaped."""
        pids = (int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal() and int(each.name) != os.getpid())
        return [f"{pid} {line}" for pid in pids if str(self.directory) in (line := self.command_line(pid))]

    def until(self, holds: Callable[[], bool]) -> float:
        began = time.monotonic()
        while not holds():
            assert time.monotonic() < began + PATIENCE_SECONDS, self.log()
            threading.Event().wait(0.05)
        return time.monotonic() - began


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "dev")
    home.directory.mkdir()
    try:
        yield home
    finally:
        if home.directory.exists() and home.processes():
            home.make("down")
        assert home.processes() == []


def test_the_operator_is_started_again_and_down_leaves_nothing(home: Home) -> None:
    said = home.make("up")
    assert f"export KUBECONFIG={home.directory / 'kubeconfig'}" in said
    home.kubectl("apply", "-f", "-", text=CLOUD + template() + infrastructure("one", service("only")))
    home.kubectl("wait", "infrastructure/one", "--for=condition=Ready", f"--timeout={PATIENCE_SECONDS:.0f}s")
    first = home.pid()
    assert "-m controller" in home.command_line(first)
    os.kill(first, signal.SIGKILL)
    seconds = home.until(lambda: home.pid() not in (0, first) and "-m controller" in home.command_line(home.pid()))
    assert seconds < 10
    assert f"exited with {-signal.SIGKILL}" in home.log()
    # The Lease of the killed one runs out first; then the machine is ended, by the new one.
    home.make("down")
    assert {each["state"] for each in home.desk.machines()} == {"terminated"}
    assert home.desk.processes() == []
    assert home.processes() == []
    assert home.pid() == 0


def test_a_cluster_of_the_user_keeps_what_it_is_and_its_machines_are_ended_by_name_alone(tmp_path: Path) -> None:
    with ControlPlane(tmp_path / "theirs") as theirs:
        home = Home(tmp_path / "dev", theirs)
        home.directory.mkdir()
        ours = ("--cluster", str(theirs.kubeconfig))
        try:
            home.make("up", *ours)
            home.kubectl("apply", "-f", "-", text=CLOUD + template() + infrastructure("one", service("only")))
            home.kubectl("wait", "infrastructure/one", "--for=condition=Ready", f"--timeout={PATIENCE_SECONDS:.0f}s")
            # As after a reboot: supervisor and operator are gone, the machines may live.
            pids = (int((home.directory / "supervisor.pid").read_text().split()[0]), home.pid())
            assert all(pids), "0 would be every process of this group"
            for each in pids:
                os.kill(each, signal.SIGKILL)
            home.until(lambda: not any("-m" in each for each in home.processes() if "guardian" not in each))
            refused = home.run("down")
            assert refused.returncode == 1
            assert "make down CLUSTER=" in refused.stderr
            assert home.kubectl("get", "infrastructures", "-o", "name").split() == ["infrastructure.occopus.io/one"]
            home.make("down", *ours)
            assert {each["state"] for each in home.desk.machines()} == {"terminated"}
            assert home.kubectl("get", "infrastructures,instances", "-o", "name") == ""
            assert home.processes() == []
        finally:
            if home.processes():
                home.make("down", *ours)
