"""The control plane's programs: built from the modules that `tools/go.mod` pins, once, into a cache outside of the clone.

`ensure()` is what plane.py and the command call. A binary has its name only when it is whole; one builder works at a time, a
second waits for it. It does not know how the programs are run.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.control_plane import advice, long_run, toolchain
from tools.control_plane.display import Display, minutes
from tools.control_plane.errors import ControlPlaneError

MODULE = Path(__file__).parent.parent
# The packages that hold version numbers: without them a server calls itself v0.0.0-master, and clients doubt it.
_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


@dataclass(frozen=True, slots=True)
class Binary:
    """One program and the main package it is built from."""

    name: str
    package: str


BINARIES: Sequence[Binary] = (
    Binary("etcd", "go.etcd.io/etcd/server/v3"),
    Binary("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    Binary("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    Binary("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
)


def kubernetes_version(go_mod: str) -> str:
    """The version of Kubernetes that the text of a go.mod pins, e.g. `v1.36.3`."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", go_mod, re.MULTILINE)
    if found is None:
        raise ValueError("go.mod does not require k8s.io/kubernetes")
    return found[1]


def build_options(version: str) -> list[str]:
    """What `go build` is given: small binaries that know their version and no path of this machine."""
    major, minor, _ = version.removeprefix("v").split(".", 2)
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    defined = [f"-X {package}.{name}={value}" for package in _VERSION_PACKAGES for name, value in values.items()]
    return ["-trimpath", "-mod=readonly", f"-ldflags=-s -w {' '.join(defined)}"]


def cache_directory() -> Path:
    """Where this project keeps what it builds: `$XDG_CACHE_HOME/occopus`, `~/.cache/occopus` if that is unset or relative."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "occopus"


def directory(cache: Path, module: Path = MODULE) -> Path:
    """The directory of the binaries of this go.mod and go.sum, built with these options for this kind of machine.

    Which Go built them is no part of it: the pinned sources decide how they behave, and another Go on PATH, or none, is
    no reason to build for minutes again.
    """
    options = build_options(kubernetes_version((module / "go.mod").read_text()))
    digest = hashlib.sha256()
    for part in (
        (module / "go.mod").read_bytes(),
        (module / "go.sum").read_bytes(),
        "\n".join(options).encode(),
        platform.machine().encode(),
    ):
        digest.update(len(part).to_bytes(8, "big") + part)
    return cache / "control-plane" / digest.hexdigest()[:16]


def missing(directory: Path) -> list[Binary]:
    """What is not built yet."""
    return [binary for binary in BINARIES if not (directory / binary.name).exists()]


def ensure(display: Display) -> Path:
    """The directory of the binaries; builds what is missing, which takes minutes the first time.

    Raises ControlPlaneError if that fails.
    """
    cache = cache_directory()
    target = directory(cache)
    if not missing(target):
        return target
    target.mkdir(parents=True, exist_ok=True)
    with _only_builder(target.parent / "lock", display) as lock:
        # Another builder may have made them while this one waited.
        todo = missing(target)
        if todo:
            go_mod = (MODULE / "go.mod").read_text()
            go = toolchain.find(toolchain.needed(go_mod), cache, lock, display)
            _Build(go, target, kubernetes_version(go_mod), lock, display).run(todo)
    return target


@contextmanager
def _only_builder(path: Path, display: Display) -> Generator[int]:
    """Hold the lock, a file with the holder's pid; yields its descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            display.line(f"Another build is under way (started by process {path.read_text().strip() or 'unknown'}): waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


class _Build:
    """One run of the builder: what is common to its steps."""

    def __init__(self, go: toolchain.Go, target: Path, version: str, lock: int, display: Display) -> None:
        self._go, self._target, self._version = go, target, version
        self._lock, self._display = lock, display
        self._started = time.monotonic()
        self._compiled: set[str] = set()

    def run(self, todo: Sequence[Binary]) -> None:
        names = ", ".join(binary.name for binary in todo)
        self._display.line(f"Building {names} of Kubernetes {self._version} with {self._go.version} in {self._target}")
        self._display.line("This takes minutes, once; interrupted, it goes on where it was.")
        self._download(todo)
        for number, binary in enumerate(todo, 1):
            self._build(binary, f"{number} of {len(todo)}")
        self._display.line(f"Built {names} in {minutes(time.monotonic() - self._started)}")

    def _download(self, todo: Sequence[Binary]) -> None:
        modules = 0

        def seen(line: str | None) -> bool:
            nonlocal modules
            another = line is not None and line.startswith("go: downloading")
            modules += another
            self._display.progress(f"Modules: {modules} downloaded, {self._elapsed()}")
            return not another

        self._go_run(["list", "-mod=readonly", "-deps", *(binary.package for binary in todo)], seen)

    def _build(self, binary: Binary, which: str) -> None:
        # Go says which packages it compiles, not those it has compiled before: so the count may end short of this one.
        packages = self._packages(binary) - self._compiled
        count = 0

        def seen(line: str | None) -> bool:
            nonlocal count
            compiled = line in packages
            if compiled:
                count += 1
            self._display.progress(f"{binary.name} ({which}): {count} of at most {len(packages)} packages compiled, {self._elapsed()}")
            return not compiled

        partial = self._target / f".{binary.name}.partial"
        self._go_run(["build", "-v", *build_options(self._version), "-o", str(partial), binary.package], seen)
        self._compiled |= packages
        partial.rename(self._target / binary.name)
        self._display.line(f"{binary.name} ({which}): built, {self._elapsed()}")

    def _packages(self, binary: Binary) -> set[str]:
        arguments = [self._go.program, "list", "-mod=readonly", "-deps", binary.package]
        answer = subprocess.run(arguments, cwd=MODULE, env=self._go.environment, capture_output=True, text=True)
        if answer.returncode:
            raise ControlPlaneError(advice.failure(arguments, answer.stderr, answer.returncode))
        return set(answer.stdout.split())

    def _go_run(self, arguments: Sequence[str], seen: long_run.Seen) -> None:
        long_run.run([self._go.program, *arguments], self._go.environment, MODULE, self._lock, seen)

    def _elapsed(self) -> str:
        return f"{minutes(time.monotonic() - self._started)} elapsed"
