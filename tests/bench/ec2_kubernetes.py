"""What a fleet on EC2 writes to a real Kubernetes API, by the API server's audit log, in virtual time.

The system is that of `tests.bench.ec2` with its objects on an API server. `measure` runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from controller.ports import Key
from controller.stores import access
from tests.bench import ec2, shapes
from tests.bench.audit import Audit
from tests.bench.shapes import NAME
from tests.cluster.fixtures import Cluster, with_crds
from tests.simulated import loop, on_kubernetes
from tests.simulated.harness import System, put
from tools.control_plane import ControlPlane

_LIMIT_SECONDS = 7200.0


@dataclass(frozen=True, slots=True)
class Writes:
    """Requests that write, by what they wrote: until all are Ready, in `ec2.IDLE_SECONDS` of quiet, by a restart, until all are gone."""

    instances: int
    alike: bool
    up: dict[str, int]
    idle: dict[str, int]
    restart: dict[str, int]
    down: dict[str, int]


def measure(number: int, alike: int) -> dict[str, Any]:
    """One service of so many machines, alike or each told its own name; a `Writes` as JSON."""
    with tempfile.TemporaryDirectory() as directory, ControlPlane(Path(directory)) as plane, ec2.standing(Path(directory)) as system:
        cluster = Cluster(plane, access.from_kubeconfig(plane.kubeconfig))
        asyncio.run(with_crds(cluster))
        on_kubernetes.on_kubernetes(system, cluster)
        return asdict(loop.run(_run(system, Audit(plane), shapes.flat(1, number), alike=bool(alike)), clock=system.clock))


async def _run(system: System, audit: Audit, shape: shapes.Shape, *, alike: bool) -> Writes:
    system.start()
    audit.begin()
    for document in system.documents(ec2.documents(shape, alike=alike)):
        await put(system.store, document)
    await system.wait(system.ready, _LIMIT_SECONDS)
    up = audit.writes()
    await asyncio.sleep(ec2.QUIET_SECONDS)
    audit.begin()
    await asyncio.sleep(ec2.IDLE_SECONDS)
    idle = audit.writes()
    await system.crash()
    audit.begin()
    system.start()
    await system.engine.synced.wait()
    await system.engine.verified(NAME)
    await asyncio.sleep(60.0)  # what a restart would change it may change later too
    restart = audit.writes()
    audit.begin()
    key = Key("Infrastructure", "default", NAME)
    await system.store.delete(key, uid=(await system.store.get(key))["metadata"]["uid"])
    await system.wait(system.gone, _LIMIT_SECONDS)
    down = audit.writes()
    await system.crash()
    return Writes(shape.machines, alike, up, idle, restart, down)


__all__ = ["Writes", "measure"]
