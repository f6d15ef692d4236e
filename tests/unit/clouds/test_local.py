"""What only the local cloud does: real processes, killed, orphaned and left behind on purpose."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller.clouds.local import directories, processes
from controller.clouds.local import driver as local
from controller.ports import CONTROLLER_TAG, MachineId, MachineState
from tests.unit.clouds.machines import Cloud, request, until


def test_the_record_is_what_scripts_read(cloud: Cloud) -> None:
    machine = cloud.launch()
    record = json.loads((cloud.place(machine.id) / "machine.json").read_text())
    assert record["id"] == machine.id == "batch-0"
    assert record["name"] == "web-0"
    assert record["tags"] == {CONTROLLER_TAG: "ours"}
    assert record["addresses"] == list(machine.private_addresses)
    assert record["state"] == "running"
    assert Path(f"/proc/{record['pid']}").exists()


def test_a_machine_boots_as_long_as_it_was_told(cloud: Cloud) -> None:
    cloud.driver.create([request(boot_seconds=3600)])
    until(lambda: cloud.record("batch-0")["pid"])
    assert cloud.state("batch-0") is MachineState.PENDING
    cloud.driver.delete([MachineId("batch-0")])
    assert cloud.state("batch-0") is MachineState.TERMINATED


def test_a_machine_that_is_to_end_while_it_boots_runs_nothing(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.driver.create([request("#!/bin/sh\ntouch reached\n", boot_seconds=1)])
    until(lambda: cloud.record("batch-0")["pid"])
    with monkeypatch.context() as patch:
        patch.setattr(processes, "end", _end_nothing)
        cloud.driver.delete([MachineId("batch-0")])
    until(lambda: not cloud.processes("batch-0"))
    assert not (cloud.root("batch-0") / "reached").exists()
    assert cloud.record("batch-0")["state"] == "shutting-down"
    cloud.driver.delete([MachineId("batch-0")])
    assert cloud.state("batch-0") is MachineState.TERMINATED


#: Each leaves processes that are hard to find or to end. Servers that write their title over their environment (nginx) look
#: like the last of `_HIDDEN`: found by ancestry alone.
_LEFTOVERS = [
    pytest.param("sleep 1000 & sleep 1000 &", 2, id="background"),
    pytest.param("setsid sleep 1000 &", 1, id="session of its own"),
    pytest.param("(setsid sh -c 'sleep 1000 & exec sleep 1000' &) &", 2, id="double fork"),
    pytest.param("trap '' TERM; (while :; do sleep 1000; done) &", 2, id="deaf"),
]
_HIDDEN = [*_LEFTOVERS, pytest.param("setsid env -i sleep 1000 &", 1, id="without its environment")]


@pytest.mark.parametrize(("command", "count"), _HIDDEN)
def test_delete_ends_every_process(cloud: Cloud, command: str, count: int) -> None:
    machine = cloud.launch(f"#!/bin/sh\n{command}\n")
    until(lambda: len(cloud.processes(machine.id)) == count + 1)
    pids = cloud.processes(machine.id)
    started = time.monotonic()
    cloud.driver.delete([machine.id])
    assert time.monotonic() - started < 3.5
    assert cloud.record(machine.id)["state"] == "terminated"
    assert not any(map(_runs, pids))


@pytest.mark.parametrize(("command", "count"), _LEFTOVERS)
def test_a_killed_guardian_is_a_terminated_machine_and_its_leftovers_end(cloud: Cloud, command: str, count: int) -> None:
    machine = cloud.launch(f"#!/bin/sh\n{command}\n")
    until(lambda: len(cloud.processes(machine.id)) == count + 1)
    pids = cloud.processes(machine.id)
    os.kill(cloud.record(machine.id)["pid"], signal.SIGKILL)
    until(lambda: cloud.driver.list()[0].state is MachineState.TERMINATED)
    assert not any(map(_runs, pids))
    assert cloud.driver.list()[0].message
    assert cloud.record(machine.id)["state"] == "terminated"


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except FileNotFoundError:
        return False


def test_a_service_that_was_asked_to_end_may_end_by_itself(cloud: Cloud) -> None:
    machine = cloud.launch("#!/bin/sh\n(trap 'echo goodbye; exit' TERM; while :; do sleep 0.05; done) &\n")
    cloud.driver.delete([machine.id])
    assert "goodbye" in cloud.driver.console(machine.id)


def test_no_command_starts_after_the_end_has_begun(cloud: Cloud) -> None:
    cloud.driver.create([request("#cloud-config\nruncmd: ['touch first; sleep 1000', 'touch second']\n")])
    until((cloud.root("batch-0") / "first").exists)
    cloud.driver.delete([MachineId("batch-0")])
    assert not (cloud.root("batch-0") / "second").exists()
    assert cloud.state("batch-0") is MachineState.TERMINATED


def test_orphans_are_reaped(cloud: Cloud) -> None:
    machine = cloud.launch("#!/bin/sh\n(setsid sh -c 'echo $$ > orphan; exec sleep 0.2' &)\n")
    file = cloud.root(machine.id) / "orphan"
    until(lambda: file.exists() and file.read_text())
    until(lambda: not Path(f"/proc/{file.read_text().strip()}").exists())
    assert cloud.state(machine.id) is MachineState.RUNNING


def _end_nothing(marks: Collection[str], guardians: Collection[int], *, grace_seconds: float, limit_seconds: float) -> set[str]:
    return set()


def test_an_unfinished_end_is_finished_by_list(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = cloud.launch("#!/bin/sh\nsleep 1000 &\n")
    with monkeypatch.context() as patch:
        patch.setattr(processes, "end", _end_nothing)
        cloud.driver.delete([machine.id])
        assert cloud.state(machine.id) is MachineState.SHUTTING_DOWN
    later = local.LocalDriver(directories.Home(cloud.directory), "ours", lambda: datetime.now(UTC) + timedelta(seconds=10))
    assert [each.state for each in later.list()] == [MachineState.TERMINATED]
    assert cloud.processes(machine.id) == []


def test_a_guardian_loads_no_more_than_it_needs() -> None:
    """Each machine has one for its whole life."""
    code = "import sys, controller.clouds.local.guardian; print([each for each in ('pydantic', 'asyncio') if each in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- crashes -------------------------------------------------------------------------------------------------------
_CRASH_BEFORE_SPAWN = """
import os, signal
from controller.clouds.local import driver as local
from controller.clouds.local import processes
from controller.ports import CloudConfig, LaunchRequest
processes.start_guardian = lambda place, record: os.kill(os.getpid(), signal.SIGKILL)
driver = local.open(CloudConfig({{}}, {{}}, "ours", {directory!r}, allow_local=True, ambient_credentials=False))
driver.create([LaunchRequest("batch", ("web-0", "web-1"), {{"occopus.io/controller": "ours"}}, {{"bootSeconds": 0}}, b"")])
"""


def _crash(cloud: Cloud) -> None:
    """A controller that dies between making a machine's directory and starting its guardian."""
    code = _CRASH_BEFORE_SPAWN.format(directory=str(cloud.directory))
    crashed = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False)
    assert crashed.returncode == -signal.SIGKILL


