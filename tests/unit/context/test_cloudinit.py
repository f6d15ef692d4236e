"""User data: what it may be, what its errors say and leave out, and how it is made small."""

from __future__ import annotations

import gzip
import random

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from controller import errors
from controller.context import cloudinit
from controller.ports import RenderRequest
from tests.unit.context.values import CANARY, VALUES, leaks, mistake


def _make(template: str, limit_bytes: int = 16384) -> bytes:
    return cloudinit.make(RenderRequest(template, "web", VALUES, limit_bytes))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        pytest.param("", "", id="empty"),
        pytest.param("{% set x = 1 %}\n \n", "", id="blank"),
        pytest.param("#cloud-config\na: {{ getip('db') }}\n", "#cloud-config\na: 10.0.0.5\n", id="cloud-config"),
        pytest.param("{% set x = 1 %}\n#cloud-config\na: {{ x }}\n", "#cloud-config\na: 1\n", id="blank-lines-before"),
        pytest.param("#Cloud-Config\na: 1", "#Cloud-Config\na: 1", id="other-case"),
        pytest.param("#cloud-config\n", "#cloud-config\n", id="cloud-config-empty"),
        pytest.param("#cloud-config-archive\n- a: 1\n", "#cloud-config-archive\n- a: 1\n", id="archive"),
        pytest.param("#cloud-config-jsonp\n[]", "#cloud-config-jsonp\n[]", id="jsonp"),
        pytest.param("\n#!/bin/sh\n: [\n", "#!/bin/sh\n: [\n", id="script"),
        pytest.param("#include\nhttp://x/", "#include\nhttp://x/", id="include"),
        pytest.param("#include-once\nhttp://x/", "#include-once\nhttp://x/", id="include-once"),
        pytest.param("#cloud-boothook\n", "#cloud-boothook\n", id="boothook"),
        pytest.param("#part-handler\n", "#part-handler\n", id="part-handler"),
        pytest.param("Content-Type: multipart/mixed\n", "Content-Type: multipart/mixed\n", id="mime"),
        pytest.param("MIME-Version: 1.0\n", "MIME-Version: 1.0\n", id="mime-version"),
    ],
)
def test_user_data(template: str, expected: str) -> None:
    assert _make(template) == expected.encode()


@pytest.mark.parametrize(
    "template",
    [
        pytest.param("packages: [nginx]\n", id="header-forgotten"),
        pytest.param("{{ variables.password }}\n", id="a-secret"),
        pytest.param("# cloud-config\na: 1\n", id="space-in-header"),
        pytest.param("## template: jinja\n#cloud-config\n", id="jinja-again"),
        pytest.param("#cloud-config\n- a\n", id="list"),
        pytest.param("#cloud-config\ntext\n", id="text"),
        pytest.param("#cloud-config-archive\na: 1\n", id="archive-mapping"),
        pytest.param("#!\n{{ '\\ud800' }}", id="surrogate"),
    ],
)
def test_not_user_data(template: str) -> None:
    with pytest.raises(errors.TemplateError) as caught:
        _make(template)
    assert not leaks(str(caught.value))


@pytest.mark.parametrize(
    ("template", "line", "column"),
    [
        pytest.param("a: b: {{ variables.password }}", 2, 5, id="two-colons"),
        pytest.param("a: 1\nb: *{{ variables.password }}", 3, 4, id="alias"),
        pytest.param("a: !{{ variables.password }} x", 2, 4, id="tag"),
        pytest.param("a: !it's{{ variables.password }} x", 2, 4, id="tag-with-quote"),
        pytest.param("a: '{{ variables.password }}", 2, 22, id="unclosed"),
        pytest.param('a: "\\{{ variables.password }}"', 2, 5, id="escape"),
        pytest.param("a: {{ variables.password }}\n\tb: 1", 3, 1, id="tab"),
        pytest.param("a: [{{ variables.password }}\nb: 1", 3, 2, id="unclosed-list"),
        pytest.param("a: {{ variables.password }}\n b: 1", 3, 3, id="indented"),
        pytest.param("? [a]\n: {{ variables.password }}", 2, 3, id="unhashable-key"),
        pytest.param("a: &x &{{ variables.password }} 1", 2, 7, id="two-anchors"),
        pytest.param("a: \x07{{ variables.password }}", 2, 4, id="control-character"),
        pytest.param("%{{ variables.password }}\n", 2, 19, id="directive"),
        pytest.param("a: 1\n---\nb: {{ variables.password }}", 3, 1, id="two-documents"),
        pytest.param("a: !!binary é{{ variables.password }}", 2, 4, id="binary"),
        pytest.param("a: !!int {{ variables.password }}", 0, 0, id="int"),
        pytest.param("a: !!float {{ variables.password }}", 0, 0, id="float"),
        pytest.param("a: !!bool {{ variables.password }}", 0, 0, id="bool"),
        pytest.param("a: !!timestamp {{ variables.password }}", 0, 0, id="timestamp"),
        pytest.param("a: !!int ''", 0, 0, id="empty-int"),
        pytest.param("a: 2001-99-99", 0, 0, id="date"),
    ],
)
def test_yaml_errors_tell_the_place_and_no_text(template: str, line: int, column: int) -> None:
    error = mistake(template, first_line="#cloud-config")
    assert (error.line, error.column) == (line, column)
    assert not leaks(str(error))
    assert error.__suppress_context__


_PARTS = st.sampled_from([CANARY, *"\n\t :-?,[]{}#&*!|>'\"%@`\\a1=<", "!!int ", "!!binary ", "!!set ", "<<: ", "\x00", "- ", "é", "---\n"])


@pytest.mark.parametrize("loader", [pytest.param(yaml.CSafeLoader, id="libyaml"), pytest.param(yaml.SafeLoader, id="python")])
def test_whatever_the_text_is_no_error_tells_it(loader: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloudinit, "_LOADER", loader)

    @given(st.lists(_PARTS, max_size=12))
    def check(parts: list[str]) -> None:
        assert not leaks(_outcome("".join(parts)))

    check()


def _outcome(text: str) -> str:
    try:
        cloudinit.user_data("#cloud-config\n{{ variables.text }}", "web", {"variables": {"text": text}}, 65536)
    except errors.TemplateError as error:
        return str(error)
    return ""


def _noise(size: int) -> str:
    return random.Random(7).randbytes(size // 2).hex()


def test_what_fits_is_left_alone() -> None:
    script = f"#!{_noise(1022)}"
    assert _make(script, len(script)) == script.encode()


def test_what_does_not_fit_is_compressed_the_same_way_each_time() -> None:
    script = "#!" + "a" * 5000
    first = _make(script, 4999)
    assert gzip.decompress(first) == script.encode()
    assert first == _make(script, 4999)
    assert first[4:8] == b"\0\0\0\0"


def test_too_large() -> None:
    with pytest.raises(errors.TooLarge) as caught:
        _make(f"#!{_noise(4000)}", 1000)
    error = caught.value
    assert (error.size_bytes, error.limit_bytes) == (4002, 1000)
    assert 2000 < error.compressed_bytes < 4002
