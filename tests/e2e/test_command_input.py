"""Files that are not what they should be: each ends with code 2 and a sentence that names the place; nothing is made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from controller.cli import main
from tests.e2e.descriptions import CHAIN, CLOUD, infrastructure, service, template
from tests.e2e.desk import EXAMPLES, UP_SECONDS, Desk

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"
GOOD = CLOUD + template() + infrastructure("pair", service("a"))


def bomb() -> str:
    """Nine levels of ten aliases each: a thousand million values in 500 bytes."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 9)]
    return MAP + "\n".join(lines) + "\n"


def of(*services: str, name: str = "pair") -> str:
    return CLOUD + template() + infrastructure(name, *services)


def reading(expression: str) -> str:
    return CLOUD + template(command=f"'echo {expression}'") + infrastructure("pair", service("a"), service("b"))


#: name of the row → (the file, words of the answer)
BAD: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "empty": ("", ("no document in",)),
    "comments only": ("# nothing\n---\n---\n", ("no document in",)),
    "other YAML": ("hello: world\n", ("document 1", "apiVersion is missing")),
    "a list": ("- a\n- b\n", ("document 1", "must be a mapping")),
    "a text": ("just text", ("document 1", "must be a mapping")),
    "a tab": ("kind: Cloud\nmetadata:\n\tname: x\n", ("line 3, column 1",)),
    "not UTF-8": (b"a: \xe9\n", ("not UTF-8",)),
    "binary": (b"\x7fELF\x02\x01\x01\x00\xff\xfe", ("not UTF-8",)),
    "a control character": ("kind: \x00\x01", ("not allowed",)),
    "too large": (b"# " + b"x" * (8 * 1024 * 1024), ("has more than 8388608 bytes",)),
    "a recursive alias": ("kind: Secret\nmetadata: &m {name: x, y: *m}\napiVersion: v1\n", ("nested too deep",)),
    "nested too deep": (MAP + "data: " + "[" * 3000 + "]" * 3000, ("nested too deep",)),
    "aliases that explode": (bomb(), ("more than 200000 values",)),
    "an unknown alias": (MAP + "data: {a: *y}\n", ("line 4", "alias 'y'")),
    "a key twice": (MAP + "data: {a: b}\ndata: {c: d}\n", ("line 5, column 1", "'data' stands twice")),
    "a key that is a mapping": (MAP + "data: {? {a: b} : c}\n", ("line 4", "unhashable")),
    "a Python tag": ("kind: !!python/object:os.system x\n", ("line 1", "could not determine")),
    "bytes": (MAP + "data: {a: !!binary aGVsbG8=}\n", ("document 1", "bytes")),
    "an int of 5,000 digits": (MAP + f"data: {{a: {'9' * 5000}}}\n", ("4300 digits",)),
    "two of one name": (GOOD + infrastructure("pair", service("b")), ("document 4", "Infrastructure pair", "document 3")),
    "another namespace": (GOOD.replace("{name: pair}", "{name: pair, namespace: prod}"), ("document 3", "'prod'", "default")),
    "no name": ("apiVersion: v1\nkind: Secret\nmetadata: {}\n", ("document 1", "metadata.name is missing")),
    "metadata is a list": ("apiVersion: v1\nkind: Secret\nmetadata: [a]\n", ("metadata.name is missing",)),
    "a name that is a number": (MAP.replace("name: x", "name: 7"), ("metadata.name is 7", "quotes")),
    "a name that is none": (GOOD.replace("{name: pair}", "{name: Pair_X}"), ("metadata.name", "Pair_X")),
    "an unknown kind": (MAP.replace("ConfigMap", "Gizmo"), ('"Gizmo"', "InstanceTemplate")),
    "an unknown version": (CLOUD.replace("v1alpha1", "v9"), ('"occopus.io/v9"', "write occopus.io/v1alpha1")),
    "an unknown field": (of("name: a, templateRef: {name: plain}, dependOn: []"), ("spec.services[0].dependOn: unknown field",)),
    "an unknown field at the top": (
        GOOD + "sepc: {}\n".join(("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n", "")),
        ("sepc: unknown field",),
    ),
    "a wrong type": (of("name: a, templateRef: {name: plain}, replicas: two"), ("spec.services[0].replicas", "integer", 'it is "two"')),
    "a date for a number": (of("name: a, templateRef: {name: plain}, replicas: 2024-01-01"), ("spec.services[0].replicas", "integer")),
    "a huge number": (of(f"name: a, templateRef: {{name: plain}}, replicas: {'9' * 40}"), ("spec.services[0].replicas", "10000")),
    "not a number": (of("name: a, templateRef: {name: plain}, replicas: .nan"), ("spec.services[0].replicas",)),
    "half a surrogate pair": (MAP + 'data: {a: "\\ud800"}\n', ("data.a", "surrogate")),
    "no services at all": (GOOD[: GOOD.index("spec:\n  services")] + "spec: {}\n", ("spec.services: Required",)),
    "no spec": (GOOD[: GOOD.index("spec:\n  services")], ("spec: Required",)),
    "53 characters": (of(service("abcdefghijkl"), name="x" * 40), ("52 characters",)),
    "one service twice": (of(service("a"), service("a")), ("spec.services[1]", "Duplicate")),
    "a service that depends on itself": (of(service("a", "a")), ("spec.services[0]", "itself")),
    "an unknown service": (of(service("a", "zz")), ("dependsOn names a service that is not in services: zz",)),
    "replicas and scaling": (of(service("a", more=", replicas: 1, scaling: {min: 1, max: 2}")), ("spec.services[0]", "replicas")),
    "a cycle": (of(service("a", "c"), service("b", "a"), service("c", "b")), ("Cycle", "→")),
    "an unknown template": (of(service("a", template="nope")), ("TemplateNotFound", "service a", "nope")),
    "an unknown Cloud": (GOOD.replace("cloudRef: {name: here}", "cloudRef: {name: there}"), ("CloudNotFound", "plain", "there")),
    "a service read that is not depended on": (reading("{{ services.b.address }}"), ("UndeclaredDependency", "service a", "services.b")),
    "a variable that nobody defines": (reading("{{ variables.nope }}"), ("UnknownVariable", "variables.nope")),
    "an attribute that services have not": (
        CLOUD
        + template(command="'echo {{ services.b.adress }}'")
        + infrastructure("pair", service("a", "b"), service("b", template="other"))
        + template("other"),
        ("TemplateInvalid", "plain, line 3", "services.b.adress is not defined"),
    ),
    "a first line that is none of cloud-init's": (GOOD.replace("#cloud-config", "# cloud-config"), ("TemplateInvalid", "#cloud-config,")),
    "user data that is no YAML": (reading("{{ infrastructure }}: 'x"), ("TemplateInvalid", "not valid YAML")),
    "a template's syntax": (reading("{{ variables.nope"), ("TemplateInvalid", "plain, line 3")),
}


