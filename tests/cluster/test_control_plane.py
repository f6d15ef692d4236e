"""A real control plane: what it is asked for by HTTPS, and what is left when its parts die. It takes some 30 s once it is built."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tools.control_plane import ControlPlane, ControlPlaneError, components, processes

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
#: What takes milliseconds on a quiet machine takes seconds on a busy one.
PATIENCE_SECONDS = 60.0
CONFIG_MAP = {"metadata": {"name": "kept"}, "data": {"word": "remembered"}}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("plane")) as plane:
        yield plane


@pytest.fixture
def running(plane: ControlPlane) -> ControlPlane:
    """All of it runs, whatever the test before has done."""
    plane.start()
    return plane


def ask(
    plane: ControlPlane, method: str, path: str, body: object = None, user: str = "admin", url: str = ""
) -> tuple[int, Mapping[str, Any]]:
    """Status and body of one request; the server's certificate is checked as Python 3.13 does, strictly."""
    context = ssl.create_default_context(cafile=str(plane.certificate))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    connection = http.client.HTTPSConnection((url or plane.url).removeprefix("https://"), context=context, timeout=30)
    headers = {"Authorization": f"Bearer {plane.tokens[user]}", "Content-Type": "application/json"}
    try:
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def keep(plane: ControlPlane) -> None:
    """Make the ConfigMap anew."""
    ask(plane, "DELETE", f"{CONFIG_MAPS}/kept")
    assert ask(plane, "POST", CONFIG_MAPS, CONFIG_MAP)[0] == 201


def kept(plane: ControlPlane, url: str = "") -> object:
    return ask(plane, "GET", f"{CONFIG_MAPS}/kept", url=url)[1].get("data")


