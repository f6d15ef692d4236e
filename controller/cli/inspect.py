"""The commands that only look: status and get, over a state file and a cluster alike. Each answers with the exit code."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import click
import yaml

from controller import assembly, errors, view
from controller.api import meta
from controller.api.kinds import KINDS
from controller.cli import follow, home, show
from controller.cli.exits import NOT_REACHED
from controller.cli.target import ApiServer, Target, where
from controller.ports import Key, Obj

#: Where `kubectl apply` keeps what it was given.
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
#: Kinds that `get` knows beside ours.
_OTHERS = ("Secret", "ConfigMap", "ControllerRevision", "Event")


@dataclass(frozen=True, slots=True)
class StatusOptions:
    output: str
    wait: bool
    timeout: float | None


async def status(target: Target, names: tuple[str, ...], options: StatusOptions) -> int:
    async with home.open(target) as here:
        await here.synced()
        chosen = list(names) or None
        asked = sorted(chosen or [each["metadata"]["name"] for each in here.objects.list("Infrastructure")])

        def missing() -> list[str]:
            return [name for name in asked if here.objects.get(Key("Infrastructure", here.namespace, name)) is None]

        if missing():
            raise errors.UsageError(f"there is no infrastructure {', '.join(missing())}; {where(target, os.environ)}")

        def rows() -> list[view.InfrastructureRow]:
            return view.infrastructures(here.objects, assembly.now(), chosen)

        def over() -> bool:
            return bool(missing()) or all(row.ready for row in rows())

        if options.wait:
            await follow.until(here, chosen, over, seconds=options.timeout, quiet=options.output != "text")
        if options.output != "text":
            _print({"infrastructures": [row.as_json() for row in rows()]}, options.output)
        elif not asked:
            click.echo(_none(target, here.namespace))
        elif not options.wait:
            show.print_tree(rows())
        for name in missing():
            click.echo(f"error: {name} was deleted while it was waited for", err=True)
        return 0 if not missing() and all(row.ready for row in rows()) else NOT_REACHED


def _none(target: Target, namespace: str) -> str:
    looked = where(target, os.environ)
    if isinstance(target, ApiServer):
        return f"no infrastructure in namespace {namespace}; `{target.kubectl('apply', '-f')} FILE` makes one ({looked})"
    return f"no infrastructure; `occopus up -f FILE` makes one ({looked})"


async def get(target: Target, kind: str, name: str | None, output: str) -> int:
    found = _kind(kind)
    if found == "Secret" and name is None and isinstance(target, ApiServer):
        names = target.kubectl("get", "secrets")
        raise errors.UsageError(f"over a cluster Secrets are read one by one, by name; `{names}` shows what there is")
    async with home.open(target) as here:
        if name is None:
            items = await here.store.list(found, here.namespace)
            _print({"kind": "List", "items": [_shown(each) for each in items if _ours(each)]}, output)
        else:
            _print(_shown(await home.find(here, found, name)), output)
    return 0


def _ours(obj: Obj) -> bool:
    """Events and revisions of others share a namespace with ours; a state file has none of those."""
    if obj["kind"] == "Event":
        return str(obj.get("involvedObject", {}).get("apiVersion", "")).startswith(f"{meta.GROUP}/")
    return obj["kind"] != "ControllerRevision" or meta.GROUP_LABEL in obj["metadata"].get("labels", {})


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
    """Values of Secrets stay out of terminals and logs, also where `kubectl apply` keeps a copy of them."""
    if obj["kind"] != "Secret":
        return obj
    metadata = obj["metadata"]
    kept = {name: value for name, value in metadata.get("annotations", {}).items() if name != _LAST_APPLIED}
    hidden = {**metadata, "annotations": kept} if "annotations" in metadata else metadata
    return {**obj, "metadata": hidden, "data": dict.fromkeys(obj.get("data", {}), "(not shown)")}


def _print(value: Any, output: str) -> None:
    click.echo(json.dumps(value, indent=2) if output == "json" else yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip())
