"""The commands that change something: up, run, scale, delete. Each answers with the exit code.

All but scale are for a state file, which they reconcile; over a cluster the operator does that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from controller import assembly, desktop, documents, errors, logs, view
from controller.api import meta
from controller.api.cloud import Cloud
from controller.api.group import InstanceGroup
from controller.api.reasons import HELP, Reason
from controller.cli import follow, home
from controller.cli.exits import NOT_REACHED, TERMINATED
from controller.cli.target import StateFile, Target
from controller.desktop import Desktop, Settings
from controller.engine.sweep import Policy
from controller.ports import Key, Obj


@dataclass(frozen=True, slots=True)
class RunOptions:
    metrics_port: int | None
    log_format: Literal["text", "json"]
    log_level: str
    sweep: Policy
    pid_file: Path | None


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    infrastructure: str | None
    everything: bool
    instance: str | None
    scale_in: bool
    files: tuple[str, ...]
    timeout: float | None
    quiet: bool


async def up(file: StateFile, files: tuple[str, ...], timeout: float | None, quiet: bool) -> int:
    loaded = documents.load(files)
    logs.configure("text", "error")
    return await _terminable(_up(file, loaded, follow.Limit(timeout), quiet))


async def _terminable(work: Coroutine[Any, Any, int]) -> int:
    """The work's exit code. SIGTERM ends it as Ctrl-C does: calls that are on their way are let end. A second one ends the process."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    told = False

    def stop() -> None:
        nonlocal told
        told = True
        loop.remove_signal_handler(signal.SIGTERM)
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if not told:
            raise
    click.echo("terminated; the same command goes on where it was", err=True)
    return TERMINATED


async def _up(file: StateFile, loaded: list[Obj], limit: follow.Limit, quiet: bool) -> int:
    async with desktop.run(Settings(file.path, file.moved), join=True) as desk:
        _say_frozen(desk)
        if not await _finished(desk, loaded, limit, quiet):
            return NOT_REACHED
        applied = await desk.apply(loaded)
        names = [key.name for key in applied if key.kind == "Infrastructure"]
        if not names:
            click.echo(f"applied {len(applied)} objects; none is an Infrastructure, so there is nothing to wait for")
            return 0
        waiting = asyncio.create_task(_waited(desk, names))

        def over() -> bool:
            if not waiting.done():
                return False
            waiting.result()  # raises what it died of
            return all(view.settled(desk.objects, name) or view.stalled(desk.objects, name) for name in names)

        reached = await follow.until(desk, names, over, seconds=limit.left, quiet=quiet)
        waiting.cancel()
        return _outcome(desk, names, limit, reached)


async def _finished(desk: Desktop, loaded: list[Obj], limit: follow.Limit, quiet: bool) -> bool:
    """Whether nothing of the documents is being deleted any more: an object takes no way back from that, and is made anew then."""
    await desk.check(loaded)
    going = desk.going(loaded)
    if not going:
        return True
    ending = {each["metadata"]["name"] for each in desk.objects.list("Infrastructure") if "deletionTimestamp" in each["metadata"]}
    _must_be_idle(desk, ending, {key.name for key in going if key.kind == "Cloud"})
    click.echo(f"{_listed(going)} is being deleted: that is finished first, then it is made anew")
    # What ends it may need them as they are now: credentials that were mended, a Cloud that was lost.
    await desk.apply(each for each in loaded if each["kind"] in ("Secret", "Cloud") and desktop.key_of(each) not in going)
    uids = {key: seen["metadata"]["uid"] for key in going if (seen := desk.objects.get(key)) is not None}
    return await _gone(desk, uids, limit, quiet)


async def _waited(desk: Desktop, names: list[str]) -> None:
    """Wait until each is Ready, or cannot become so."""
    for name in names:
        with contextlib.suppress(errors.Stalled):
            await desk.ready(name)
    await desk.nudge()


def _outcome(desk: Desktop, names: list[str], limit: follow.Limit, reached: bool) -> int:
    stalled = {name: why for name in names if (why := view.stalled(desk.objects, name))}
    for name, why in stalled.items():
        click.echo(f"error: {name} cannot be made as described: {why}", err=True)
    late = [name for name in names if name not in stalled and not (reached and view.settled(desk.objects, name))]
    for row in view.infrastructures(desk.objects, assembly.now(), late):
        reasons = [f"{each.name}: {each.reason}: {each.message}" for each in row.services if not each.ready]
        going = [] if reasons else view.ending(desk.objects, row.name)
        reasons = reasons or going or [f"its machines could not be looked at: {why}" for why in view.clouds_not_ready(desk.objects)]
        what = "is Ready, but what has to go was not gone" if going else "was not Ready"
        click.echo(f"error: {row.name} {what}{limit}: " + "; ".join(reasons), err=True)
    if stalled or late:
        return NOT_REACHED
    _say_notes(desk, names)
    if desk.engine is not None:
        click.echo(f"{', '.join(names)} Ready. The machines stay; nobody heals them until the next `occopus up` or `occopus run`.")
    else:
        click.echo(f"{', '.join(names)} Ready.")
    return 0


