"""Whether the CRDs that an API server serves are fit for this process: asked once, before anything is reconciled.

By OpenAPI, which every user may read, where the CRDs themselves need a right of their own. It decides by what the models and the
drivers installed need; the process ends with the sentence it is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from controller.api import kinds, meta
from controller.ports import CloudPlugin

#: Where an API server publishes the schemas of our group (OpenAPI v3, Kubernetes 1.27 and later).
PATH = f"/openapi/v3/apis/{meta.API_VERSION}"
#: How our kinds are called there: the group backwards.
_PREFIX = ".".join((*reversed(meta.GROUP.split(".")), meta.API_VERSION.rpartition("/")[2]))


def faults(document: dict[str, Any], plugins: Sequence[CloudPlugin]) -> tuple[str, ...]:
    """What is wrong with the CRDs served, one sentence each. `document` is what the server answers at PATH; {} for 404."""
    schemas: dict[str, Any] = document.get("components", {}).get("schemas", {})
    missing = sorted(each.plural for each in kinds.KINDS if f"{_PREFIX}.{each.kind}" not in schemas)
    if missing:
        return (f"the API server serves no {', '.join(missing)} of {meta.API_VERSION}: apply the CRDs (kubectl apply -f crds/)",)
    return (*_without_launch_rule(schemas), *_without_arms(schemas, plugins))


def _without_launch_rule(schemas: dict[str, Any]) -> Iterator[str]:
    """The API itself keeps the one record whose loss could mean a second machine (design section 3)."""
    rules = {each["rule"] for each in schemas[f"{_PREFIX}.Instance"].get("x-kubernetes-validations", ())}
    if not {each["rule"] for each in kinds.BY_KIND["Instance"].rules} <= rules:
        yield "the CRD of instances lacks the rule that keeps status.launch: apply the CRDs of this version (kubectl apply -f crds/)"


def _without_arms(schemas: dict[str, Any], plugins: Sequence[CloudPlugin]) -> Iterator[str]:
    served: dict[str, Any] = schemas[f"{_PREFIX}.Cloud"].get("properties", {}).get("spec", {}).get("properties", {})
    for plugin in plugins:
        if plugin.kind not in served:
            yield (
                f"the CRD of clouds has no field {plugin.kind} for the driver {plugin.kind} that is installed: emit the CRDs with "
                "this installation (python -m controller crds DIRECTORY) and apply them"
            )


__all__ = ["PATH", "faults"]