def test_after_a_crash_the_same_create_starts_the_same_machines(cloud: Cloud) -> None:
    _crash(cloud)
    assert cloud.record("batch-0")["pid"] == 0
    (outcome,) = cloud.driver.create([request(count=2)])
    assert isinstance(outcome, tuple)
    assert [each.id for each in outcome] == ["batch-0", "batch-1"]
    until(lambda: {each.state for each in cloud.driver.list()} == {MachineState.RUNNING})
    assert len(cloud.driver.list()) == 2


def test_after_a_crash_a_listed_machine_starts(cloud: Cloud) -> None:
    _crash(cloud)
    assert [each.state for each in cloud.driver.list()] == [MachineState.PENDING] * 2
    until(lambda: {each.state for each in cloud.driver.list()} == {MachineState.RUNNING})


def test_a_machine_that_does_not_start_is_ended(cloud: Cloud) -> None:
    _crash(cloud)
    later = local.LocalDriver(directories.Home(cloud.directory), "ours", lambda: datetime.now(UTC) + timedelta(minutes=2))
    assert [each.state for each in later.list()] == [MachineState.TERMINATED] * 2
    assert not cloud.processes("batch-0")


def test_a_guardian_that_comes_too_late_runs_nothing(cloud: Cloud) -> None:
    _crash(cloud)
    record = cloud.record("batch-0")
    cloud.driver.delete([MachineId("batch-0"), MachineId("batch-1")])
    processes.start_guardian(cloud.place("batch-0"), record)
    until(lambda: not cloud.processes("batch-0"))
    assert cloud.record("batch-0")["pid"] == 0
    assert cloud.driver.console(MachineId("batch-0")) == ""


def test_of_many_guardians_one_runs(cloud: Cloud) -> None:
    machine = cloud.launch("#!/bin/sh\necho once\n")
    for _ in range(3):
        processes.start_guardian(cloud.place(machine.id), cloud.record(machine.id))
    until(lambda: cloud.processes(machine.id) == [cloud.record(machine.id)["pid"]])
    assert cloud.driver.console(machine.id).count("once") == 1


def test_a_guardian_that_was_killed_is_not_started_again(cloud: Cloud) -> None:
    machine = cloud.launch("#!/bin/sh\necho once\n")
    os.kill(cloud.record(machine.id)["pid"], signal.SIGKILL)
    processes.start_guardian(cloud.place(machine.id), cloud.record(machine.id))
    until(lambda: not cloud.processes(machine.id))
    assert cloud.driver.console(machine.id).count("once") == 1


def test_whoever_opens_a_copy_ends_nothing_of_the_original(cloud: Cloud, tmp_path: Path) -> None:
    machine = cloud.launch()
    shutil.copytree(cloud.directory, tmp_path / "copy", symlinks=True)
    copy = Cloud(tmp_path / "copy")
    assert [each.state for each in copy.driver.list()] == [MachineState.TERMINATED]
    assert cloud.state(machine.id) is MachineState.RUNNING


def test_a_directory_that_was_moved_keeps_its_machines(cloud: Cloud, tmp_path: Path) -> None:
    machine = cloud.launch()
    cloud.directory.rename(tmp_path / "moved")
    moved = Cloud(tmp_path / "moved")
    assert moved.state(machine.id) is MachineState.RUNNING
    moved.driver.delete([machine.id])
    assert moved.state(machine.id) is MachineState.TERMINATED
    (tmp_path / "moved").rename(cloud.directory)


def test_machines_outlive_the_controller(cloud: Cloud) -> None:
    code = _CRASH_BEFORE_SPAWN.replace("processes.start_guardian =", "unused =").format(directory=str(cloud.directory))
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True)
    until(lambda: {each.state for each in cloud.driver.list()} == {MachineState.RUNNING})
