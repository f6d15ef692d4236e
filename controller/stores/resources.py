"""Where each kind lives on a Kubernetes API server: the table from a kind to its paths, and what an object may look like there.

Called by `controller.stores.kubernetes` and its parts. It knows names and paths; requests and answers are no matter of its.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote

from controller import errors
from controller.api import kinds, meta
from controller.ports import Key, Obj

#: What the server gives an object; a creation takes none of it from its caller.
_SERVERS = ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields")


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as the API server serves it. `labels` is a selector: objects without them are none of ours to watch."""

    kind: str
    api_version: str
    plural: str
    status: bool = False
    labels: str = ""

    def __str__(self) -> str:
        """`clouds.occopus.io`, as the server's messages name it."""
        group = self.api_version.rpartition("/")[0]
        return f"{self.plural}.{group}" if group else self.plural

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """Of the collection, or of one object; of all namespaces where that is None."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        within = f"/namespaces/{quote(namespace, safe='')}" if namespace is not None else ""
        one = f"/{quote(name, safe='')}" if name else ""
        return f"{root}{within}/{self.plural}{one}{f'/{subresource}' if subresource else ''}"


_OURS = tuple(Resource(each.kind, meta.API_VERSION, each.plural, status=each.status) for each in kinds.KINDS)
_REVISIONS = Resource("ControllerRevision", "apps/v1", "controllerrevisions", labels=meta.GROUP_LABEL)

#: Read by their names and in lists. Events are read as `v1` shows them, like the file home's; how they are made is in events.py.
RESOURCES: dict[str, Resource] = {
    each.kind: each
    for each in (
        *_OURS,
        _REVISIONS,
        Resource("Secret", "v1", "secrets"),
        Resource("ConfigMap", "v1", "configmaps"),
        Resource("Event", "v1", "events"),
    )
}
#: What a watch tells of. Revisions without our label are those of StatefulSets and DaemonSets. No Secret is ever among them.
WATCHED: tuple[Resource, ...] = (*_OURS, _REVISIONS)
#: Events as they are made and counted.
EVENTS = Resource("Event", "events.k8s.io/v1", "events")


def resource(kind: str) -> Resource:
    """Raises Rejected for a kind that is none of ours."""
    found = RESOURCES.get(kind)
    if found is None:
        raise errors.Rejected(f"{kind or 'object'}", (errors.Cause("kind", f'no matches for kind "{kind}"'),))
    return found


def watched(obj: Obj) -> bool:
    """Whether a watch tells of this object."""
    found = RESOURCES.get(str(obj.get("kind")))
    return found in WATCHED and (not found.labels or found.labels in obj["metadata"].get("labels", {}))


def key(obj: Obj) -> Key:
    """Of an object that the server has shown."""
    metadata = obj["metadata"]
    return Key(obj["kind"], metadata["namespace"], metadata["name"])


def new(obj: Obj, namespace: str) -> Obj:
    """The object as it is sent to be made: without what the server gives it; in `namespace` unless it names one.

    Raises Rejected for what has no path: an unknown kind or version, no name.
    """
    kind, version = obj.get("kind"), obj.get("apiVersion")
    subject = f"{kind or 'object'}"
    if not isinstance(kind, str) or kinds.api_version(kind) is None:
        raise errors.Rejected(subject, (errors.Cause("kind", f'no matches for kind "{kind}" in version "{version}"'),))
    if version != kinds.api_version(kind):
        raise errors.Rejected(subject, (errors.Cause("apiVersion", f'no matches for kind "{kind}" in version "{version}"'),))
    given: Any = obj.get("metadata")
    if not isinstance(given, dict):
        raise errors.Rejected(subject, (errors.Cause("metadata.name", "Required value: name is required"),))
    metadata = {name: value for name, value in cast(Obj, given).items() if name not in _SERVERS}
    if not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise errors.Rejected(subject, (errors.Cause("metadata.name", "Required value: name is required"),))
    if not isinstance(metadata.get("namespace") or "", str):
        raise errors.Rejected(subject, (errors.Cause("metadata.namespace", "Invalid value: must be of type string"),))
    return {**obj, "metadata": {**metadata, "namespace": metadata.get("namespace") or namespace}}


def shown(obj: Obj, of: Resource) -> Obj:
    """An object as the store returns it: with its kind, which items of a list lack, and without the record of who wrote what.

    `managedFields` are as large as the object itself, and nobody here reads them.
    """
    metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    return {"apiVersion": of.api_version, "kind": of.kind, **{k: v for k, v in obj.items() if k not in ("kind", "apiVersion")}} | {
        "metadata": metadata
    }


__all__ = ["EVENTS", "RESOURCES", "WATCHED", "Resource", "key", "new", "resource", "shown", "watched"]
