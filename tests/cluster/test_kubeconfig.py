"""How the command gets at an API server: users, login programs, other names, proxies; and what it says where it does not."""

from __future__ import annotations

import json
import socket
import stat
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from controller.cli import main
from controller.ports import Obj
from tests.cluster.command import Command, command
from tests.cluster.fixtures import Cluster

#: An answer of a login program (client.authentication.k8s.io/v1).
CREDENTIAL = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}


@pytest.fixture
def here(cluster: Cluster, tmp_path: Path) -> Command:
    return command(cluster, tmp_path)


def changed(here: Command, change: Callable[[Obj, Obj, Obj], None]) -> Path:
    """The admin's kubeconfig with another user, cluster or whole."""
    config = yaml.safe_load(here.cluster.plane.kubeconfig.read_text())
    change(config["users"][0]["user"], config["clusters"][0]["cluster"], config)
    path = here.directory / "changed.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def program(here: Command, text: str) -> Path:
    path = here.directory / "login"
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def by_program(here: Command, path: str) -> Path:
    def change(user: Obj, cluster: Obj, config: Obj) -> None:
        user.clear()
        user["exec"] = {"apiVersion": CREDENTIAL["apiVersion"], "command": path, "interactiveMode": "Never"}

    return changed(here, change)


def test_a_login_program_says_who_we_are(here: Command) -> None:
    answer = {**CREDENTIAL, "status": {"token": here.cluster.plane.token}}
    path = program(here, f"print({json.dumps(answer)!r})\n")
    assert here.done("get", "cloud", kubeconfig=by_program(here, str(path))).startswith("kind: List")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        pytest.param("import sys; sys.exit('who are you?')\n", "who are you?", id="that-fails"),
        pytest.param("print('hello')\n", "decode", id="that-talks"),
        pytest.param(f"print({json.dumps({**CREDENTIAL, 'status': {}})!r})\n", "token", id="that-knows-nobody"),
        pytest.param(None, "no-such-program", id="that-is-not-there"),
    ],
)
def test_a_login_program(text: str | None, word: str, here: Command) -> None:
    path = str(program(here, text)) if text is not None else "no-such-program"
    said = here.refused(2, "status", kubeconfig=by_program(here, path))
    assert "login program" in said
    assert word in said
    assert len(said.splitlines()) == 1


def test_who_acts_as_another_has_the_rights_of_that_one(here: Command) -> None:
    def change(user: Obj, cluster: Obj, config: Obj) -> None:
        user |= {"as": "somebody", "as-groups": ["some", "others"]}

    assert 'User "somebody"' in here.refused(3, "status", kubeconfig=changed(here, change))

    def lift(user: Obj, cluster: Obj, config: Obj) -> None:
        user |= {"as": "somebody", "as-groups": ["some", "system:masters"]}

    assert here.done("status", kubeconfig=changed(here, lift))


def test_a_server_may_have_another_name_than_its_address(here: Command) -> None:
    def name(server_name: str) -> Callable[[Obj, Obj, Obj], None]:
        def change(user: Obj, cluster: Obj, config: Obj) -> None:
            cluster["tls-server-name"] = server_name

        return change

    assert here.done("status", kubeconfig=changed(here, name("kubernetes.default.svc")))
    assert "no connection" in here.refused(3, "status", kubeconfig=changed(here, name("example.org")))


def test_a_token_that_nobody_has(here: Command) -> None:
    def change(user: Obj, cluster: Obj, config: Obj) -> None:
        user["token"] = "nobody's"

    assert "credentials" in here.refused(3, "status", kubeconfig=changed(here, change))


def test_nobody_listens(here: Command) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]

    def change(user: Obj, cluster: Obj, config: Obj) -> None:
        cluster["server"] = f"https://127.0.0.1:{port}"

    said = here.refused(3, "status", kubeconfig=changed(here, change))
    assert f"127.0.0.1:{port}" in said
    assert len(said.splitlines()) == 1


def test_crds_that_are_not_applied_are_named_with_the_command_for_it(here: Command) -> None:
    def change(user: Obj, cluster: Obj, config: Obj) -> None:
        cluster["server"] += "/no-such-place"

    kubeconfig = changed(here, change)
    said = here.refused(3, "status", kubeconfig=kubeconfig)
    assert f"`kubectl --kubeconfig {kubeconfig} -n {here.namespace} apply -f crds/`" in said


@contextmanager
def proxy() -> Generator[tuple[str, list[str]]]:
    """A proxy that knows CONNECT alone; its URL, and whereto it connected."""
    asked: list[str] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        threading.Thread(target=_serve, args=(server, asked), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked


def _serve(server: socket.socket, asked: list[str]) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        head = client.recv(65536).decode()
        place = head.split()[1]
        asked.append(place)
        host, port = place.rsplit(":", 1)
        other = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        for one, two in ((client, other), (other, client)):
            threading.Thread(target=_pump, args=(one, two), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass  # one side has hung up
    finally:
        sink.close()


def test_the_proxy_of_the_kubeconfig_is_used_and_one_of_the_environment_not_for_this_computer(
    here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy() as (url, asked):

        def change(user: Obj, cluster: Obj, config: Obj) -> None:
            cluster["proxy-url"] = url

        assert here.done("status", kubeconfig=changed(here, change))
        assert set(asked) == {here.cluster.access.server.removeprefix("https://")}
        asked.clear()
        monkeypatch.setenv("HTTPS_PROXY", url)
        assert here.done("status")
        assert asked == []


def test_the_inherited_kubeconfig_is_never_read(here: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    place = here.directory / ".kube"
    place.mkdir()
    (place / "config").write_text(here.cluster.plane.kubeconfig.read_text())
    monkeypatch.setenv("HOME", str(here.directory))
    monkeypatch.setenv("KUBECONFIG", str(here.directory / "production"))
    (here.directory / "production").write_text("{}")
    result = CliRunner().invoke(main.cli, ["--context", "occopus-dev", "-n", here.namespace, "status"])
    assert result.exit_code == 0, result.output
    assert f"`kubectl --kubeconfig {place / 'config'} --context occopus-dev" in result.stdout