def kubectl(plane: ControlPlane, kubeconfig: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([plane.kubectl, "--kubeconfig", kubeconfig, *arguments], capture_output=True, text=True, timeout=60)


def pids(plane: ControlPlane) -> dict[str, int]:
    return {row.name: row.pid for row in plane.status() if row.pid}


def test_what_was_written_outlives_the_api_server(running: ControlPlane) -> None:
    keep(running)
    url = running.url
    running.stop_api_server(kill=True)
    with pytest.raises(ConnectionRefusedError):
        kept(running)
    running.start_api_server()
    assert running.url == url
    assert kept(running) == CONFIG_MAP["data"]


def test_what_was_written_outlives_a_kill_of_etcd(running: ControlPlane) -> None:
    keep(running)
    before = pids(running)
    os.kill(before[components.ETCD], signal.SIGKILL)
    etcd = running.identity(components.ETCD)
    assert etcd is None or processes.wait(etcd, 10)
    assert list(running.start()) == [components.ETCD]
    after = pids(running)
    assert after[components.API_SERVER] == before[components.API_SERVER]
    assert kept(running) == CONFIG_MAP["data"]


def test_what_was_written_outlives_a_stop(running: ControlPlane) -> None:
    keep(running)
    before, tokens = pids(running), running.tokens
    assert list(running.stop()) == [components.CONTROLLER_MANAGER, components.API_SERVER, components.ETCD]
    assert pids(running) == {}
    assert not any(processes.identify(pid) for pid in before.values())
    assert running.stop() == []
    running.start()
    assert running.tokens == tokens
    assert kept(running) == CONFIG_MAP["data"]


def test_a_start_of_what_runs_changes_nothing(running: ControlPlane) -> None:
    before = pids(running), running.kubeconfig.read_text()
    assert running.start() == []
    assert (pids(running), running.kubeconfig.read_text()) == before
    assert [row.why_not for row in running.status()] == [None] * 3


def test_a_second_api_server_shows_the_same_objects(running: ControlPlane) -> None:
    keep(running)
    url = running.start_second_api_server()
    try:
        assert url != running.url
        assert kept(running, url) == CONFIG_MAP["data"]
        assert components.SECOND_API_SERVER in pids(running)
    finally:
        running.stop_second_api_server()
    assert components.SECOND_API_SERVER not in pids(running)


def test_users_have_the_rights_that_were_granted(running: ControlPlane, tmp_path: Path) -> None:
    for user in ("operator", "nobody"):
        assert ask(running, "GET", CONFIG_MAPS, user=user)[0] == 403
    granted = kubectl(running, running.kubeconfig, "create", "rolebinding", "reader", "--clusterrole=view", "--user=operator")
    assert granted.returncode == 0, granted.stderr
    running.write_kubeconfig(tmp_path / "operator", "operator")
    assert (tmp_path / "operator").stat().st_mode & 0o777 == 0o600
    # The API server hears of a RoleBinding, and of what `view` allows, by watches of its own.
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (got := kubectl(running, tmp_path / "operator", "get", "configmaps")).returncode != 0:
        assert "forbidden" in got.stderr, got.stderr
        assert time.monotonic() < deadline, got.stderr
    assert "forbidden" in kubectl(running, tmp_path / "operator", "get", "secrets").stderr
    assert ask(running, "GET", CONFIG_MAPS, user="nobody")[0] == 403


def test_the_versions_are_the_true_ones(running: ControlPlane) -> None:
    versions = json.loads(kubectl(running, running.kubeconfig, "version", "-o", "json").stdout)
    assert versions["serverVersion"]["gitVersion"] == versions["clientVersion"]["gitVersion"]
    assert versions["serverVersion"]["gitVersion"].startswith("v1.")
    assert (versions["serverVersion"]["major"], versions["serverVersion"]["minor"]) == tuple(
        versions["serverVersion"]["gitVersion"].removeprefix("v").split(".")[:2]
    )


def test_the_audit_log_counts_each_request_once(running: ControlPlane) -> None:
    begin = running.audit_log.stat().st_size
    keep(running)
    kept(running)
    with running.audit_log.open() as log:
        log.seek(begin)
        events = [event for event in map(json.loads, log) if event["user"]["username"] == "admin" and CONFIG_MAPS in event["requestURI"]]
    assert [event["verb"] for event in events] == ["delete", "create", "get"]
    assert {event["stage"] for event in events} == {"ResponseComplete"}


def test_the_garbage_collector_and_the_namespace_controller_work(running: ControlPlane) -> None:
    made = [
        kubectl(running, running.kubeconfig, "create", "namespace", "going"),
        kubectl(running, running.kubeconfig, "--namespace=going", "create", "configmap", "owner"),
    ]
    assert [each.returncode for each in made] == [0, 0], made
    uid = ask(running, "GET", "/api/v1/namespaces/going/configmaps/owner")[1]["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    owned = {"metadata": {"name": "owned", "ownerReferences": [owner]}}
    assert ask(running, "POST", "/api/v1/namespaces/going/configmaps", owned)[0] == 201
    # `kubectl delete` waits; with a foreground cascade until the owned object is gone, which the garbage collector deletes.
    first = kubectl(
        running, running.kubeconfig, "--namespace=going", "delete", "configmap", "owner", "--cascade=foreground", "--timeout=50s"
    )
    assert first.returncode == 0, first.stderr
    assert ask(running, "GET", "/api/v1/namespaces/going/configmaps/owned")[0] == 404
    second = kubectl(running, running.kubeconfig, "delete", "namespace", "going", "--timeout=50s")
    assert second.returncode == 0, second.stderr


def test_a_port_that_was_taken_meanwhile_is_replaced_or_named(running: ControlPlane) -> None:
    keep(running)
    port = int(running.url.rpartition(":")[2])
    running.stop_api_server()
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(ControlPlaneError, match=f"port {port} of kube-apiserver is taken"):
            running.start()
        assert components.ETCD in pids(running)
        running.stop()
        running.start()
        assert running.url != f"https://127.0.0.1:{port}"
        assert kept(running) == CONFIG_MAP["data"]
        assert kubectl(running, running.kubeconfig, "get", "configmap", "kept").returncode == 0


def test_a_component_that_dies_at_start_is_shown_and_nothing_is_left(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path)
    home = components.Layout(tmp_path).home
    home.mkdir()
    components.Layout(tmp_path).data.write_text("not a directory")
    with pytest.raises(ControlPlaneError, match=r"etcd ended while it started(.|\n)*etcd\.log(.|\n)*not a directory"):
        plane.start()
    assert pids(plane) == {}
    assert list(home.glob("*.pid")) == []
