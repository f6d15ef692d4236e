"""Writes the reference: the API by kind and field, reasons with their way out, metrics, the command line.

Called by `python -m controller docs`. Everything comes from where it is decided (the emitted CRDs and their models, the list
of reasons, the registry of metrics, the click commands), so a document cannot say anything else than the code. Deterministic:
equal code gives equal bytes. It knows no driver beyond its two models.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel

from controller.api import crd, reasons
from controller.api.kinds import CATEGORY, KINDS, Kind
from controller.api.meta import API_VERSION, Condition
from controller.api.reasons import HELP, Reason
from controller.cli import exits, main
from controller.engine import metrics
from controller.ports import CloudPlugin

Schema = Mapping[str, Any]

HEADER = "<!-- Written by `make docs` from the code. Do not edit. -->\n"


def documents(plugins: Sequence[CloudPlugin], operator_command: click.Group) -> dict[str, str]:
    """Path below the documents' directory → text. Raises UsageError where a driver's model cannot be part of a CRD."""
    return {
        "reference/api.md": HEADER + api(plugins),
        "reference/cli.md": HEADER + command_line(),
        "reference/metrics.md": HEADER + metric_list(),
        "reference/operator.md": HEADER + operator(operator_command),
        "troubleshooting.md": HEADER + troubleshooting(),
    }


def write(directory: Path, texts: Mapping[str, str]) -> None:
    """Write the documents; whatever else is in the directory stays."""
    for name, text in texts.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")


# --- the API --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Field:
    """One field: its path from the object's root, and what may stand there. `rules` are its CEL rules with their messages."""

    path: str
    type: str
    required: bool
    default: str
    bounds: str
    description: str
    rules: tuple[tuple[str, str], ...]


