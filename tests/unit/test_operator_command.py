"""`python -m controller`: what its flags say, and that it ends at once when a part of it dies, whatever hangs in a thread."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from controller import __main__ as command
from controller import process

_DIES = """
import concurrent.futures, sys, threading
from controller import __main__ as command, process

async def run(options):
    concurrent.futures.ThreadPoolExecutor().submit(threading.Event().wait, 300)
    raise RuntimeError("a defect of ours")

process.run = run
command.main(["--pid-file", sys.argv[1]])
"""

_KEEPS_NO_LEASE = """
import asyncio
from controller import election, process
from controller.stores.access import Access

async def keep(self):
    raise RuntimeError("a defect of ours")

async def wait(*anything):
    await asyncio.Event().wait()

async def lead():
    election.Election.keep = keep
    process._Process._serve = wait
    await process._Process(process.Options(), Access("http://127.0.0.1:9", None, str), None)._lead((), "ours")

asyncio.run(lead())
"""


def test_a_part_that_dies_ends_the_process_though_a_call_hangs(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    done = subprocess.run([sys.executable, "-c", _DIES, str(pid_file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == process.DIED, done.stderr
    assert "a defect of ours" in done.stderr
    assert not pid_file.exists()


def test_a_leader_whose_renewal_dies_ends_so_that_the_next_one_begins() -> None:
    done = subprocess.run([sys.executable, "-c", _KEEPS_NO_LEASE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == process.DIED, done.stderr
    assert "The renewal of the lease has died" in done.stderr
    assert "a defect of ours" in done.stderr


def test_a_namespace_that_is_named_twice_is_served_once(tmp_path: Path) -> None:
    with command.cli.make_context("controller", ["--namespaces", "one", "--namespaces", "two", "--namespaces", "one"]) as context:
        assert process.options(context.params, tmp_path).namespaces == ("one", "two")
