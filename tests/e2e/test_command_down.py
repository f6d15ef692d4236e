"""`make down` over what a newcomer leaves behind: machines whose directory was removed by hand are found and ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.descriptions import CLOUD, infrastructure, service, template
from tests.e2e.desk import COMMAND_SECONDS, UP_SECONDS, Desk

_ROOT = Path(__file__).parents[2]
#: What a machine leaves running in the background, and so does not end by itself.
_SERVER = template(command="sleep 1000 &")


def down(desk: Desk) -> str:
    """As the Makefile calls it."""
    called = (str(_ROOT / "tools" / "down"), str(desk.directory), str(Path(sys.executable).parent))
    done = subprocess.run(called, cwd=_ROOT, env=desk.environment, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


def up(desk: Desk) -> None:
    file = desk.write("infra.yaml", CLOUD + _SERVER + infrastructure("one", service("only")))
    desk.occopus("up", "-f", file, "--timeout", str(UP_SECONDS))


@pytest.mark.long
def test_a_machine_whose_directory_was_removed_is_ended_and_named(desk: Desk) -> None:
    up(desk)
    (machine,) = desk.machines()
    shutil.rmtree(desk.directory / "machines" / machine["id"])
    assert desk.processes() != []
    said = down(desk)
    assert f"Ended machine {machine['id']}" in said
    assert str(machine["pid"]) in said
    assert desk.processes() == []
    assert not desk.directory.exists()


def test_after_everything_was_removed_by_hand_it_still_ends_the_machines(desk: Desk) -> None:
    up(desk)
    (machine,) = desk.machines()
    shutil.rmtree(desk.directory)
    os.kill(machine["pid"], signal.SIGKILL)  # what it ran is an orphan then
    assert desk.processes() != []
    said = down(desk)
    assert "Ended machine" in said
    assert said.endswith("Nothing is left running.\n")
    assert desk.processes() == []


def test_machines_of_another_directory_stay(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> None:
    up(desk)
    other = Desk(tmp_path_factory.mktemp("other"))
    assert "Ended" not in down(other)
    assert desk.processes() != []
