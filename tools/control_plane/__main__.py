"""The command `python -m tools.control_plane`: build, start, stop, status. It parses and prints; ControlPlane does the work."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tools.control_plane import binaries
from tools.control_plane.display import Display
from tools.control_plane.errors import ControlPlaneError
from tools.control_plane.plane import ControlPlane


def _build(arguments: argparse.Namespace, display: Display) -> int:
    ready = not binaries.missing(binaries.directory(binaries.cache_directory()))
    directory = binaries.ensure(display)
    if ready:
        print(f"The control plane is built already: {directory}")
    return 0


def _start(arguments: argparse.Namespace, display: Display) -> int:
    plane = ControlPlane(arguments.dir, display)
    binaries.ensure(display)
    began = time.monotonic()
    started = plane.start()
    if started:
        print(f"Started {', '.join(started)} in {time.monotonic() - began:.1f} s: {plane.url}")
    else:
        print(f"The control plane runs already: {plane.url}")
    print(f"Use it with: {_shown(plane.kubectl)} --kubeconfig {_shown(plane.kubeconfig)} …")
    return 0


def _stop(arguments: argparse.Namespace, display: Display) -> int:
    ended = ControlPlane(arguments.dir, display).stop(arguments.purge)
    print(f"Ended {', '.join(ended)}." if ended else "No control plane is running.")
    return 0


def _status(arguments: argparse.Namespace, display: Display) -> int:
    rows = ControlPlane(arguments.dir, display).status()
    for row in rows:
        where = f"pid {row.pid}, port {row.port}, " if row.pid else ""
        print(f"{row.name:<24} {where}{row.why_not or 'ready'}")
    return 3 if any(row.why_not for row in rows) else 0


def _shown(path: Path) -> Path:
    """As the user would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


_COMMANDS: Mapping[str, tuple[Callable[[argparse.Namespace, Display], int], str]] = {
    "build": (_build, "build etcd, kube-apiserver, kube-controller-manager and kubectl; nothing where they are there"),
    "start": (_start, "build what is missing, start what does not run, write DIR/kubeconfig"),
    "stop": (_stop, "end what runs; the data stays"),
    "status": (_status, "say what runs; exit status 3 unless all is ready"),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.control_plane", description="A Kubernetes control plane on loopback, for development."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, help) in _COMMANDS.items():
        command = commands.add_parser(name, help=help, description=help)
        if name != "build":
            command.add_argument("--dir", type=Path, default=Path(".dev"), help="where its files are (default: .dev)")
        if name == "stop":
            command.add_argument("--purge", action="store_true", help="remove data, logs and kubeconfig too")
    return parser


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    """What is under way is ended or left as it is for the next time, as after Ctrl-C."""
    sys.exit(128 + number)


def main() -> int:
    """Run the command; its exit status: 0, 1 with a message if it failed, 130 if it was interrupted."""
    signal.signal(signal.SIGTERM, _terminated)
    arguments = _parser().parse_args()
    display = Display(sys.stderr)
    try:
        return _COMMANDS[arguments.command][0](arguments, display)
    except (ControlPlaneError, OSError) as error:
        display.line(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        display.line("interrupted")
        return 130
    finally:
        display.close()


if __name__ == "__main__":
    sys.exit(main())
