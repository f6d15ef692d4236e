"""What the guardian makes of user data."""

from __future__ import annotations

import base64
import gzip
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.ports import MachineState
from tests.unit.clouds.machines import Cloud, until


def test_cloud_config_is_done_in_cloud_inits_order(cloud: Cloud) -> None:
    machine = cloud.launch("""\
        #cloud-config
        runcmd:
        - cat etc/motd >> order
        - [sh, -c, 'echo "$0 $1" >> order', "as a", list]
        write_files:
        - {path: /etc/motd, content: "written\\n"}
        bootcmd:
        - echo booted > order
        """)
    assert (cloud.root(machine.id) / "order").read_text() == "booted\nwritten\nas a list\n"


@pytest.mark.parametrize(
    ("entry", "content", "mode"),
    [
        pytest.param({"content": "plain"}, "plain", 0o644, id="plain"),
        pytest.param({"content": base64.b64encode(b"hidden").decode(), "encoding": "b64"}, "hidden", 0o644, id="base64"),
        pytest.param(
            {"content": base64.b64encode(gzip.compress(b"small")).decode(), "encoding": "gz+b64"}, "small", 0o644, id="gzip in base64"
        ),
        pytest.param({"content": "x", "permissions": "0600"}, "x", 0o600, id="permissions as text"),
        pytest.param({"content": "x", "permissions": 0o755}, "x", 0o755, id="permissions as number"),
        pytest.param({"content": 5}, "5", 0o644, id="a number"),
        pytest.param({}, "", 0o644, id="empty"),
    ],
)
def test_write_files(cloud: Cloud, entry: dict[str, object], content: str, mode: int) -> None:
    config = {"write_files": [{"path": "/srv/deep/file", **entry}]}
    machine = cloud.launch(b"#cloud-config\n" + json.dumps(config).encode())
    file = cloud.root(machine.id) / "srv/deep/file"
    assert file.read_text() == content
    assert file.stat().st_mode & 0o7777 == mode


def test_write_files_appends(cloud: Cloud) -> None:
    machine = cloud.launch("""\
        #cloud-config
        write_files:
        - {path: /log, content: "one "}
        - {path: /log, content: two, append: true}
        """)
    assert (cloud.root(machine.id) / "log").read_text() == "one two"


@pytest.mark.parametrize("path", [pytest.param("/../../escaped", id="dots"), pytest.param("/way-out/escaped", id="a link")])
def test_write_files_stays_below_the_root(cloud: Cloud, path: str) -> None:
    machine = cloud.launch(f"""\
        #cloud-config
        bootcmd: ["ln -s {cloud.directory} way-out"]
        write_files: [{{path: {path}, content: x}}]
        """)
    assert not list(cloud.directory.glob("escaped"))
    assert not list(cloud.place(machine.id).glob("escaped"))


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param("bootcmd: ['exit 3']", id="a command fails"),
        pytest.param("bootcmd: [[no-such-program]]", id="no such program"),
        pytest.param("bootcmd: [true]", id="not a command"),
        pytest.param("bootcmd: text", id="not a list"),
        pytest.param("write_files: [{content: x}]", id="no path"),
        pytest.param("write_files: [{path: /x, content: '%', encoding: rot13}]", id="unknown encoding"),
        pytest.param("write_files: [{path: /x, content: x, encoding: gz}]", id="not gzip"),
        pytest.param("write_files: [{path: /x, permissions: rwx}]", id="bad permissions"),
        pytest.param("write_files: [{path: /}]", id="the root itself"),
        pytest.param("packages: [nginx]", id="a key that is not done"),
    ],
)
def test_what_fails_is_logged_and_the_machine_goes_on(cloud: Cloud, broken: str) -> None:
    machine = cloud.launch(f"#cloud-config\n{broken}\nruncmd: ['touch reached']\n")
    assert (cloud.root(machine.id) / "reached").exists()
    assert f"[occopus] {broken.partition(':')[0]}" in cloud.driver.console(machine.id)
    assert cloud.state(machine.id) is MachineState.RUNNING


@pytest.mark.parametrize(
    "user_data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"hello", id="neither"),
        pytest.param(b"#cloud-config\n{", id="not YAML"),
        pytest.param(b"#cloud-config\n- 1", id="not a mapping"),
        pytest.param(b"\x1f\x8bnot gzip", id="not gzip"),
    ],
)
def test_a_machine_runs_whatever_its_user_data(cloud: Cloud, user_data: bytes) -> None:
    assert cloud.state(cloud.launch(user_data).id) is MachineState.RUNNING


@pytest.mark.parametrize("pack", [pytest.param(bytes, id="plain"), pytest.param(gzip.compress, id="gzip")])
def test_a_script_is_run(cloud: Cloud, pack: Callable[[bytes], bytes]) -> None:
    machine = cloud.launch(pack(b"#!/bin/sh\necho from a script\ntouch reached\n"))
    assert (cloud.root(machine.id) / "reached").exists()
    assert "from a script\n" in cloud.driver.console(machine.id)


def test_commands_see_their_machine_and_nothing_of_the_controller(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", "/opt/controller")
    machine = cloud.launch("#!/bin/sh\npwd\nenv\n")
    lines = cloud.driver.console(machine.id).splitlines()
    root = str(cloud.root(machine.id))
    assert lines[0] == root
    assert {f"OCCOPUS_ROOT={root}", f"OCCOPUS_ADDRESS={machine.private_addresses[0]}", f"OCCOPUS_MACHINE={machine.id}"} <= set(lines)
    assert not any("AWS_" in line or "PYTHONPATH" in line for line in lines)
    assert b"AWS_" not in Path(f"/proc/{cloud.record(machine.id)['pid']}/environ").read_bytes()


def test_a_guardian_inherits_no_descriptor(cloud: Cloud, tmp_path: Path) -> None:
    with (tmp_path / "locked by the controller").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        machine = cloud.launch()
        pid = cloud.record(machine.id)["pid"]
        held = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
    assert held == {"/dev/null", str(cloud.place(machine.id) / "console.log"), str(cloud.place(machine.id) / "guardian.lock")}
    assert os.getsid(pid) == pid


def test_the_address_serves(cloud: Cloud) -> None:
    machine = cloud.launch(f"""\
        #cloud-config
        runcmd: ['{sys.executable} -m http.server 8080 --bind "$OCCOPUS_ADDRESS" &']
        """)

    def answers() -> bool:
        with socket.socket() as client:
            return client.connect_ex((machine.private_addresses[0], 8080)) == 0

    until(answers)
    cloud.driver.delete([machine.id])
    assert not answers()


def test_the_console_is_a_tail(cloud: Cloud) -> None:
    machine = cloud.launch("#!/bin/sh\nhead -c 200000 /dev/zero | tr '\\0' x\necho the end\n")
    text = cloud.driver.console(machine.id)
    assert len(text) <= 64 * 1024
    assert "the end" in text
