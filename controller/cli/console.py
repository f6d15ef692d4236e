"""The command `console`: asks the cloud itself, with the credentials that the Cloud names, as whoever runs the command.

Over a cluster it can tell only what its user may read, and of a local cloud only what is on this computer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from controller import assembly, errors
from controller.api.cloud import Cloud
from controller.api.instance import Instance
from controller.cli import home
from controller.cli.home import Home
from controller.cli.target import StateFile, Target
from controller.clouds.local import directories
from controller.engine import request
from controller.ports import CloudConfig, MachineId

#: The kind whose machines are directories of the computer that the operator runs on.
_LOCAL = "local"


async def console(target: Target, name: str, state_directory: Path | None) -> int:
    """`state_directory` is given over a cluster alone: where the operator on this computer keeps its local machines."""
    if isinstance(target, StateFile) and state_directory is not None:
        raise errors.UsageError("--state-directory goes with --kubeconfig or --context; a state file has its own")
    async with home.open(target) as here:
        instance = Instance.model_validate(await home.find(here, "Instance", name))
        if instance.status.machine is None:
            raise errors.UsageError(f"{name} has no machine yet")
        click.echo(await _console(here, instance, MachineId(instance.status.machine.id), state_directory), nl=False)
    return 0


async def _console(here: Home, instance: Instance, machine: MachineId, state_directory: Path | None) -> str:
    name = instance.spec.implementation.cloud_ref.name
    cloud = Cloud.model_validate(await home.find(here, "Cloud", name))
    kind, arm = cloud.spec.arm()
    plugin = next((each for each in here.plugins if each.kind == kind), None)
    if plugin is None:
        raise errors.UsageError(f"no driver for {kind} is installed")
    directory = here.state_directory or state_directory
    if here.state_directory is None and kind == _LOCAL:
        directory = _of_machine(name, arm, state_directory, machine)
    named = cloud.spec.secret_name()
    secret = await _secret(here, name, named) if named else {}
    config = CloudConfig(arm, secret, cloud.status.controller_id or "", str(directory or ""), allow_local=True, ambient_credentials=True)
    driver = plugin.open(config)
    return await assembly.CallThreads()(lambda: driver.console(machine), kind)


async def _secret(here: Home, cloud: str, name: str) -> dict[str, str]:
    try:
        return request.texts(await request.secret(here.objects, here.namespace, name))
    except errors.Forbidden as error:
        raise errors.Forbidden(f"Cloud {cloud} is asked with the credentials of its Secret, which you may not read: {error}") from error


def _of_machine(cloud: str, arm: dict[str, Any], given: Path | None, machine: MachineId) -> Path:
    """The directory of a local cloud that the operator runs, if it is on this computer; to open another one would make it."""
    where = arm.get("directory") or given
    if where is None:
        raise errors.UsageError(
            f"Cloud {cloud} is local: its machines are on the computer of the operator, in the directory that it was started with. "
            "There, name it: --state-directory DIR (of `make up`: .dev)"
        )
    if not directories.is_machine_id(machine) or not directories.Home(Path(where)).place(machine).is_dir():
        raise errors.UsageError(
            f"there is no machine {machine} in {where} on this computer: Cloud {cloud} is local, and its machines are on the computer "
            "of the operator, in the directory that it was started with (--state-directory)"
        )
    return Path(where)


__all__ = ["console"]
