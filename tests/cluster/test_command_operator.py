"""The whole way as a user goes it: the real operator with local clouds, `kubectl apply`, and the command over what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from controller.api import crd
from controller.cli import main
from controller.clouds import plugins
from controller.stores import access
from tests.cluster.fixtures import Cluster
from tests.e2e.descriptions import CHAIN
from tests.e2e.desk import COMMAND, UP_SECONDS
from tools.control_plane import ControlPlane

#: An operator ends within 10 s of SIGTERM; a busy machine takes a multiple.
END_SECONDS = 60
#: What a restart of the API server may take.
AWAY_SECONDS = 120


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Generator[ControlPlane]:
    """With the CRDs of the drivers installed, which a real operator insists on."""
    with ControlPlane(tmp_path_factory.mktemp("plane")) as plane:
        asyncio.run(_served(Cluster(plane, access.from_kubeconfig(plane.kubeconfig))))
        yield plane


async def _served(cluster: Cluster) -> None:
    async with access.session(cluster.access) as session:
        await asyncio.gather(*(cluster.apply(session, document) for document in crd.crds(plugins.installed()).values()))


@contextlib.contextmanager
def operator(plane: ControlPlane, directory: Path) -> Generator[None]:
    flags = ("--kubeconfig", str(plane.kubeconfig), "--local-clouds", "--state-directory", str(directory), "--health-port", "0")
    with (directory / "log").open("w") as log:
        command = (sys.executable, "-m", "controller", *flags, "--metrics-port", "0")
        running = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PATH": _path()})
    try:
        yield
    finally:
        running.send_signal(signal.SIGTERM)
        code = running.wait(END_SECONDS)
    assert code == 0, (directory / "log").read_text()


def _path() -> str:
    """Machines run `python3` from PATH: the one of these tests."""
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))


def occopus(plane: ControlPlane, *arguments: str) -> Result:
    return CliRunner().invoke(main.cli, ("--kubeconfig", str(plane.kubeconfig), *arguments))


def kubectl(plane: ControlPlane, *arguments: str, stdin: str = "") -> str:
    command = (str(plane.kubectl), "--kubeconfig", str(plane.kubeconfig), *arguments)
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True, timeout=UP_SECONDS).stdout


def test_a_chain_is_followed_looked_at_scaled_and_deleted(plane: ControlPlane, tmp_path: Path) -> None:
    timeout = ("--timeout", str(UP_SECONDS))
    with operator(plane, tmp_path):
        kubectl(plane, "apply", "-f", "-", stdin=CHAIN)
        followed = occopus(plane, "status", "--wait", *timeout)
        assert followed.exit_code == 0, followed.output
        assert followed.stdout.index("chain/db: Ready") < followed.stdout.index("chain/web: Ready")
        shown = occopus(plane, "status").stdout.splitlines()
        assert [line.split()[1] for line in shown if line[0] in "├└"] == ["db", "app", "web"]

        console = occopus(plane, "console", "chain-db-0", "--state-directory", str(tmp_path))
        assert (console.exit_code, console.stdout.splitlines()[0]) == (0, "up"), console.output
        unknown = occopus(plane, "console", "chain-db-0")
        assert (unknown.exit_code, "--state-directory DIR" in unknown.stderr) == (2, True), unknown.output
        elsewhere = occopus(plane, "console", "chain-db-0", "--state-directory", str(tmp_path / "elsewhere"))
        assert (elsewhere.exit_code, "on this computer" in elsewhere.stderr) == (2, True), elsewhere.output
        assert not (tmp_path / "elsewhere").exists()

        assert occopus(plane, "scale", "chain", "app", "3").stdout == "chain/app: 3 wanted\n"
        assert occopus(plane, "status", "--wait", *timeout).exit_code == 0
        assert "3/3" in occopus(plane, "status").stdout
        kubectl(plane, "delete", "infrastructure,instancetemplate,cloud", "--all", f"--timeout={UP_SECONDS}s")
        assert occopus(plane, "status").stdout.startswith("no infrastructure")


def test_who_waits_outlives_a_restart_of_the_api_server(plane: ControlPlane) -> None:
    kubectl(plane, "create", "namespace", "waiting")
    infrastructure = "{apiVersion: occopus.io/v1alpha1, kind: Infrastructure, metadata: {name: w}, spec: {services: [%s]}}"
    kubectl(plane, "-n", "waiting", "apply", "-f", "-", stdin=infrastructure % "{name: a, templateRef: {name: t}}")

    where = ("--kubeconfig", str(plane.kubeconfig), "-n", "waiting")
    command = (sys.executable, *COMMAND, *where, "status", "--wait", "--timeout", str(AWAY_SECONDS))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert "w/a: Pending" in waiting.stdout.readline()
        plane.stop_api_server()
        plane.start_api_server()
        kubectl(plane, "-n", "waiting", "delete", "infrastructure", "w")
        out, said = waiting.communicate()
    assert waiting.returncode == 1
    assert said.count("trying again") >= 1
    assert "error: w was deleted while it was waited for" in said
    assert "w/a: gone" in out
