"""The command `validate`: all that can be known of documents without a cloud's word. Nothing is stored, nothing is made.

The rules of the API are asked of the emitted CRDs, or of the API server itself where one is named; the graph is checked here in
both cases, in the words that the Infrastructure's plan would use.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import cast

import click

from controller import documents, errors
from controller.api.cloud import Cloud
from controller.api.infrastructure import Infrastructure
from controller.api.template import InstanceTemplate
from controller.cli import trial
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
    return _told(len(loaded), wrong + await _problems(good, good, _broken(loaded, good)))


async def _by_server(target: ApiServer, files: tuple[str, ...]) -> int:
    from controller.cli import cluster

    loaded = documents.load(files, any_namespace=True)
    async with cluster.open(target) as here:
        described = {(each["metadata"].get("namespace") or here.namespace, *_name(each)) for each in loaded}
        good, wrong = await _checked(loaded, here.check)
        for namespace in sorted({each["metadata"]["namespace"] for each in good if each["kind"] == "Infrastructure"}):
            mine = [each for each in good if each["metadata"]["namespace"] == namespace]
            there = await _referable(here.store, namespace, mine)
            documented = [each for each in loaded if (each["metadata"].get("namespace") or here.namespace) == namespace]
            # What the files describe counts as they describe it, also where that is wrong.
            referable = [*mine, *(each for each in there if (namespace, *_name(each)) not in described)]
            wrong += await _problems(mine, referable, _broken(documented, mine))
    return _told(len(loaded), wrong)


def _broken(loaded: Iterable[Obj], good: Iterable[Obj]) -> frozenset[tuple[str, str]]:
    """Kind and name of the documents that do not keep the rules."""
    return frozenset(map(_name, loaded)) - frozenset(map(_name, good))


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


async def _problems(described: Sequence[Obj], referable: Sequence[Obj], broken: Collection[tuple[str, str]]) -> list[str]:
    """What the plan would find wrong with the Infrastructures described, references taken within `referable` alone.

    `broken` are the documents, by kind and name, of which something else is said already: what only follows from that is not.
    """
    config = {each["metadata"]["name"]: cast(dict[str, str], each.get("data", {})) for each in referable if each["kind"] == "ConfigMap"}
    models = [InstanceTemplate.model_validate(each) for each in referable if each["kind"] == "InstanceTemplate"]
    templates = {each.metadata.name: (each, _text(each, config)) for each in models}
    facts = {name: _without(template_facts(each, text), broken) for name, (each, text) in templates.items()}
    facts |= {name: TemplateFacts() for kind, name in broken if kind == "InstanceTemplate"}
    clouds = {each["metadata"]["name"]: Cloud.model_validate(each).spec.arm()[0] for each in referable if each["kind"] == "Cloud"}
    found: list[str] = []
    async with trial.opened() as tried:
        for obj in described:
            if obj["kind"] == "Infrastructure":
                infrastructure = Infrastructure.model_validate({**obj, "status": {}})
                problems = graph.problems(infrastructure.spec, facts, clouds)
                # With a graph that is wrong, what a template reads may be missing for that alone.
                problems = problems or await tried.problems(infrastructure, trial.Described(templates, config))
                found += [f"{' '.join(_name(obj))}: {each.reason.value}: {each.message}" for each in problems]
    return found


def _without(facts: TemplateFacts, broken: Collection[tuple[str, str]]) -> TemplateFacts:
    """Without the Clouds that are described, and wrongly."""
    return dataclasses.replace(facts, clouds=tuple(each for each in facts.clouds if ("Cloud", each[0]) not in broken))


def _text(template: InstanceTemplate, config: Mapping[str, Mapping[str, str]]) -> str:
    cloud_init = template.spec.context.cloud_init if template.spec.context is not None else None
    if cloud_init is not None and cloud_init.config_map_ref is not None:
        return config.get(cloud_init.config_map_ref.name, {}).get(cloud_init.config_map_ref.key, "")
    return (cloud_init.template if cloud_init is not None else None) or ""


__all__ = ["validate"]