def fields(crd_document: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[Field]:
    """The fields of spec and status in the order of the schema; the parts of a condition are left to their own section."""
    schema = crd.object_schema(dict(crd_document))
    return [
        each
        for name in ("spec", "status")
        if name in schema["properties"]
        for each in _fields(schema["properties"][name], name, name in schema["required"], defaults)
    ]


def _fields(schema: Schema, path: str, required: bool, defaults: Mapping[str, Any]) -> Iterator[Field]:
    item: Schema = schema["items"] if schema.get("type") == "array" else schema
    # A list of single values has its bounds on the values; of a list of objects they are the objects' fields.
    single = _bounds(item) if item is not schema and "properties" not in item else ""
    yield Field(
        path,
        _type(schema),
        required,
        _default(defaults.get(path, schema.get("default"))),
        "; ".join(filter(None, (_bounds(schema), single))),
        schema.get("description", ""),
        tuple((each["message"], each["rule"]) for each in (*_rules(schema), *(_rules(item) if item is not schema else ()))),
    )
    if path.endswith(".conditions"):
        return
    below = f"{path}[]" if item is not schema else path
    for name, each in item.get("properties", {}).items():
        yield from _fields(each, f"{below}.{name}", name in item.get("required", ()), defaults)


def _rules(schema: Schema) -> Sequence[Schema]:
    return schema.get("x-kubernetes-validations", ())


def _type(schema: Schema) -> str:
    if schema.get("type") != "array":
        return "time" if schema.get("format") == "date-time" else str(schema.get("type", "any"))
    keys = schema.get("x-kubernetes-list-map-keys")
    return f"list of {_type(schema['items'])}" + (f", by {', '.join(keys)}" if keys else "")


def _bounds(schema: Schema) -> str:
    found = ["one of " + ", ".join(f"`{each}`" for each in schema["enum"])] if "enum" in schema else []
    for least, most, unit in (("minimum", "maximum", ""), ("minLength", "maxLength", " characters"), ("minItems", "maxItems", " entries")):
        low, high = schema.get(least), schema.get(most)
        if low is not None and high is not None:
            found.append(f"{low} to {high}{unit}")
        elif low is not None or high is not None:
            found.append((f"at least {low}" if high is None else f"at most {high}") + unit)
    return ", ".join([*found, *([f"`{schema['pattern']}`"] if "pattern" in schema else [])])


def _default(value: Any) -> str:
    # Of an object the fields below have the defaults.
    return "" if value in (None, "", [], ()) or isinstance(value, dict) else f"`{json.dumps(value)}`"


def model_defaults(model: type[BaseModel], path: str) -> dict[str, Any]:
    """Defaults by path. From the models: the CRD of InstanceTemplate carries none, and models fill them while planning."""
    emitted = model.model_json_schema(by_alias=True)
    definitions: Mapping[str, Any] = emitted.get("$defs", {})

    def walk(schema: Schema, place: str) -> Iterator[tuple[str, Any]]:
        schema = _inlined(schema, definitions)
        if "default" in schema:
            yield place, schema["default"]
        if "items" in schema:
            schema, place = _inlined(schema["items"], definitions), f"{place}[]"
        for name, each in schema.get("properties", {}).items():
            yield from walk(each, f"{place}.{name}".lstrip("."))

    return dict(walk(emitted, path))


def _inlined(schema: Schema, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with its reference resolved and `T | None` read as T."""
    merged = dict(schema)
    for arm in cast("list[dict[str, Any]]", merged.pop("anyOf", [])):
        merged = {**arm, **merged} if arm.get("type") != "null" else merged
    while "$ref" in merged:
        name: str = merged.pop("$ref").removeprefix("#/$defs/")
        merged = {**definitions[name], **merged}
    return merged


def _defaults(kind: Kind, plugins: Sequence[CloudPlugin]) -> dict[str, Any]:
    found = model_defaults(kind.model, "")
    places = {"Cloud": "spec.{}", "InstanceTemplate": "spec.implementations[].{}", "Instance": "spec.implementation.{}"}
    if place := places.get(kind.kind):
        for plugin in plugins:
            arm = plugin.cloud_model if kind.kind == "Cloud" else plugin.machine_model
            found |= model_defaults(arm, place.format(plugin.kind))
    return found


def api(plugins: Sequence[CloudPlugin]) -> str:
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
            parts += [f"### {kind.kind} {name}\n", _table(("Field", "Type", "Default", "Bounds", "Description"), map(_row, rows))]
    if rules:
        parts += [f"### {kind.kind} rules\n", _table(("Field", "Message", "Rule (CEL)"), map(_rule, rules))]
    columns = ((each.name, f"`{each.json_path}`" + _wide(each.priority), each.description) for each in kind.columns)
    parts += [f"### {kind.kind} columns\n", _table(("Column", "Path", "What it shows"), columns)]
    return "\n".join(parts)


def _root_rules(schema: Schema) -> list[tuple[str, str]]:
    return [(each["message"], each["rule"]) for each in _rules(schema)]


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
    return f"## Conditions\n\n{text}\n" + _table(("Field", "Type", "Description"), rows)


# --- reasons --------------------------------------------------------------------------------------------------------
#: Whose conditions a reason can stand in. What is in none of these stands in events alone.
CONDITIONS: dict[str, frozenset[Reason]] = {
    "Instance": frozenset(
        {
            *(Reason.READY, Reason.LAUNCHED, Reason.HEALTHY, Reason.SCALING, Reason.WAITING_FOR_LAUNCH, Reason.LAUNCHING),
            *(Reason.BOOTING, Reason.STARTING, Reason.TERMINATING, Reason.PAUSED, Reason.WAITING_FOR_DEPENDENTS),
            *(Reason.WAITING_FOR_CLOUD, Reason.WAITING_FOR_GROUP, Reason.LIMIT_REACHED, Reason.FROZEN, Reason.PROBE_FAILED),
            *(Reason.STARTUP_TIMEOUT, Reason.MACHINE_ENDED, Reason.MACHINE_STOPPED, Reason.MACHINE_MISSING, Reason.MACHINE_ERROR),
            *(Reason.MACHINE_UNKNOWN, Reason.DUPLICATE_MACHINE, Reason.LAUNCH_LOST, Reason.NO_CAPACITY, Reason.QUOTA_EXCEEDED),
            *(Reason.THROTTLED, Reason.DENIED, Reason.CLOUD_INVALID, Reason.CLOUD_UNREACHABLE, Reason.CLOUD_NOT_FOUND),
            *(Reason.TEMPLATE_NOT_FOUND, Reason.TEMPLATE_INVALID, Reason.USER_DATA_TOO_LARGE, Reason.SECRET_NOT_FOUND),
            Reason.RENDERER_FAILED,
        }
    ),
    "InstanceGroup": frozenset(
        {
            *(Reason.READY, Reason.AVAILABLE, Reason.CONVERGED, Reason.INPUTS_CURRENT, Reason.WITHIN_BOUNDS, Reason.NOTHING_WANTED),
            *(Reason.RECONCILING, Reason.SCALING, Reason.TERMINATING, Reason.PAUSED, Reason.WAITING_FOR_DEPENDENCIES),
            *(Reason.WAITING_FOR_DEPENDENTS, Reason.WAITING_FOR_MACHINES, Reason.WAITING_FOR_CLOUD, Reason.NO_ADDRESS, Reason.BACK_OFF),
            *(Reason.BRAKED, Reason.UNCLAIMED, Reason.FROZEN, Reason.DUPLICATE_MACHINE, Reason.UNHEALTHY, Reason.CLOUD_INVALID),
            *(Reason.CLOUD_NOT_FOUND, Reason.TEMPLATE_NOT_FOUND, Reason.TEMPLATE_INVALID, Reason.USER_DATA_TOO_LARGE),
            *(Reason.INPUTS_TOO_LARGE, Reason.CONFIG_MAP_NOT_FOUND, Reason.REVISION_CHANGED, Reason.INPUT_CHANGED, Reason.CLAMPED),
            Reason.RENDERER_FAILED,
        }
    ),
    "Infrastructure": frozenset(
        {
            *(Reason.READY, Reason.CONVERGED, Reason.RECONCILING, Reason.TERMINATING, Reason.PAUSED, Reason.UNKNOWN_SERVICE),
            *(Reason.CYCLE, Reason.TEMPLATE_NOT_FOUND, Reason.UNDECLARED_DEPENDENCY, Reason.UNKNOWN_VARIABLE, Reason.TEMPLATE_INVALID),
            *(Reason.CONFIG_MAP_NOT_FOUND, Reason.CLOUD_NOT_FOUND, Reason.CLOUD_INVALID, Reason.NAME_TAKEN, Reason.ID_TAKEN),
        }
    ),
    "Cloud": frozenset(
        {
            *(Reason.READY, Reason.RECONCILING, Reason.TERMINATING, Reason.DENIED, Reason.THROTTLED, Reason.CLOUD_INVALID),
            *(Reason.CLOUD_UNREACHABLE, Reason.ACCOUNT_CHANGED, Reason.CONTROLLER_CHANGED, Reason.UNKNOWN_KIND, Reason.SECRET_NOT_FOUND),
        }
    ),
}
#: Reasons that stand in events alone, and of which kind of object.
EVENTS: dict[str, frozenset[Reason]] = {
    "Instance": frozenset(
        {Reason.OWNER_MISSING, Reason.ABANDONED, Reason.DUPLICATE_MACHINE, Reason.REJECTED, Reason.FORBIDDEN, Reason.DEFECT}
    ),
    "InstanceGroup": frozenset(
        {
            Reason.CREATED,
            Reason.DELETED,
            Reason.CLAIMED,
            Reason.SCALED_IN,
            Reason.SCALE_IN_REFUSED,
            Reason.BATCH_BROKEN,
            Reason.REJECTED,
            Reason.FORBIDDEN,
            Reason.DEFECT,
        }
    ),
    "Infrastructure": frozenset({Reason.CLAIMED, Reason.CREATED, Reason.DELETED, Reason.REJECTED, Reason.FORBIDDEN, Reason.DEFECT}),
    "Cloud": frozenset({Reason.UNCLAIMED, Reason.REJECTED, Reason.FORBIDDEN, Reason.DEFECT}),
}


def groups() -> list[tuple[str, list[Reason]]]:
    """The reasons under the headings that stand as comments in their list."""
    found: list[tuple[str, list[Reason]]] = []
    for line in inspect.getsource(reasons.Reason).splitlines():
        text = line.strip()
        if text.startswith("# "):
            found.append((text.removeprefix("# ").removesuffix("."), []))
        elif (name := text.partition(" = ")[0]) in Reason.__members__:
            found[-1][1].append(Reason[name])
    return found


def where(reason: Reason) -> str:
    """In whose conditions and events a reason can stand; empty where the controller does not use it."""
    places = [kind for kind, each in CONDITIONS.items() if reason in each]
    events = [kind for kind, each in EVENTS.items() if reason in each]
    said = [f"conditions of {', '.join(places)}"] if places else []
    return "; ".join([*said, *([f"events of {', '.join(events)}"] if events else [])])


def troubleshooting() -> str:
    """`troubleshooting.md`."""
    parts = [
        "# Troubleshooting by reason\n",
        "Every condition, event, line of `occopus status` and label of a metric uses one of these words. To see them:\n",
        "```sh\noccopus status                  # why not, per service and machine\noccopus get instance NAME       # "
        "all conditions of one machine\noccopus get event               # what has changed\noccopus console INSTANCE        # what "
        "the machine itself printed\n```\n",
        "A change of Ready is an event of that object too, and a group's event says for which reason an Instance is deleted.\n\n"
        "Nothing fails for good: whatever is wrong is tried again, with back-off, until it is right or deleted.\n",
        *("## Where it stands\n", _table(("Word", "What it means"), ((f"**{word}**", means) for word, means in reasons.PHASES.items()))),
    ]
    for heading, members in groups():
        rows = ((f"**{each.value}**", HELP[each][0], HELP[each][1], where(each) or "not in use") for each in members)
        parts += [f"## {heading}\n", _table(("Reason", "What it means", "What to do", "Where it stands"), rows)]
    return "\n".join(parts)


# --- metrics --------------------------------------------------------------------------------------------------------
def metric_list() -> str:
    """`reference/metrics.md`."""
    kept = sorted((each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)), key=lambda each: next(_described(each)))
    rows = [_metric(each) for each in kept]
    now = metrics.Now(phases=lambda: ("Ready",), queue=lambda: (0, 0.0), unclaimed=lambda: 0)
    for family in now.collect():
        labels = sorted({label for sample in family.samples for label in sample.labels})
        rows.append((f"`{family.name}`", family.type, ", ".join(f"`{each}`" for each in labels), family.documentation))
    return "\n".join(
        (
            "# Metrics\n",
            "Served at `/metrics` by the operator (`--metrics-port`) and by `occopus run --metrics-port PORT`, in Prometheus' format.\n",
            "No label names a machine or an infrastructure. Histograms have the series `_bucket`, `_sum` and `_count`.\n",
            _table(("Metric", "Type", "Labels", "What it is"), sorted(rows)),
        )
    )


def _described(metric: MetricWrapperBase) -> Iterator[str]:
    yield from (each.name for each in metric.describe())


def _metric(metric: MetricWrapperBase) -> tuple[str, ...]:
    (family,) = metric.describe()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    # prometheus_client has no public way to ask a metric for the names of its labels.
    labels = cast("tuple[str, ...]", vars(metric)["_labelnames"])
    return (f"`{name}`", family.type, ", ".join(f"`{each}`" for each in labels), family.documentation)


# --- the command line -----------------------------------------------------------------------------------------------
EXIT_CODES: tuple[tuple[int, str], ...] = (
    (0, "Done."),
    (main.NOT_REACHED, "Not reached: the time was over, a service cannot come up, something is not Ready, or it was interrupted."),
    (main.WRONG_INPUT, "Wrong input or usage; nothing was changed."),
    (
        main.UNUSABLE,
        "The state file cannot be used: locked, copied, damaged, read-only or of a newer version. "
        "Or the cluster cannot: no answer, a right that is missing, CRDs that are not applied.",
    ),
    (exits.TERMINATED, "`up` or `delete` was ended by SIGTERM, in order as by Ctrl-C: the same command goes on where it was."),
)


def command_line() -> str:
    """`reference/cli.md`."""
    top = click.Context(main.cli, info_name="occopus", **main.cli.context_settings)
    parts = ["# The `occopus` command\n", _command(main.cli, top), "## Exit codes\n"]
    parts.append(_table(("Code", "Meaning"), ((str(code), meaning) for code, meaning in EXIT_CODES)))
    for name in sorted(main.cli.commands):
        command = main.cli.commands[name]
        parts += [f"## occopus {name}\n", _command(command, click.Context(command, info_name=name, parent=top))]
    return "\n".join(parts)


def operator(command: click.Group) -> str:
    """`reference/operator.md`."""
    top = click.Context(command, info_name="python -m controller", **command.context_settings)
    return f"# The operator\n\n{_command(command, top)}"


def _command(command: click.Command, context: click.Context) -> str:
    usage = " ".join((context.command_path, *command.collect_usage_pieces(context)))
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in inspect.cleandoc(command.help or "").split("\n\n"))
    records = [each.get_help_record(context) for each in command.get_params(context) if isinstance(each, click.Option)]
    rows = ((f"`{record[0]}`", record[1]) for record in records if record is not None)
    return f"```\n{usage}\n```\n\n{text}\n\n" + _table(("Option", "What it does"), rows)


# --- tables ---------------------------------------------------------------------------------------------------------
def _table(head: Sequence[str], rows: Any) -> str:
    escape: Callable[[str], str] = lambda text: " ".join(text.split()).replace("|", "\\|")  # noqa: E731
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(escape, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


__all__ = ["HEADER", "documents", "write"]
