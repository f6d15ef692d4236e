"""The real `occopus` command over a state directory of its own, and what it left running."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
#: The examples are up in under 10 s each; a busy machine takes a multiple.
UP_SECONDS = 120
#: Beyond the command's own time-out: its start, and an end that waits for calls on their way.
COMMAND_SECONDS = UP_SECONDS + 60
COMMAND = ("-m", "controller.cli.main")


class Desk:
    """The command over one state file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state.db"
        # Machines run `python3` from PATH: the one of these tests.
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        self.environment = {**os.environ, "PATH": path, "OCCOPUS_STATE": str(self.state)}

    def run(self, *arguments: str, module: tuple[str, ...] = COMMAND, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command to its end, however it ends; never with a traceback."""
        done = subprocess.run(
            (sys.executable, *module, *arguments),
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=COMMAND_SECONDS,
            check=False,
            input=stdin,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def refused(self, code: int, *arguments: str, stdin: str | None = None) -> str:
        """Run the command, which must end with this exit code; what it said on standard error."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stderr

    def program(self, *arguments: str) -> str:
        """Run any program to its end; its standard output. Fails the test where it fails, with what it said."""
        done = subprocess.run(arguments, capture_output=True, text=True, env=self.environment, timeout=COMMAND_SECONDS, check=False)
        assert done.returncode == 0, f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def occopus(self, *arguments: str) -> str:
        """Run the command; its standard output. Fails the test where it fails, with what it said."""
        return self.program(sys.executable, *COMMAND, *arguments)

    def start(self, *arguments: str, module: tuple[str, ...] = COMMAND) -> subprocess.Popen[str]:
        """Start the command; the caller ends it."""
        log = self.directory / "started.log"
        with log.open("a") as output:
            return subprocess.Popen((sys.executable, *module, *arguments), stdout=output, stderr=output, text=True, env=self.environment)

    def start_run(self, *arguments: str, module: tuple[str, ...] = COMMAND) -> subprocess.Popen[str]:
        """Start `occopus run` and wait until it holds the state file; the caller ends it."""
        pid_file = self.directory / "run.pid"
        running = self.start("run", "--pid-file", str(pid_file), *arguments, module=module)
        self.until(running, pid_file.exists)
        return running

    def until(self, process: subprocess.Popen[str], holds: Callable[[], bool]) -> None:
        """Wait until it holds; the process must not end before."""
        for _ in range(COMMAND_SECONDS * 20):
            if holds():
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"ended with {process.wait(0.05)}:\n{self.started()}")
        raise AssertionError(f"does not come to hold:\n{self.started()}")

    def up(self, example: str) -> None:
        self.occopus("up", "-f", str(EXAMPLES / example), "--timeout", str(UP_SECONDS))

    def write(self, name: str, text: str) -> str:
        """A file beside the state file; its path."""
        (self.directory / name).write_text(text)
        return str(self.directory / name)

    def started(self) -> str:
        """What everything that was started has said so far."""
        return (self.directory / "started.log").read_text()

    def services(self) -> dict[str, Any]:
        """Service → its row in `status -o json`, of the one infrastructure there is."""
        (found,) = json.loads(self.run("status", "-o", "json").stdout)["infrastructures"]
        return {each["name"]: each for each in found["services"]}

    def objects(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind, whole."""
        return json.loads(self.occopus("get", kind, "-o", "json"))["items"]

    def machines(self) -> list[dict[str, Any]]:
        """What `machine.json` of every local machine says, whatever its state."""
        return [json.loads(each.read_text()) for each in sorted(self.directory.glob("machines/*/machine.json"))]

    def end(self) -> None:
        """Delete all, where there is a machine, and look that no process of any of them is left."""
        if self.state.exists() and any(self.directory.glob("machines/*")):
            self.occopus("delete", "--all", "--timeout", str(UP_SECONDS))
        assert self.processes() == []

    def kill(self, machine: str) -> None:
        """Kill all processes of a machine from outside, its guardian too."""
        for pid in self._pids(str(self.directory / "machines" / machine)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _pids(self, place: str) -> list[int]:
        return [int(pid) for pid, environment, line in _processes() if place.encode() in environment or place in line]

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