def _say_notes(desk: Desktop, names: list[str]) -> None:
    """What is so though all is Ready, with the way out that the list of reasons has."""
    for row in view.infrastructures(desk.objects, assembly.now(), names):
        for service in row.services:
            for note in service.notes:
                click.echo(f"note: {row.name}/{service.name}: {note}. {HELP[Reason(note.reason)][1]}")


async def run(file: StateFile, options: RunOptions) -> int:
    logs.configure(options.log_format, options.log_level)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        # The pid file appears once the state file is held, and goes as the last thing, when all is closed.
        pid_file = stack.enter_context(_PidFile(options.pid_file))
        desk = await stack.enter_async_context(desktop.run(Settings(file.path, file.moved, options.sweep)))
        _say_frozen(desk)
        if options.metrics_port is not None and desk.engine is not None:
            from controller import serving

            await stack.enter_async_context(serving.metrics(desk.engine, options.metrics_port))
        if options.log_format == "text":
            click.echo(f"reconciling {file.path} until Ctrl-C or SIGTERM; the machines stay then", err=True)
        pid_file.write()
        await stop.wait()
    return 0


class _PidFile:
    """Holds this process's id from `write` until the block ends."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._written = False

    def __enter__(self) -> _PidFile:
        return self

    def write(self) -> None:
        if self._path is not None:
            draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
            try:
                draft.write_text(f"{os.getpid()}\n")
                draft.replace(self._path)
            except OSError as error:
                raise errors.UsageError(f"--pid-file {self._path} cannot be written: {error.strerror}") from error
            self._written = True

    def __exit__(self, *_: object) -> None:
        if self._path is not None and self._written:
            self._path.unlink(missing_ok=True)


async def scale(target: Target, infrastructure: str, service: str, replicas: int) -> int:
    async with home.open(target) as here:
        try:
            await here.scale(f"{infrastructure}-{service}", replicas)
        except errors.ObjectNotFound:
            names = sorted(each["metadata"]["name"] for each in await here.store.list("Infrastructure", here.namespace))
            if infrastructure not in names:
                raise errors.UsageError(_no_infrastructure(infrastructure, names)) from None
            raise errors.UsageError(f"{infrastructure} has no service {service}, or it was not begun yet") from None
        click.echo(f"{infrastructure}/{service}: {replicas} wanted" + await _clamped(here, f"{infrastructure}-{service}", replicas))
    return 0


async def _clamped(here: home.Home, group: str, replicas: int) -> str:
    """What the bounds make of the number, if anything."""
    # Over a cluster, who may scale need not be allowed to read; the condition of the group tells it too.
    with contextlib.suppress(errors.Forbidden):
        found = InstanceGroup.model_validate(await here.store.get(Key("InstanceGroup", here.namespace, group)))
        scaling = found.spec.scaling
        if scaling is not None and not (scaling.min <= replicas <= (replicas if scaling.max is None else scaling.max)):
            nearest = scaling.min if replicas < scaling.min else scaling.max
            most = "any number" if scaling.max is None else scaling.max
            return f"; its scaling allows {scaling.min} to {most}, so it will have {nearest} ({Reason.CLAMPED.value})"
    return ""


async def delete(file: StateFile, options: DeleteOptions) -> int:
    chosen = [bool(options.infrastructure), options.everything, bool(options.instance), bool(options.files)]
    if sum(chosen) != 1:
        raise errors.UsageError("name one infrastructure, or --all, or --instance NAME, or -f FILE")
    if options.scale_in and not options.instance:
        raise errors.UsageError("--scale-in goes with --instance")
    named = [desktop.key_of(each) for each in documents.load(options.files)] if options.files else []
    logs.configure("text", "error")
    return await _terminable(_delete(file, named, options))


async def _delete(file: StateFile, named: list[Key], options: DeleteOptions) -> int:
    limit = follow.Limit(options.timeout)
    async with desktop.run(Settings(file.path, file.moved), join=True) as desk:
        _say_frozen(desk)
        if options.instance:
            return await _delete_instance(desk, options.instance, limit, options)
        if named:
            return await _delete_documents(desk, named, limit, options.quiet)
        names = sorted(each["metadata"]["name"] for each in desk.objects.list("Infrastructure"))
        if options.infrastructure is not None:
            if options.infrastructure not in names:
                raise errors.UsageError(_no_infrastructure(options.infrastructure, names))
            names = [options.infrastructure]
        return await _delete_all(desk, [Key("Infrastructure", "default", name) for name in names], limit, options.quiet)


async def _delete_documents(desk: Desktop, named: list[Key], limit: follow.Limit, quiet: bool) -> int:
    """The infrastructures, and then what they were made from: their machines need the Clouds to end."""
    infrastructures = [key for key in named if key.kind == "Infrastructure"]
    rest = [key for key in named if key.kind != "Infrastructure"]
    _must_be_idle(desk, {key.name for key in infrastructures}, {key.name for key in rest if key.kind == "Cloud"})
    _must_be_unnamed(desk, rest)
    code = await _delete_all(desk, infrastructures, limit, quiet)
    return code or await _delete_all(desk, rest, limit, quiet)


def _must_be_idle(desk: Desktop, going: set[str], clouds: set[str]) -> None:
    for each in desk.objects.list("Instance"):
        cloud, user = each["spec"]["implementation"]["cloudRef"]["name"], each["spec"]["infrastructure"]["name"]
        if cloud in clouds and user not in going:
            raise errors.UsageError(f"Cloud {cloud} has machines of infrastructure {user} too; delete that first")


def _must_be_unnamed(desk: Desktop, going: list[Key]) -> None:
    """A Secret stays as long as a Cloud that names it: nobody would see why it does not go."""
    for each in desk.objects.models("Cloud", Cloud):
        secret = Key("Secret", each.metadata.namespace, each.spec.secret_name())
        if secret in going and Key("Cloud", each.metadata.namespace, each.metadata.name) not in going:
            raise errors.UsageError(f"Cloud {each.metadata.name} names Secret {secret.name}; delete that with it")


async def _delete_all(desk: Desktop, keys: list[Key], limit: follow.Limit, quiet: bool) -> int:
    found: dict[Key, str] = {}
    for key in keys:
        with contextlib.suppress(errors.ObjectNotFound):
            found[key] = await desk.delete(key)
    if not await _gone(desk, found, limit, quiet):
        return NOT_REACHED
    click.echo(f"{_listed(found) or 'nothing'} deleted")
    return 0


async def _gone(desk: Desktop, uids: dict[Key, str], limit: follow.Limit, quiet: bool) -> bool:
    """Wait until the objects with these UIDs are gone; says what is left where they are not in time."""

    def left() -> list[Key]:
        return [key for key, uid in uids.items() if (seen := desk.objects.get(key)) is not None and seen["metadata"]["uid"] == uid]

    names = [key.name for key in uids if key.kind == "Infrastructure"]
    if await follow.until(desk, names, lambda: not left(), seconds=limit.left, quiet=quiet):
        return True
    lines = [f"{key.kind} {key.name}" for key in left()] + [line for name in names for line in view.ending(desk.objects, name)]
    click.echo(f"error: not gone{limit}: {'; '.join(lines)}; the same command goes on where it was", err=True)
    return False


def _listed(keys: Iterable[Key]) -> str:
    return ", ".join(key.name if key.kind == "Infrastructure" else f"{key.kind} {key.name}" for key in keys)


async def _delete_instance(desk: Desktop, name: str, limit: follow.Limit, options: DeleteOptions) -> int:
    key = Key("Instance", "default", name)
    found = desk.find("Instance", name)
    if found is None:
        raise errors.UsageError(f"there is no Instance {name}; `occopus status` shows what there is")
    before = _replicas(desk, found)
    if options.scale_in:
        await desk.change(key, {"metadata": {"annotations": {meta.SCALE_IN: "true"}}})
    await desk.delete(key)
    infrastructure = found["spec"]["infrastructure"]["name"]

    def over() -> bool:
        seen = desk.find("Instance", name)
        gone = seen is None or seen["metadata"]["uid"] != found["metadata"]["uid"]
        return gone and (view.settled(desk.objects, infrastructure) or bool(view.stalled(desk.objects, infrastructure)))

    reached = await follow.until(desk, [infrastructure], over, seconds=limit.left, quiet=options.quiet)
    after = _replicas(desk, found)
    if reached and (after < before or not view.stalled(desk.objects, infrastructure)):
        why = f": the count stays {after}, which services[].replicas or scaling.min sets" if options.scale_in else ""
        click.echo(f"{name} deleted" + ("" if after < before else f" and replaced{why}"))
        _say_notes(desk, [infrastructure])
        return 0
    if reached:
        click.echo(f"{name} deleted")
    return _outcome(desk, [infrastructure], limit, reached)


def _replicas(desk: Desktop, instance: Obj) -> int:
    """How many machines the group of the Instance has to have."""
    group = desk.find("InstanceGroup", f"{instance['spec']['infrastructure']['name']}-{instance['spec']['service']}")
    return 0 if group is None else int(group["spec"]["replicas"])


def _no_infrastructure(name: str, names: list[str]) -> str:
    return f"there is no infrastructure {name}; there {'are ' + ', '.join(names) if names else 'is none'}"


def _say_frozen(desk: Desktop) -> None:
    if desk.store.frozen_reason:
        click.echo(f"warning: {desk.store.frozen_reason}", err=True)
