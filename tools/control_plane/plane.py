"""One control plane in one directory: started, asked, ended; `ControlPlane` is what tests and the command use.

It decides what has to be started, in which order, and when it is ready. It does not know how the programs are built
(binaries.py) or called (components.py).
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.control_plane import binaries, ports, probe, processes, texts
from tools.control_plane.components import API_SERVER, COMPONENTS, CONTROLLER_MANAGER, ETCD, HOST, MAIN, SECOND_API_SERVER, Layout
from tools.control_plane.display import Display
from tools.control_plane.errors import ControlPlaneError
from tools.control_plane.ports import Ports

# A quiet machine of two cores needs 3.5 s; nobody is helped by giving up early on a busy one.
_READY_SECONDS = 120.0
# They end within 1.2 s; longer takes only the controller manager while its API server hangs, and it has nothing to lose.
_GRACE_SECONDS = 5.0
_TAIL_BYTES = 3000
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Status:
    """One component as it is now: `pid` is None if it does not run, `why_not` if it is ready."""

    name: str
    pid: int | None
    port: int
    why_not: str | None


class ControlPlane:
    """The control plane of a directory; a `with` block starts it and, at its end, stops it and removes its data."""

    def __init__(self, directory: Path, display: Display | None = None) -> None:
        if not Path("/proc/self/stat").exists():
            raise ControlPlaneError("the control plane runs on Linux only: its processes are known by /proc")
        self._files = Layout(directory.absolute())
        self._display = display or Display(sys.stderr)
        self._log_starts: dict[str, int] = {}

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of the user `admin`, who may do everything; context `occopus-dev`."""
        return self._files.kubeconfig

    @property
    def kubectl(self) -> Path:
        """A kubectl of the API server's version."""
        return self._files.kubectl

    @property
    def audit_log(self) -> Path:
        """A JSON event a line for each request that the API server answered; the second one keeps `audit-second.log` beside it."""
        return self._files.audit_log(API_SERVER)

    @property
    def certificate(self) -> Path:
        """The PEM file that the API servers' certificate is checked by."""
        return self._files.certificate

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self._ports().api_server}"

    @property
    def token(self) -> str:
        """The token of the user `admin`."""
        return self.tokens[texts.ADMIN]

    @property
    def tokens(self) -> dict[str, str]:
        """Tokens by user: `admin`, and `operator` and `nobody`, who have the rights that somebody grants them."""
        return texts.tokens_of(self._read(self._files.tokens))

    def identity(self, name: str) -> processes.Identity | None:
        """The process of a component (see components.py), None if it does not run."""
        return processes.recorded(self._files.pid_file(name))

    def write_kubeconfig(self, path: Path, user: str = texts.ADMIN, url: str | None = None) -> None:
        """A kubeconfig (0600) for another user or another address, e.g. that of the second API server."""
        _write(path, texts.kubeconfig(url or self.url, self._read(self._files.certificate), user, self.tokens[user]))

    def start(self) -> Sequence[str]:
        """Start what does not run, wait until all is ready, write the kubeconfig; the names of what was started.

        Builds the programs if need be. Ports and data stay those of the last time; of a control plane that is all down a
        port which another program has taken meanwhile is replaced. Raises ControlPlaneError; then nothing that it started is left.
        """
        programs = binaries.ensure(self._display)
        with self._locked():
            absent = [name for name in MAIN if self.identity(name) is None]
            all_down = len(absent) == len(MAIN) and self.identity(SECOND_API_SERVER) is None
            self._prepare(all_down)
            with self._all_or_nothing(absent):
                # The API server waits for etcd by itself; the controller manager gives up where no API server answers.
                self._launch([name for name in absent if name != CONTROLLER_MANAGER], programs)
                self._await_ready(ETCD, API_SERVER)
                self._publish(programs)
                self._launch([name for name in absent if name == CONTROLLER_MANAGER], programs)
                self._await_ready(CONTROLLER_MANAGER)
        return absent

    def stop(self, purge: bool = False) -> Sequence[str]:
        """End what runs, the last started first; the names of what was ended. `purge` removes data, logs and kubeconfig too."""
        if not self._files.home.is_dir():
            return []
        with self._locked():
            ended = [name for name in (SECOND_API_SERVER, *reversed(MAIN)) if self._end(name, signal.SIGTERM)]
            if purge:
                self._files.kubeconfig.unlink(missing_ok=True)
                shutil.rmtree(self._files.home)
        return ended

    def status(self) -> Sequence[Status]:
        """The main components, and the second API server if it runs."""
        if not self._files.ports.exists():
            return [Status(name, None, 0, "was never started") for name in MAIN]
        running = {name: self.identity(name) for name in (*MAIN, SECOND_API_SERVER)}
        return [
            Status(name, identity and identity.pid, self._port(name), self._why_not(name) if identity else "does not run")
            for name, identity in running.items()
            if identity or name in MAIN
        ]

    def start_api_server(self) -> None:
        """Start the API server again, on its port, and wait until it is ready."""
        self._start_one(API_SERVER)

    def stop_api_server(self, kill: bool = False) -> None:
        """End the API server alone, by SIGTERM or at once by SIGKILL."""
        self._stop_one(API_SERVER, kill)

    def start_second_api_server(self) -> str:
        """Start another API server over the same etcd, with the same users and certificate; its URL."""
        self._start_one(SECOND_API_SERVER)
        return f"https://{HOST}:{self._port(SECOND_API_SERVER)}"

    def stop_second_api_server(self, kill: bool = False) -> None:
        """End the second API server."""
        self._stop_one(SECOND_API_SERVER, kill)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop(purge=True)

    def _start_one(self, name: str) -> None:
        programs = binaries.ensure(self._display)
        with self._locked():
            absent = [name] if self.identity(name) is None else []
            with self._all_or_nothing(absent):
                self._launch(absent, programs)
                self._await_ready(name)

    def _stop_one(self, name: str, kill: bool) -> None:
        with self._locked():
            self._end(name, signal.SIGKILL if kill else signal.SIGTERM)

    @contextmanager
    def _locked(self) -> Generator[None]:
        """One command at a time: a second `start` waits and finds it started."""
        for directory in (self._files.directory, self._files.home):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._files.home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _all_or_nothing(self, names: Sequence[str]) -> Generator[None]:
        """End these components if what follows fails or is interrupted."""
        try:
            yield
        except BaseException:
            for name in reversed(names):
                self._end(name, signal.SIGTERM)
            raise

    def _prepare(self, all_down: bool) -> None:
        """Write the files that the programs read; keep tokens, key and ports that are there."""
        files = self._files
        tokens = texts.new_tokens()
        if files.tokens.exists():
            tokens |= self.tokens
        _write(files.tokens, texts.token_file(tokens))
        _write(files.audit_policy, texts.AUDIT_POLICY)
        if not files.service_account_key.exists():
            _write(files.service_account_key, texts.service_account_key())
        if not files.ports.exists():
            _write(files.ports, json.dumps(dataclasses.asdict(ports.choose())))
        elif all_down:
            _write(files.ports, json.dumps(dataclasses.asdict(ports.replace_taken(self._ports()))))

    def _publish(self, programs: Path) -> None:
        """Write what clients need, once the API server has signed its certificate."""
        files = self._files
        self.write_kubeconfig(files.controller_manager_kubeconfig, texts.CONTROLLER_MANAGER)
        self.write_kubeconfig(files.kubeconfig)
        files.kubectl.parent.mkdir(exist_ok=True)
        partial = files.kubectl.with_name(".kubectl.partial")
        partial.unlink(missing_ok=True)
        partial.symlink_to(programs / "kubectl")
        partial.rename(files.kubectl)

    def _launch(self, names: Sequence[str], programs: Path) -> None:
        for name in names:
            component, log = COMPONENTS[name], self._files.log(name)
            for field in component.ports:
                number = getattr(self._ports(), field)
                if not ports.free(number):
                    raise ControlPlaneError(
                        f"port {number} of {name} is taken by another program: end that one, or `stop` this control plane and "
                        "`start` it, which chooses another port"
                    )
            self._log_starts[name] = log.stat().st_size if log.exists() else 0
            try:
                identity = processes.spawn([str(programs / component.binary), *component.options(self._files, self._ports())], log)
            except OSError as error:
                raise ControlPlaneError(f"{name} could not be started: {error}\n{self._tail(name)}") from error
            processes.record(self._files.pid_file(name), identity)

    def _await_ready(self, *names: str) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        for name in names:
            identity = self.identity(name)
            while (why := self._why_not(name)) is not None:
                if identity is None or processes.wait(identity, _POLL_SECONDS):
                    raise ControlPlaneError(f"{name} ended while it started; {self._tail(name)}")
                if time.monotonic() > deadline:
                    raise ControlPlaneError(f"{name} was not ready within {_READY_SECONDS:.0f} s ({why}); {self._tail(name)}")

    def _why_not(self, name: str) -> str | None:
        files, port = self._files, self._port(name)
        if name == ETCD:
            return probe.why_not(probe.Question(port, ("/health",)))
        if name == CONTROLLER_MANAGER:
            return probe.why_not(probe.Question(port, ("/healthz",), files.controller_manager_certificate))
        # The namespace comes a moment after /readyz, and whoever starts this goes on to use it.
        return probe.why_not(probe.Question(port, ("/readyz", "/api/v1/namespaces/default"), files.certificate, self.token))

    def _end(self, name: str, number: signal.Signals) -> bool:
        """End a component; False if it did not run."""
        identity = self.identity(name)
        if identity is not None:
            processes.end(identity, number, _GRACE_SECONDS)
        self._files.pid_file(name).unlink(missing_ok=True)
        return identity is not None

    def _port(self, name: str) -> int:
        return getattr(self._ports(), COMPONENTS[name].ports[0])

    def _ports(self) -> Ports:
        try:
            return Ports(**json.loads(self._read(self._files.ports)))
        except (TypeError, ValueError) as error:
            raise ControlPlaneError(f"{self._files.ports} cannot be read ({error}): `stop --purge`, then `start`") from error

    def _read(self, path: Path) -> str:
        try:
            return path.read_text()
        except FileNotFoundError as error:
            raise ControlPlaneError(f"no control plane was started in {self._files.directory}") from error

    def _tail(self, name: str) -> str:
        """The last of what the component has logged since it was started, and where."""
        path = self._files.log(name)
        logged = ""
        if path.exists():
            with path.open("rb") as log:
                log.seek(max(self._log_starts.get(name, 0), log.seek(0, os.SEEK_END) - _TAIL_BYTES))
                logged = log.read().decode(errors="replace").strip()
        return f"the end of {path}:\n{logged or '(nothing)'}"


def _write(path: Path, text: str) -> None:
    """Write a file that only this user may read, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    partial.rename(path)
