"""What a command speaks to: a state file, or a Kubernetes API server. Made by `controller.cli.main` from the options, opened by
`controller.cli.home`; it knows names alone and opens nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


def default_kubeconfig() -> Path:
    """Where kubectl keeps it. An inherited KUBECONFIG may be production's and is never read."""
    return Path.home() / ".kube" / "config"


@dataclass(frozen=True, slots=True)
class StateFile:
    """A state file. `moved`: it was moved or restored there on purpose."""

    path: Path
    moved: bool = False


@dataclass(frozen=True, slots=True)
class ApiServer:
    """An API server by a kubeconfig. No context: its current one; no namespace: the context's."""

    kubeconfig: Path
    context: str | None = None
    namespace: str | None = None
    #: Whether the kubeconfig has to be named to kubectl, which would else take another one.
    named: bool = True

    @property
    def options(self) -> tuple[str, ...]:
        """What was given, as kubectl and occopus both spell it."""
        given = (("--kubeconfig", str(self.kubeconfig) if self.named else None), ("--context", self.context), ("-n", self.namespace))
        return tuple(word for option, value in given if value is not None for word in (option, value))

    def kubectl(self, *words: str) -> str:
        """The kubectl command over this very cluster, as one types it."""
        return shlex.join(("kubectl", *self.options, *words))

    def occopus(self, *words: str) -> str:
        """The occopus command over this very cluster, as one types it."""
        return shlex.join(("occopus", *self.options, *words))


Target = StateFile | ApiServer


def where(target: Target, environment: Mapping[str, str]) -> str:
    """Where was looked, for somebody who found nothing there and may have meant the other home."""
    if isinstance(target, ApiServer):
        return f"that is on the cluster of {target.kubeconfig}; without --kubeconfig and --context it is a state file"
    return f"that is in the state file {target.path}{unread(target, environment)}"


def unread(target: Target, environment: Mapping[str, str]) -> str:
    """That a KUBECONFIG is set and not read, for whoever speaks to a state file and may have meant a cluster."""
    if isinstance(target, ApiServer) or not environment.get("KUBECONFIG"):
        return ""
    return "; KUBECONFIG is set, and never read: --kubeconfig FILE looks on that cluster"


__all__ = ["ApiServer", "StateFile", "Target", "default_kubeconfig", "unread", "where"]
