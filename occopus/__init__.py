"""The public names of Occopus; everything else may change without notice.

A desktop in three lines (docs/how-to/library.md):

    async with occopus.run(occopus.Settings(Path("state.db"))) as desktop:
        await desktop.apply(occopus.load(("infra.yaml",)))
        async for _ in desktop.changes(): ...

Kinds of clouds are added by an entry point in the group `occopus.clouds` that names a `CloudPlugin`.
"""

from controller import errors
from controller.api.cloud import Cloud
from controller.api.group import InstanceGroup
from controller.api.infrastructure import Infrastructure
from controller.api.instance import Instance
from controller.api.meta import Model
from controller.api.reasons import Reason
from controller.api.template import InstanceTemplate
from controller.desktop import Desktop, Settings, open, run
from controller.documents import load
from controller.ports import (
    Account,
    CloudConfig,
    CloudDriver,
    CloudPlugin,
    Identity,
    Key,
    Launched,
    LaunchRequest,
    Machine,
    MachineId,
    MachineState,
)
from controller.view import InfrastructureRow, InstanceRow, ServiceRow, infrastructures

__all__ = [
    "Account",
    "Cloud",
    "CloudConfig",
    "CloudDriver",
    "CloudPlugin",
    "Desktop",
    "Identity",
    "Infrastructure",
    "InfrastructureRow",
    "Instance",
    "InstanceGroup",
    "InstanceRow",
    "InstanceTemplate",
    "Key",
    "LaunchRequest",
    "Launched",
    "Machine",
    "MachineId",
    "MachineState",
    "Model",
    "Reason",
    "ServiceRow",
    "Settings",
    "errors",
    "infrastructures",
    "load",
    "open",
    "run",
]