@pytest.mark.parametrize("name", [pytest.param(name, id=name.replace(" ", "-")) for name in BAD])
def test_a_bad_file_is_refused_with_the_place(name: str, tmp_path: Path) -> None:
    text, words = BAD[name]
    file = tmp_path / "bad.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = CliRunner().invoke(main.cli, ["validate", "-f", str(file)])
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize("name", ["empty", "a key twice", "an unknown field", "two of one name"])
def test_up_refuses_it_before_it_writes_anything(name: str, desk: Desk) -> None:
    text, words = BAD[name]
    said = desk.refused(2, "up", "-f", desk.write("bad.yaml", str(text)), "--timeout", "5")
    assert said.startswith("error: ")
    assert words[-1] in said
    if desk.state.exists():
        assert desk.objects("cloud") == []


def test_all_that_is_wrong_is_told_at_once() -> None:
    text = of("name: a, templateRef: {name: plain}, replicas: two", "name: b, templateRef: {}, size: 3")
    done = CliRunner().invoke(main.cli, ["validate", "-f", "-"], input=text)
    assert done.exit_code == 2
    assert [line.split(": ")[1:3] for line in done.stderr.splitlines()] == [
        ["Infrastructure pair", "spec.services[0].replicas"],
        ["Infrastructure pair", "spec.services[1].templateRef.name"],
        ["Infrastructure pair", "spec.services[1].size"],
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            GOOD.replace("implementations: [{name: here,", "implementations: [{nam: here,"), "InstanceTemplate plain: spec", id="a-template"
        ),
        pytest.param(GOOD.replace("spec: {local: {}}", "spec: {local: {}, maxInstances: many}"), "Cloud here: spec", id="a-cloud"),
    ],
)
def test_what_only_follows_from_something_else_is_not_told(text: str, said: str) -> None:
    done = CliRunner().invoke(main.cli, ["validate", "-f", "-"], input=text)
    assert done.exit_code == 2
    assert all(line.startswith(f"error: {said}") for line in done.stderr.splitlines()), done.stderr


