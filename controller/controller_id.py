"""The controller id: in the tags of every machine we make, and the only ground to touch one (design section 5, rule 7).

It has no constant default, since two operators of one id would take each other's machines for lost ones: it is generated once and
kept in a ConfigMap beside the Lease. The operator asks for it as it starts; what the id is used for is not known here.
"""

from __future__ import annotations

import re
import uuid

from controller import errors
from controller.ports import Key, Obj, Store

#: The key of the ConfigMap's data.
DATA_KEY = "controllerId"
#: What each cloud takes as a tag's value, and Kubernetes as a label's (at most 63).
_SAFE = re.compile(r"[A-Za-z0-9]([-.A-Za-z0-9]{0,61}[A-Za-z0-9])?")
#: Each turn after the first means that another process wrote meanwhile; one that starts beside us does so once.
_TURNS = 5


def check(text: str) -> str:
    """The id itself, as a flag or a ConfigMap gave it. Raises UsageError where it cannot be a tag's value."""
    if not _SAFE.fullmatch(text):
        raise errors.UsageError(
            f"the controller id {text!r} cannot be used: 1 to 63 letters, digits, '-' and '.', a letter or digit at both ends"
        )
    return text


async def controller_id(store: Store, namespace: str, name: str = "occopus-controller") -> str:
    """The id kept in that ConfigMap; where there is none a new one is put there, or the one of whoever was faster is taken.

    Raises UsageError where what is kept cannot be an id, and the store's errors: Forbidden names the verb.
    """
    key = Key("ConfigMap", namespace, name)
    for _ in range(_TURNS):
        try:
            return _id_of(key, await _kept(store, key))
        except (errors.AlreadyExists, errors.Conflict):
            continue
    raise errors.Conflict(f"{key} changes faster than the controller id can be put into it")


async def _kept(store: Store, key: Key) -> Obj:
    """The ConfigMap with an id in it, as the API server has it. A key that is there is kept, whatever it holds."""
    try:
        found = await store.get(key)
    except errors.ObjectNotFound:
        return await store.create(_config_map(key))
    if DATA_KEY in (found.get("data") or {}):
        return found
    return await store.patch(key, {"data": {DATA_KEY: str(uuid.uuid4())}}, version=found["metadata"]["resourceVersion"])


def _id_of(key: Key, config_map: Obj) -> str:
    try:
        return check(config_map["data"][DATA_KEY])
    except errors.UsageError as error:
        # A new one in its place would make every machine a stranger's.
        raise errors.UsageError(f"{key}, key {DATA_KEY}: {error}; put back the id that the machines' tags have") from None


def _config_map(key: Key) -> Obj:
    # Immutable: by a slip in an editor all machines would be strangers', and be made anew.
    metadata = {"name": key.name, "namespace": key.namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {DATA_KEY: str(uuid.uuid4())}, "immutable": True}


__all__ = ["DATA_KEY", "check", "controller_id"]
