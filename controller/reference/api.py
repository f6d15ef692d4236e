"""The page of the API: each kind, its fields, rules and columns. It knows no driver beyond its two models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controller.api import crd
from controller.api.kinds import CATEGORY, KINDS, Kind
from controller.api.meta import API_VERSION, Condition
from controller.ports import CloudPlugin
from controller.reference.fields import Field, Schema, fields, model_defaults, rules_of
from controller.reference.tables import table


def _defaults(kind: Kind, plugins: Sequence[CloudPlugin]) -> dict[str, Any]:
    found = model_defaults(kind.model, "")
    places = {"Cloud": "spec.{}", "InstanceTemplate": "spec.implementations[].{}", "Instance": "spec.implementation.{}"}
    if place := places.get(kind.kind):
        for plugin in plugins:
            arm = plugin.cloud_model if kind.kind == "Cloud" else plugin.machine_model
            found |= model_defaults(arm, place.format(plugin.kind))
    return found


def page(plugins: Sequence[CloudPlugin]) -> str:
    """`reference/api.md`."""
    emitted = crd.crds(plugins)
    parts = [
        "# API reference\n",
        f"Group and version: `{API_VERSION}`. All kinds are namespaced; a state file has the one namespace `default`.",
        f"`kubectl get {CATEGORY}` lists all kinds. Kinds of cloud installed: {_named(plugins)}.\n",
        "A list “by name” is a list whose entries are told apart by that field. A field that is not marked required may be left out.\n",
        "\n".join(f"- [{each.kind}](#{each.singular})" for each in KINDS) + "\n- [Conditions](#conditions)\n",
        *(_kind(each, emitted[f"{each.plural}.yaml"], _defaults(each, plugins)) for each in KINDS),
        _conditions(),
    ]
    return "\n".join(parts)


def _named(plugins: Sequence[CloudPlugin]) -> str:
    return ", ".join(f"`{each.kind}`" for each in sorted(plugins, key=lambda each: each.kind))


def _kind(kind: Kind, document: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    schema = crd.object_schema(dict(document))
    names = [f"plural `{kind.plural}`", *(f"short name `{each}`" for each in kind.short_names)]
    found = fields(document, defaults)
    about = [f"## {kind.kind}\n", f"{schema['description']}\n", "Names: " + ", ".join(names) + "."]
    if kind.scale:
        about.append("It has the scale subresource: `spec.replicas` is the number wanted, `status.selector` selects its Instances.")
    rules = [("", message, rule) for message, rule in _root_rules(schema)]
    rules += [(each.path, message, rule) for each in found for message, rule in each.rules]
    parts = ["\n".join(about) + "\n"]
    for name in ("spec", "status"):
        rows = [each for each in found if each.path == name or each.path.startswith(f"{name}.")]
        if rows:
            parts += [f"### {kind.kind} {name}\n", table(("Field", "Type", "Default", "Bounds", "Description"), map(_row, rows))]
    if rules:
        parts += [f"### {kind.kind} rules\n", table(("Field", "Message", "Rule (CEL)"), map(_rule, rules))]
    columns = ((each.name, f"`{each.json_path}`" + _wide(each.priority), each.description) for each in kind.columns)
    parts += [f"### {kind.kind} columns\n", table(("Column", "Path", "What it shows"), columns)]
    return "\n".join(parts)


def _root_rules(schema: Schema) -> list[tuple[str, str]]:
    return [(each["message"], each["rule"]) for each in rules_of(schema)]


def _wide(priority: int) -> str:
    return " (with `-o wide`)" if priority else ""


def _row(field: Field) -> tuple[str, ...]:
    return (f"`{field.path}`", field.type + (", required" if field.required else ""), field.default, field.bounds, field.description)


def _rule(rule: tuple[str, str, str]) -> tuple[str, ...]:
    path, message, text = rule
    return (f"`{path}`" if path else "the object", message, f"`{text}`")


def _conditions() -> str:
    emitted = Condition.model_json_schema(by_alias=True)
    rows = [
        (f"`{name}`", "time" if "Time" in name else "integer" if name == "observedGeneration" else "string", each.get("description", ""))
        for name, each in emitted["properties"].items()
    ]
    text = "Every `status.conditions` is a list of `metav1.Condition`, by type. [Reasons explained](../troubleshooting.md).\n"
    return f"## Conditions\n\n{text}\n" + table(("Field", "Type", "Description"), rows)


__all__ = ["page"]
