"""The generated documents: whole, and what is committed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from controller import reference
from controller.__main__ import cli
from controller.api import crd
from controller.api.kinds import KINDS, Kind
from controller.api.reasons import HELP, PHASES, Reason
from controller.cli import main
from controller.clouds import plugins
from controller.reference import api, commands, fields, metrics, troubleshooting

ROOT = Path(__file__).parents[3]
CONTROLLER = ROOT / "controller"
#: Which modules put reasons into the conditions and events of a kind.
MODULES = {
    "Instance": ("reconcilers/instance", "engine/launcher.py", "engine/request.py", "engine/engine.py"),
    "InstanceGroup": ("reconcilers/instancegroup", "engine/request.py", "engine/engine.py"),
    "Infrastructure": ("reconcilers/infrastructure", "reconcilers/graph.py", "reconcilers/instancegroup/makings.py", "engine/engine.py"),
    "Cloud": ("reconcilers/cloud", "engine/sweep.py", "engine/engine.py"),
}


def used(*places: str) -> set[Reason]:
    """The reasons that the modules name."""
    files = [file for place in places for file in ((CONTROLLER / place).rglob("*.py") if "." not in place else [CONTROLLER / place])]
    return {
        Reason[node.attr]
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason"
    }


def test_what_is_committed_is_what_the_code_says() -> None:
    written = {name: (ROOT / "docs" / name).read_text() for name in reference.documents(plugins.installed(), cli)}
    assert written == reference.documents(plugins.installed(), cli)


def test_every_document_says_that_it_is_generated() -> None:
    assert all(text.startswith(reference.HEADER) for text in reference.documents(plugins.installed(), cli).values())


def test_every_reason_is_explained_once() -> None:
    assert set(HELP) == set(Reason)
    listed = [reason for _, members in troubleshooting.groups() for reason in members]
    assert sorted(listed) == sorted(Reason)
    text = troubleshooting.page()
    for reason, (meaning, way_out) in HELP.items():
        assert text.count(f"| **{reason.value}** | {meaning} | {way_out} |") == 1


def test_every_word_for_where_a_machine_stands_is_explained() -> None:
    trees = [ast.parse(file.read_text()) for file in (CONTROLLER / "reconcilers/instance").glob("*.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    named = [call.args[0] for call in calls if ast.unparse(call.func).split(".")[-1] in ("Stand", "failing")]
    words = {each.value for each in named if isinstance(each, ast.Constant) and each.value} | {"Pending", "Ending", "Deleting", "Stalled"}
    assert {"Missing", "Unhealthy", "Failed"} <= words
    assert words - {each.value for each in Reason} <= set(PHASES)
    assert all(f"| **{word}** | {meaning} |" in troubleshooting.page() for word, meaning in PHASES.items())


def test_every_reason_in_use_has_a_place() -> None:
    assert {reason for reason in Reason if troubleshooting.where(reason)} == used("reconcilers", "engine")


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind) for kind in MODULES])
def test_no_reason_has_a_place_where_nobody_says_it(kind: str) -> None:
    assert troubleshooting.CONDITIONS[kind] | troubleshooting.EVENTS[kind] <= used(*MODULES[kind])


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.kind) for kind in KINDS])
def test_every_field_is_described(kind: Kind) -> None:
    found = fields.fields(crd.crds(plugins.installed())[f"{kind.plural}.yaml"], {})
    assert [each.path for each in found if not each.description.strip()] == []
    assert len(found) > 5


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.kind) for kind in KINDS])
def test_every_field_rule_and_column_is_in_the_reference(kind: Kind) -> None:
    text = api.page(plugins.installed())
    document = crd.crds(plugins.installed())[f"{kind.plural}.yaml"]
    for each in fields.fields(document, {}):
        assert f"| `{each.path}` |" in text
        assert all(message in text for message, _ in each.rules)
    assert all(rule["message"] in text for rule in kind.rules)
    assert all(f"| {column.name} | `{column.json_path}`" in text for column in kind.columns)


@pytest.mark.parametrize(
    ("path", "default"),
    [
        pytest.param("spec.health.startupSeconds", "`600`", id="a default that the CRD leaves out"),
        pytest.param("spec.health.probes[].http.path", '`"/"`', id="below a list and an optional object"),
        pytest.param("spec.implementations[].local.bootSeconds", "`0`", id="of a driver's own field"),
    ],
)
def test_defaults_of_templates_come_from_the_models(path: str, default: str) -> None:
    section = api.page(plugins.installed()).partition("## InstanceTemplate\n")[2].partition("## Infrastructure\n")[0]
    (line,) = [line for line in section.splitlines() if line.startswith(f"| `{path}` |")]
    assert line.split(" | ")[2] == default


def test_every_command_and_option_is_in_the_reference() -> None:
    text = commands.occopus()
    for name, command in main.cli.commands.items():
        section = text.partition(f"## occopus {name}\n")[2].partition("\n## ")[0]
        assert section
        assert all(option in section for parameter in command.params for option in parameter.opts if option.startswith("-"))


def test_every_metric_is_in_the_reference() -> None:
    text = metrics.page()
    assert "| `occopus_reconciles_total` | counter | `kind`, `result` |" in text
    assert "| `occopus_instances` | gauge | `phase` |" in text
    assert "| `occopus_leader` | gauge |" in text
    assert text.count("\n| `occopus_") == 17
