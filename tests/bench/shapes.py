"""The infrastructures that the bench brings up, as documents. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.ports import Obj

NAME = "shop"
#: Longer than any boot that the bench draws, whatever the machine does meanwhile.
_STARTUP_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Shape:
    """Services by name with the services that each depends on, and how many machines each has."""

    title: str
    needs: Mapping[str, Sequence[str]]
    replicas: int = 1
    probes: Sequence[Mapping[str, Any]] = field(default_factory=lambda: ({"name": "up", "tcp": {"port": 80}},))

    @property
    def machines(self) -> int:
        return len(self.needs) * self.replicas


def chain(length: int) -> Shape:
    """Each service depends on the one before it."""
    return Shape(f"chain of {length}", {f"s{number:02}": [f"s{number - 1:02}"] if number else [] for number in range(length)})


def layers(depth: int, width: int) -> Shape:
    """Each service of a layer depends on every service of the layer before it."""
    names = [[f"s{layer:02}-{place:02}" for place in range(width)] for layer in range(depth)]
    return Shape(
        f"{depth} layers of {width}, all edges between",
        {name: (names[layer - 1] if layer else []) for layer in range(depth) for name in names[layer]},
    )


def flat(services: int, replicas: int) -> Shape:
    """Services that depend on nothing."""
    plural = "service" if services == 1 else "services"
    return Shape(f"{services} {plural} of {replicas}", {f"s{number:02}": [] for number in range(services)}, replicas)


def documents(shape: Shape, kind: str = "simulated", machine: Mapping[str, Any] | None = None) -> list[Obj]:
    """Cloud, template and Infrastructure; the Cloud has room for twice what is wanted."""
    return [
        _document("Cloud", "sim", {"maxInstances": 2 * shape.machines, kind: {}}),
        _document("InstanceTemplate", "plain", _template(shape, kind, machine or {"image": "debian"})),
        _document("Infrastructure", NAME, {"services": [_service(name, needs, shape.replicas) for name, needs in shape.needs.items()]}),
    ]


def _template(shape: Shape, kind: str, machine: Mapping[str, Any]) -> Obj:
    text = "#cloud-config\nwrite_files:\n- {path: /etc/name, content: '{{ instance.name }}'}\n"
    return {
        "implementations": [{"name": "one", "cloudRef": {"name": "sim"}, kind: dict(machine)}],
        "context": {"cloudInit": {"template": text}},
        "health": {"startupSeconds": _STARTUP_SECONDS, "probes": [dict(each) for each in shape.probes]},
    }


def _service(name: str, needs: Sequence[str], replicas: int) -> Obj:
    depends = {"dependsOn": [{"service": each} for each in needs]} if needs else {}
    return {"name": name, "templateRef": {"name": "plain"}, "replicas": replicas, **depends}


def _document(kind: str, name: str, spec: Obj) -> Obj:
    return {"apiVersion": "occopus.io/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec}


__all__ = ["NAME", "Shape", "chain", "documents", "flat", "layers"]
