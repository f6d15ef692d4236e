"""What to type instead of a command that is for state files alone: over a cluster kubectl and the operator do it. Pure words."""

from __future__ import annotations

from controller.api.meta import SCALE_IN
from controller.cli.target import ApiServer

#: What the operator holds while it leads (`controller.process`).
_LEASE = "occopus-controller"


def up(cluster: ApiServer, files: tuple[str, ...]) -> str:
    apply = cluster.kubectl("apply", *_files(files))
    return f"`up` is for a state file; over a cluster `{apply}` hands the documents to the operator, and `{_wait(cluster)}` follows it"


def run(cluster: ApiServer) -> str:
    look = cluster.kubectl("get", "leases", "-A", "--field-selector", f"metadata.name={_LEASE}")
    return f"`run` is for a state file; over a cluster the operator reconciles (`python -m controller`): `{look}` shows which one does"


def delete(cluster: ApiServer, infrastructure: str | None, instance: str | None, files: tuple[str, ...], *, scale_in: bool) -> str:
    if files:
        commands = [cluster.kubectl("delete", *_files(files))]
    elif instance is not None:
        mark = [cluster.kubectl("annotate", "instance", instance, f"{SCALE_IN}=true")] if scale_in else []
        commands = [*mark, cluster.kubectl("delete", "instance", instance)]
    else:
        commands = [cluster.kubectl("delete", "infrastructure", infrastructure or "--all")]
    return f"`delete` is for a state file; over a cluster `{' && '.join(commands)}` does it"


def _files(files: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for file in files for word in ("-f", file))


def _wait(cluster: ApiServer) -> str:
    return cluster.occopus("status", "--wait")


__all__ = ["delete", "run", "up"]
