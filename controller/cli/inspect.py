"""The commands that only look: status, get, console, validate. Each answers with the exit code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click
import yaml

from controller import assembly, desktop, documents, errors, view
from controller.api.cloud import Cloud
from controller.api.infrastructure import Infrastructure
from controller.api.instance import Instance
from controller.api.kinds import KINDS
from controller.api.template import InstanceTemplate
from controller.cli import follow, show
from controller.cli.main import NOT_REACHED, WRONG_INPUT
from controller.clouds import plugins
from controller.desktop import Desktop, Settings
from controller.engine import request
from controller.ports import CloudConfig, Key, MachineId, Obj
from controller.reconcilers import graph
from controller.reconcilers.graph import Problem, TemplateFacts
from controller.reconcilers.infrastructure.reconcile import template_facts
from controller.stores.rules import Rules

#: Kinds that `get` knows beside ours.
_OTHERS = ("Secret", "ConfigMap", "ControllerRevision", "Event")


@dataclass(frozen=True, slots=True)
class StatusOptions:
    output: str
    wait: bool
    timeout: float | None


async def status(path: Path, moved: bool, names: tuple[str, ...], options: StatusOptions) -> int:
    async with desktop.open(Settings(path, moved)) as desk:
        missing = sorted(name for name in names if desk.find("Infrastructure", name) is None)
        if missing:
            raise errors.UsageError(f"there is no infrastructure {', '.join(missing)}")
        chosen = list(names) or None

        def rows() -> list[view.InfrastructureRow]:
            return view.infrastructures(desk.objects, assembly.now(), chosen)

        if options.wait:
            quiet = options.output != "text"
            await follow.until(desk, chosen, lambda: all(row.ready for row in rows()), seconds=options.timeout, quiet=quiet)
        if options.output != "text":
            _print({"infrastructures": [row.as_json() for row in rows()]}, options.output)
        elif not rows():
            click.echo("no infrastructure; `occopus up -f FILE` makes one")
        elif not options.wait:
            show.print_tree(rows())
        return 0 if all(row.ready for row in rows()) else NOT_REACHED


async def get(path: Path, moved: bool, kind: str, name: str | None, output: str) -> int:
    found = _kind(kind)
    async with desktop.open(Settings(path, moved)) as desk:
        if name is None:
            items = await desk.store.list(found)
            _print({"kind": "List", "items": [_shown(each) for each in items]}, output)
            return 0
        try:
            obj = await desk.store.get(Key(found, "default", name))
        except errors.ObjectNotFound:
            raise errors.UsageError(f"there is no {found} {name}") from None
        _print(_shown(obj), output)
    return 0


def _kind(word: str) -> str:
    """The kind that a user means: its name, plural or short name, in any case."""
    lower = word.lower()
    for each in KINDS:
        if lower in (each.singular, each.plural, *each.short_names):
            return each.kind
    for other in _OTHERS:
        if lower in (other.lower(), f"{other.lower()}s"):
            return other
    raise errors.UsageError(f"there is no kind {word}; there are {', '.join([each.kind for each in KINDS] + list(_OTHERS))}")


def _shown(obj: Obj) -> Obj:
    """Values of Secrets stay out of terminals and logs."""
    if obj["kind"] != "Secret":
        return obj
    return {**obj, "data": dict.fromkeys(obj.get("data", {}), "(not shown)")}


def _print(value: Any, output: str) -> None:
    click.echo(json.dumps(value, indent=2) if output == "json" else yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip())


async def console(path: Path, moved: bool, name: str) -> int:
    async with desktop.open(Settings(path, moved)) as desk:
        obj = desk.find("Instance", name)
        if obj is None:
            raise errors.UsageError(f"there is no Instance {name}; `occopus status` shows what there is")
        instance = Instance.model_validate(obj)
        if instance.status.machine is None:
            raise errors.UsageError(f"{name} has no machine yet")
        click.echo(await _console(desk, instance, MachineId(instance.status.machine.id)), nl=False)
    return 0


async def _console(desk: Desktop, instance: Instance, machine: MachineId) -> str:
    name = instance.spec.implementation.cloud_ref.name
    obj = desk.find("Cloud", name)
    if obj is None:
        raise errors.UsageError(f"there is no Cloud {name}")
    kind, arm = Cloud.model_validate(obj).spec.arm()
    plugin = next((each for each in desk.plugins if each.kind == kind), None)
    if plugin is None:
        raise errors.UsageError(f"no driver for {kind} is installed")
    reference: dict[str, str] = arm.get("credentials", {}).get("secretRef", {})
    secret = request.texts(await request.secret(desk.objects, "default", reference["name"])) if reference else {}
    directory = str(desk.settings.path.parent)
    driver = plugin.open(CloudConfig(arm, secret, desk.store.controller_id, directory, allow_local=True, ambient_credentials=True))
    return await assembly.CallThreads()(lambda: driver.console(machine), kind)


async def validate(files: tuple[str, ...]) -> int:
    """All that can be known of the documents without a cloud: the API's rules, and what the Infrastructure's plan would say."""
    loaded = documents.load(files)
    rules = Rules(plugins.installed())
    wrong: list[str] = []
    good: list[Obj] = []
    for document in loaded:
        try:
            good.append(rules.check(document))
        except errors.Rejected as error:
            subject = f"{document['kind']} {document['metadata']['name']}"
            wrong += [f"{subject}: {cause}" for cause in error.causes]
    wrong += [f"{subject}: {problem.reason.value}: {problem.message}" for subject, problem in _problems(good)]
    for line in wrong:
        click.echo(f"error: {line}", err=True)
    if not wrong:
        click.echo(f"{len(loaded)} documents are valid")
    return WRONG_INPUT if wrong else 0


def _problems(objects: list[Obj]) -> list[tuple[str, Problem]]:
    """What the plan would find wrong, references taken within the files alone."""
    texts = {each["metadata"]["name"]: cast(dict[str, str], each.get("data", {})) for each in objects if each["kind"] == "ConfigMap"}
    templates = {each["metadata"]["name"]: _facts(each, texts) for each in objects if each["kind"] == "InstanceTemplate"}
    clouds = {each["metadata"]["name"]: Cloud.model_validate(each).spec.arm()[0] for each in objects if each["kind"] == "Cloud"}
    found: list[tuple[str, Problem]] = []
    for obj in objects:
        if obj["kind"] == "Infrastructure":
            spec = Infrastructure.model_validate({**obj, "status": {}}).spec
            found += [(f"Infrastructure {obj['metadata']['name']}", each) for each in graph.problems(spec, templates, clouds)]
    return found


def _facts(obj: Obj, texts: dict[str, dict[str, str]]) -> TemplateFacts:
    template = InstanceTemplate.model_validate(obj)
    cloud_init = template.spec.context.cloud_init if template.spec.context is not None else None
    text = (cloud_init.template if cloud_init is not None else None) or ""
    if cloud_init is not None and cloud_init.config_map_ref is not None:
        text = texts.get(cloud_init.config_map_ref.name, {}).get(cloud_init.config_map_ref.key, "")
    return template_facts(template, text)
