"""A process is known again by its pid file, and never mistaken for another that has its pid."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.control_plane import processes
from tools.control_plane.processes import Identity

Spawn = Callable[[str], Identity]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Runs Python code as a process that outlives nobody."""
    spawned: list[Identity] = []

    def start(code: str) -> Identity:
        spawned.append(processes.spawn([sys.executable, "-S", "-c", code], tmp_path / "log"))
        return spawned[-1]

    yield start
    for identity in spawned:
        processes.end(identity, signal.SIGKILL, 10)


def wait_for_zombie(pid: int) -> None:
    """Until the first thread of the process has ended."""
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline


FOREVER = "import signal; signal.pause()"


def test_a_recorded_process_is_known_again(spawn: Spawn, tmp_path: Path) -> None:
    identity = spawn(FOREVER)
    processes.record(tmp_path / "x.pid", identity)
    assert processes.recorded(tmp_path / "x.pid") == identity
    assert list(tmp_path.glob("*.partial")) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"start_ticks": 1}, id="another started under this pid"),
        pytest.param({"boot_id": "another"}, id="the machine was booted again"),
    ],
)
def test_a_recycled_pid_is_nobody(spawn: Spawn, tmp_path: Path, change: dict[str, object]) -> None:
    identity = spawn(FOREVER)
    stale = dataclasses.replace(identity, **change)
    processes.record(tmp_path / "x.pid", stale)
    assert processes.recorded(tmp_path / "x.pid") is None
    processes.end(stale, signal.SIGKILL, 1)
    assert processes.running(identity)


@pytest.mark.parametrize(
    "text",
    [pytest.param("", id="empty"), pytest.param("1", id="only a pid"), pytest.param("one two three", id="words")],
)
def test_a_broken_pid_file_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.pid").write_text(text)
    assert processes.recorded(tmp_path / "x.pid") is None


def test_no_pid_file_names_nobody(tmp_path: Path) -> None:
    assert processes.recorded(tmp_path / "x.pid") is None


def test_a_zombie_does_not_run_and_is_reaped(spawn: Spawn) -> None:
    identity = spawn(FOREVER)
    os.kill(identity.pid, signal.SIGKILL)
    os.waitid(os.P_PID, identity.pid, os.WEXITED | os.WNOWAIT)
    assert processes.identify(identity.pid) == identity
    assert not processes.running(identity)
    assert processes.identify(identity.pid) is None


def test_a_process_runs_while_one_of_its_threads_does(spawn: Spawn, tmp_path: Path) -> None:
    """As a killed server of many threads does for a moment: its first thread is a zombie, its ports are not free yet."""
    os.mkfifo(tmp_path / "ready")
    other = f"open({str(tmp_path / 'ready')!r}, 'w').close(); signal.pause()"
    identity = spawn(
        f"import ctypes, os, signal, threading\ndef other(): {other}\nthreading.Thread(target=other).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    (tmp_path / "ready").read_text()
    wait_for_zombie(identity.pid)
    assert processes.running(identity)
    processes.end(identity, signal.SIGKILL, 10)
    assert not processes.running(identity)


def test_the_end_waits_until_it_is_one(spawn: Spawn) -> None:
    identity = spawn(FOREVER)
    processes.end(identity, signal.SIGTERM, 10)
    assert not processes.running(identity)
    assert processes.identify(identity.pid) is None


def test_who_does_not_heed_sigterm_is_killed(spawn: Spawn, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    identity = spawn(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); open({str(ready)!r}, 'w').close(); signal.pause()")
    ready.read_text()
    processes.end(identity, signal.SIGTERM, 0.2)
    assert not processes.running(identity)


def test_to_wait_has_an_end(spawn: Spawn) -> None:
    assert not processes.wait(spawn(FOREVER), 0.01)


def test_the_output_is_appended_to_a_private_log(spawn: Spawn, tmp_path: Path) -> None:
    for word in ("one", "two"):
        assert processes.wait(spawn(f"import sys; print({word!r}, flush=True); print('err', file=sys.stderr)"), 10)
    assert (tmp_path / "log").read_text() == "one\nerr\ntwo\nerr\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_process_has_a_session_and_an_environment_of_its_own(spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_NAME", "another")
    identity = spawn("import os; print(os.getsid(0) == os.getpid(), os.environ.get('ETCD_NAME'))")
    processes.wait(identity, 10)
    assert (tmp_path / "log").read_text() == "True None\n"


def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no-such-program"):
        processes.spawn([str(tmp_path / "no-such-program")], tmp_path / "log")
