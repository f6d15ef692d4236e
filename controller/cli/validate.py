"""The command `validate`: all that can be known of documents without a cloud's word. Nothing is stored, nothing is made.

The rules of the API are asked of the emitted CRDs, or of the API server itself where one is named; the graph is checked here in
both cases, in the words that the Infrastructure's plan would use.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import cast

import click

from controller import documents, errors
from controller.api.cloud import Cloud
from controller.api.infrastructure import Infrastructure
from controller.api.template import InstanceTemplate
from controller.cli.exits import WRONG_INPUT
from controller.cli.target import ApiServer, Target
from controller.clouds import plugins
from controller.ports import Key, Obj, Store
from controller.reconcilers import graph
from controller.reconcilers.graph import TemplateFacts
from controller.reconcilers.infrastructure.reconcile import template_facts
from controller.stores.rules import Rules

#: A document as it would be stored. Raises Rejected.
Check = Callable[[Obj], Awaitable[Obj]]


async def validate(target: Target, files: tuple[str, ...]) -> int:
    if isinstance(target, ApiServer):
        return await _by_server(target, files)
    loaded = documents.load(files)
    rules = Rules(plugins.installed())

    async def check(document: Obj) -> Obj:
        return rules.check(document)

    good, wrong = await _checked(loaded, check)
    return _told(len(loaded), wrong + _problems(good, good))


async def _by_server(target: ApiServer, files: tuple[str, ...]) -> int:
    from controller.cli import cluster

    loaded = documents.load(files, any_namespace=True)
    async with cluster.open(target) as here:
        described = {(each["metadata"].get("namespace") or here.namespace, *_name(each)) for each in loaded}
        good, wrong = await _checked(loaded, here.check)
        for namespace in sorted({each["metadata"]["namespace"] for each in good if each["kind"] == "Infrastructure"}):
            mine = [each for each in good if each["metadata"]["namespace"] == namespace]
            there = await _referable(here.store, namespace, mine)
            # What the files describe counts as they describe it, also where that is wrong.
            wrong += _problems(mine, [*mine, *(each for each in there if (namespace, *_name(each)) not in described)])
    return _told(len(loaded), wrong)


async def _checked(loaded: Sequence[Obj], check: Check) -> tuple[list[Obj], list[str]]:
    """The documents that keep the rules, as they would be stored, and what is wrong with the others, a line each."""
    good: list[Obj] = []
    wrong: list[str] = []
    for document in loaded:
        try:
            good.append(await check(document))
        except errors.Rejected as error:
            wrong += [f"{' '.join(_name(document))}: {cause}" for cause in error.causes]
    return good, wrong


def _told(count: int, wrong: Sequence[str]) -> int:
    for line in wrong:
        click.echo(f"error: {line}", err=True)
    if not wrong:
        click.echo(f"{count} documents are valid")
    return WRONG_INPUT if wrong else 0


def _name(obj: Obj) -> tuple[str, str]:
    return str(obj["kind"]), str(obj["metadata"]["name"])


# --- the graph --------------------------------------------------------------------------------------------------------
async def _referable(store: Store, namespace: str, described: Sequence[Obj]) -> list[Obj]:
    """What the Infrastructures of a namespace may refer to beside what the files describe."""
    found = [each for kind in ("InstanceTemplate", "Cloud") for each in await store.list(kind, namespace)]
    for name in sorted(set(_config_maps([*described, *found]))):
        with contextlib.suppress(errors.ObjectNotFound):  # then the template reads nothing, as it does offline
            found.append(await store.get(Key("ConfigMap", namespace, name)))
    return found


def _config_maps(objects: Iterable[Obj]) -> Iterable[str]:
    for obj in objects:
        if obj["kind"] == "InstanceTemplate":
            context = InstanceTemplate.model_validate(obj).spec.context
            reference = context.cloud_init.config_map_ref if context is not None and context.cloud_init is not None else None
            if reference is not None:
                yield reference.name


def _problems(described: Sequence[Obj], referable: Sequence[Obj]) -> list[str]:
    """What the plan would find wrong with the Infrastructures described, references taken within `referable` alone."""
    texts = {each["metadata"]["name"]: cast(dict[str, str], each.get("data", {})) for each in referable if each["kind"] == "ConfigMap"}
    templates = {each["metadata"]["name"]: _facts(each, texts) for each in referable if each["kind"] == "InstanceTemplate"}
    clouds = {each["metadata"]["name"]: Cloud.model_validate(each).spec.arm()[0] for each in referable if each["kind"] == "Cloud"}
    found: list[str] = []
    for obj in described:
        if obj["kind"] == "Infrastructure":
            spec = Infrastructure.model_validate({**obj, "status": {}}).spec
            problems = graph.problems(spec, templates, clouds)
            found += [f"{' '.join(_name(obj))}: {each.reason.value}: {each.message}" for each in problems]
    return found


def _facts(obj: Obj, texts: dict[str, dict[str, str]]) -> TemplateFacts:
    template = InstanceTemplate.model_validate(obj)
    cloud_init = template.spec.context.cloud_init if template.spec.context is not None else None
    text = (cloud_init.template if cloud_init is not None else None) or ""
    if cloud_init is not None and cloud_init.config_map_ref is not None:
        text = texts.get(cloud_init.config_map_ref.name, {}).get(cloud_init.config_map_ref.key, "")
    return template_facts(template, text)


__all__ = ["validate"]