def test_a_field_is_named_once_and_no_value_of_a_secret() -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: 12345}\n"
    text = f"{secret}---\n" + of("name: a, templateRef: {name: plain}, replicas: -1, dependOn: []")
    done = CliRunner().invoke(main.cli, ["validate", "-f", "-"], input=text)
    assert [line.count("spec.services[0].") for line in done.stderr.splitlines()] == [0, 1, 1]
    assert "12345" not in done.stderr


def test_good_files_in_every_form(desk: Desk) -> None:
    directory = desk.directory / "d"
    directory.mkdir()
    cloud, made, chain = (directory / name for name in ("a.yaml", "b.yml", "c.yaml"))
    cloud.write_text(CLOUD)
    made.write_text(template())
    (directory / "notes.txt").write_text("no YAML: [")
    chain.write_text(CHAIN[CHAIN.index("\napiVersion: occopus.io/v1alpha1\nkind: Infrastructure") :])
    assert desk.occopus("validate", "-f", str(directory)) == "3 documents are valid\n"
    assert desk.occopus("validate", "-f", str(cloud), "-f", str(made), "-f", str(chain)) == "3 documents are valid\n"
    assert desk.run("validate", "-f", "-", stdin=CHAIN).stdout == "3 documents are valid\n"
    # The examples share a Cloud, word for word: it is one document.
    shutil.copytree(EXAMPLES, desk.directory / "examples")
    assert desk.run("validate", "-f", str(desk.directory / "examples")).returncode == 0
    assert not desk.state.exists()
    assert "chain Ready" in desk.run("up", "-f", "-", "--timeout", str(UP_SECONDS), stdin=CHAIN).stdout


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path, word in ((tmp_path / "nope.yaml", "No such file"), (tmp_path, "no document in")):
        done = CliRunner().invoke(main.cli, ["validate", "-f", str(path)])
        assert done.exit_code == 2
        assert word in done.stderr


def test_anchors_merges_and_dates_mean_what_they_say(desk: Desk) -> None:
    text = CLOUD + template(command="echo {{ variables.day }} {{ variables.moment }}")
    text += """
apiVersion: occopus.io/v1alpha1
kind: Infrastructure
metadata: {name: pair}
spec:
  variables: [{name: day, value: 2024-01-01}, {name: moment, value: 2001-12-14T21:59:43.10-05:00}]
  services:
  - &a {name: a, templateRef: &t {name: plain}}
  - {<<: *a, name: b}
  - {name: c, templateRef: *t}
"""
    desk.occopus("up", "-f", desk.write("infra.yaml", text), "--timeout", str(UP_SECONDS))
    assert list(desk.services()) == ["a", "b", "c"]
    assert desk.occopus("console", "pair-b-0").startswith("2024-01-01 2001-12-14T21:59:43.10-05:00\n")


def test_user_data_over_the_limit_waits_with_both_sizes_and_goes_on_when_it_is_smaller(desk: Desk) -> None:
    noise = "{% for i in range(60000) %}{{ i * i * 7919 % 99991 }}{% endfor %}"
    large = CLOUD + template(command=f"'true {noise}'") + infrastructure("pair", service("a"))
    said = desk.refused(1, "up", "-f", desk.write("infra.yaml", large), "--timeout", "4")
    assert "UserDataTooLarge" in said
    assert "compressed" in said
    assert desk.machines() == []
    desk.occopus("up", "-f", desk.write("infra.yaml", GOOD), "--timeout", str(UP_SECONDS))


def test_an_error_while_rendering_names_the_line_and_makes_nothing(desk: Desk) -> None:
    said = desk.refused(1, "up", "-f", desk.write("infra.yaml", reading("{{ 1 / 0 }}")), "--timeout", "4")
    assert "TemplateInvalid" in said
    assert "line 3" in said
    assert desk.machines() == []
