"""`make up` and `make down`: a control plane, the CRDs and the operator for development, kept running and ended again.

`python -m tools.development up|down|supervise --dir .dev`. Everything it starts is recorded in the directory and known again by
more than its pid. With `--cluster KUBECONFIG` it uses a cluster of the user's and builds nothing; an inherited KUBECONFIG is never
read: it may be production's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.control_plane import ControlPlane, ControlPlaneError, ports, processes

#: What the operator may take to be ready: its first lists, and the first look at each cloud.
_READY_SECONDS = 60.0
#: An operator ends within 10 s of SIGTERM; its supervisor waits for that.
_GRACE_SECONDS = 15.0
_POLL_SECONDS = 0.1
#: Deleting waits for the machines, in order.
_DELETE_SECONDS = 300
#: Pauses before an operator that has exited is started again; the last is repeated.
_RESTART_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
#: One that ran for so long before begins with the first pause again.
_RAN_WELL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Up:
    """What `up` has started: written to `<dir>/up.json`."""

    kubeconfig: str
    kubectl: str
    port: int
    own: bool  # the control plane is ours, and so is all that is in it


class Development:
    """One directory's operator and what it stands on."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self._supervisor = self.directory / "supervisor.pid"
        self._record = self.directory / "up.json"

    def up(self, cluster: Path | None) -> None:
        """Start what does not run. Raises ControlPlaneError with the way out."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        running = self._running()
        wanted = str(cluster.absolute()) if cluster is not None else str(ControlPlane(self.directory).kubeconfig)
        if running is not None and running.kubeconfig != wanted:
            raise ControlPlaneError(f"the operator runs here with {running.kubeconfig}; `make down` ends it first")
        kubectl = self._cluster(cluster)
        self._kubectl(kubectl, wanted, "apply", "-f", "crds/")
        self._kubectl(kubectl, wanted, "wait", "--for=condition=Established", "--timeout=60s", "-f", "crds/")
        if running is None:
            running = Up(wanted, kubectl, ports.one(), own=cluster is None)
            self._record.write_text(json.dumps(asdict(running)))
            self._start(running)
        self._await_ready(running)
        print(f"\nThe operator runs (log: {self._shown('controller.log')}). Use it with:")
        print(f"  export KUBECONFIG={wanted} PATH={Path(kubectl).parent}:$PATH")
        print(f"  occopus --kubeconfig {wanted} status")

    def down(self, cluster: Path | None) -> None:
        """Delete the infrastructures, wait, end what runs. Raises ControlPlaneError where something is left."""
        running = self._running()
        if running is None and self._record.exists():
            running = self._revived()
        if running is not None:
            if not running.own and (cluster is None or str(cluster.absolute()) != running.kubeconfig):
                raise ControlPlaneError(
                    f"this deletes every infrastructure of the cluster of {running.kubeconfig}: say so by `make down CLUSTER=…`"
                )
            print("Deleting all infrastructures of the cluster, in order; waiting for their machines to end …", flush=True)
            self._kubectl(
                *(running.kubectl, running.kubeconfig, "delete", "infrastructures.occopus.io", "--all", "--all-namespaces"),
                f"--timeout={_DELETE_SECONDS}s",
            )
            supervisor = processes.recorded(self._supervisor)
            if supervisor is not None:
                processes.end(supervisor, signal.SIGTERM, _GRACE_SECONDS)
        ControlPlane(self.directory).stop(purge=True)

    def supervise(self) -> None:
        """Run the operator, and again when it exits, until SIGTERM."""
        running = self._running_record()
        child: subprocess.Popen[bytes] | None = None
        told = threading.Event()

        def stop(number: int, frame: object) -> None:
            told.set()
            if child is not None:
                child.terminate()

        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, stop)
        pauses = iter(_RESTART_SECONDS)
        while not told.is_set():
            began = time.monotonic()
            child = subprocess.Popen(self._operator(running))
            if told.is_set():
                child.terminate()
            code = child.wait()
            if told.is_set():
                return
            if time.monotonic() - began > _RAN_WELL_SECONDS:
                pauses = iter(_RESTART_SECONDS)
            pause = next(pauses, _RESTART_SECONDS[-1])
            print(f"The operator exited with {code}; it is started again in {pause:g} s", flush=True)
            told.wait(pause)

    # --- the parts
    def _cluster(self, cluster: Path | None) -> str:
        """Start the control plane where it is ours; the kubectl for it."""
        if cluster is None:
            plane = ControlPlane(self.directory)
            plane.start()
            return str(plane.kubectl)
        if not cluster.is_file():
            raise ControlPlaneError(f"there is no kubeconfig {cluster}")
        found = shutil.which("kubectl")
        if found is None:
            raise ControlPlaneError("kubectl is needed to use a cluster of yours, and there is none on PATH")
        return found

    def _operator(self, running: Up) -> list[str]:
        port = str(running.port)
        return [
            *(sys.executable, "-m", "controller", "--kubeconfig", running.kubeconfig, "--own-namespace", "default"),
            *("--health-port", port, "--metrics-port", port, "--local-clouds", "--state-directory", str(self.directory)),
            *("--pid-file", str(self.directory / "controller.pid")),
        ]

    def _start(self, running: Up) -> None:
        command = (sys.executable, "-m", "tools.development", "supervise", "--dir", str(self.directory))
        with (self.directory / "controller.log").open("ab") as log:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        identity = processes.identify(child.pid)
        if identity is None:
            raise ControlPlaneError("the operator's supervisor ended at once")
        processes.record(self._supervisor, identity)

    def _await_ready(self, running: Up) -> None:
        deadline, why = time.monotonic() + _READY_SECONDS, "no answer"
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/readyz", timeout=2):
                    return
            except urllib.error.HTTPError as error:
                why = error.read().decode(errors="replace").strip()
            except OSError as error:
                why = str(error)
            supervisor = processes.recorded(self._supervisor)
            if supervisor is None or processes.wait(supervisor, _POLL_SECONDS):
                break
        tail = (self.directory / "controller.log").read_text(errors="replace")[-2000:]
        raise ControlPlaneError(f"the operator is not ready: {why}\n{tail}")

    def _revived(self) -> Up:
        """The operator of an `up` whose processes are gone (a reboot): its machines may live, and nobody else can end them."""
        record = self._running_record()
        if record.own:
            ControlPlane(self.directory).start()
        self._start(record)
        self._await_ready(record)
        return record

    def _running(self) -> Up | None:
        return self._running_record() if processes.recorded(self._supervisor) is not None else None

    def _running_record(self) -> Up:
        return Up(**json.loads(self._record.read_text()))

    def _kubectl(self, kubectl: str, kubeconfig: str, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
        done = subprocess.run(
            [kubectl, "--kubeconfig", kubeconfig, *arguments], env=environment, check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise ControlPlaneError(f"kubectl {' '.join(arguments)} failed: {done.stderr.strip() or done.stdout.strip()}")

    def _shown(self, name: str) -> Path:
        path = self.directory / name
        return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def main() -> int:
    """Exit status 0, or 1 with a message."""
    parser = argparse.ArgumentParser(prog="python -m tools.development", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "supervise"])
    parser.add_argument("--dir", type=Path, default=Path(".dev"))
    parser.add_argument("--cluster", type=Path, help="kubeconfig of a cluster of yours")
    chosen = parser.parse_args()
    development = Development(chosen.dir)
    try:
        match chosen.command:
            case "up":
                development.up(chosen.cluster)
            case "down":
                development.down(chosen.cluster)
            case _:
                development.supervise()
    except (ControlPlaneError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
