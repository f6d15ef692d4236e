"""Which options name what, and what is said of commands that are for state files alone. No server and no file is asked."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from controller import desktop
from controller.cli import main

WHERE = ("--kubeconfig", "my config", "--context", "prod", "-n", "shop")
KUBECTL = "kubectl --kubeconfig 'my config' --context prod -n shop"
TWO: dict[str, object] = {
    "current-context": "gone",
    "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u"}}, {"name": "test", "context": {}}],
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
}


def said(*arguments: str, code: int = 2, environment: dict[str, str | None] | None = None) -> str:
    result = CliRunner(env=environment).invoke(main.cli, arguments)
    assert result.exit_code == code, result.output
    return result.stderr


@pytest.mark.parametrize(
    ("arguments", "commands"),
    [
        pytest.param(("up", "-f", "a b.yaml", "-f", "-"), ("apply -f 'a b.yaml' -f -",), id="up"),
        pytest.param(("run",), ("get leases -A --field-selector metadata.name=occopus-controller",), id="run"),
        pytest.param(("delete", "web"), ("delete infrastructure web",), id="delete"),
        pytest.param(("delete", "--all"), ("delete infrastructure --all",), id="delete-all"),
        pytest.param(("delete", "-f", "a.yaml"), ("delete -f a.yaml",), id="delete-a-file"),
        pytest.param(("delete", "--instance", "web-a-0"), ("delete instance web-a-0",), id="delete-an-instance"),
        pytest.param(
            ("delete", "--instance", "web-a-0", "--scale-in"),
            ("annotate instance web-a-0 occopus.io/scale-in=true", "delete instance web-a-0"),
            id="scale-in",
        ),
    ],
)
def test_what_is_for_state_files_names_the_command_that_does_it(arguments: tuple[str, ...], commands: tuple[str, ...]) -> None:
    answer = said(*WHERE, *arguments)
    assert f"`{' && '.join(f'{KUBECTL} {each}' for each in commands)}`" in answer
    assert len(answer.splitlines()) == 1


def test_kubectl_is_told_the_kubeconfig_where_it_would_take_another() -> None:
    context = ("--context", "prod", "delete", "web")
    inherited: dict[str, str | None] = {"KUBECONFIG": "/production", "HOME": "/home/me"}
    assert "`kubectl --kubeconfig /home/me/.kube/config --context prod delete" in said(*context, environment=inherited)
    assert "`kubectl --context prod delete" in said(*context, environment={"KUBECONFIG": None})


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        pytest.param(("-n", "shop", "status"), "-n goes with", id="a-namespace-alone"),
        pytest.param(("--state", "a.db", *WHERE, "status"), "choose one", id="a-state-file-too"),
        pytest.param(("--moved", *WHERE, "status"), "choose one", id="moved"),
        pytest.param(("console", "x", "--state-directory", "y"), "--kubeconfig or --context", id="a-state-directory"),
    ],
)
def test_options_that_do_not_go_together(arguments: tuple[str, ...], word: str) -> None:
    assert word in said(*arguments)


def test_a_state_file_of_the_environment_gives_way_to_a_cluster(tmp_path: Path) -> None:
    environment: dict[str, str | None] = {"OCCOPUS_STATE": str(tmp_path / "state.db"), "HOME": str(tmp_path)}
    answer = said("--context", "prod", "status", environment=environment)
    assert str(tmp_path / ".kube" / "config") in answer
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "context", "words"),
    [
        pytest.param(yaml.safe_dump(TWO), "nope", ("no context nope", "there are prod, test"), id="unknown-context"),
        pytest.param(yaml.safe_dump(TWO), None, ("current-context is gone", "there are prod, test"), id="unknown-current-context"),
        pytest.param(yaml.safe_dump({**TWO, "current-context": ""}), None, ("is not set", "--context"), id="no-current-context"),
        pytest.param(yaml.safe_dump({**TWO, "clusters": []}), "prod", ("cluster",), id="unknown-cluster"),
        pytest.param(yaml.safe_dump(TWO), "test", ("cluster",), id="context-without-a-cluster"),
        pytest.param(yaml.safe_dump({"contexts": []}), "prod", ("there is none",), id="no-contexts"),
        pytest.param("a: [", None, ("cannot be read", "line 1"), id="no-yaml"),
        pytest.param("", None, ("has no contexts",), id="empty"),
        pytest.param("hello", None, ("has no contexts",), id="a-text"),
        pytest.param(None, None, ("No such file",), id="no-file"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used(text: str | None, context: str | None, words: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)
    answer = said("--kubeconfig", str(path), *(("--context", context) if context is not None else ()), "status")
    assert answer.startswith(f"error: kubeconfig {path}")
    assert len(answer.splitlines()) == 1
    for word in words:
        assert word in answer


@pytest.mark.parametrize(
    ("part", "changes", "word"),
    [
        pytest.param("clusters", {"cluster": {"server": "https://h", "certificate-authority": "nope.crt"}}, "nope.crt", id="no-authority"),
        pytest.param("clusters", {"cluster": {"server": "https://h", "certificate-authority-data": "eA=="}}, "prod", id="no-certificate"),
        pytest.param("clusters", {"cluster": {"server": "https://h", "proxy-url": "socks5://me:pw@p:1"}}, "SOCKS", id="socks"),
        pytest.param("users", {"user": {"token": "t", "as": "x", "as-user-extra": {"a": ["b"]}}}, "as-user-extra", id="extra"),
    ],
)
def test_what_a_kubeconfig_names_and_cannot_be_used(part: str, changes: dict[str, object], word: str, tmp_path: Path) -> None:
    name = {"clusters": "c", "users": "u"}[part]
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump({**TWO, part: [{"name": name, **changes}]}))
    answer = said("--kubeconfig", str(path), "--context", "prod", "status")
    assert word in answer
    assert "pw" not in answer
    assert len(answer.splitlines()) == 1


def test_what_is_for_a_cluster_is_not_loaded_for_a_state_file() -> None:
    """It would double the time that a command takes to begin."""
    modules = "commands, console, inspect, main, validate"
    code = f"import sys; from controller.cli import {modules}; print([each for each in ('kubernetes', 'kopf') if each in sys.modules])"
    assert subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("there", [pytest.param(False, id="no-state-file"), pytest.param(True, id="an-empty-one")])
def test_who_finds_nothing_is_told_where_was_looked_and_that_a_kubeconfig_is_not_read(there: bool, tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    if there:
        asyncio.run(_made(state))
    for kubeconfig in ("", "/production"):
        environment = {"OCCOPUS_STATE": str(state), "KUBECONFIG": kubeconfig}
        done = CliRunner().invoke(main.cli, ["status"], env=environment)
        assert str(state) in done.output
        assert ("KUBECONFIG is set, and never read: --kubeconfig FILE" in done.output) == bool(kubeconfig)
        assert "/production" not in done.output


async def _made(state: Path) -> None:
    async with desktop.run(desktop.Settings(state)):
        return
