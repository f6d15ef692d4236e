"""What an API server does with a few objects, as far as the election relies on it: one version a write, merge patches at a version.

`Objects.answer` is the server's side of one request, done at one moment; how requests and answers travel is network.py's and
server.py's matter.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from controller.ports import Obj
from controller.stores import merge

#: A status and a body.
Answer = tuple[int, Obj]


@dataclass(slots=True)
class Objects:
    """Objects by path (`/apis/…/leases/occopus`). `refuse` answers a request in the server's stead, if it wants to."""

    stored: dict[str, Obj] = field(default_factory=dict[str, Obj])
    version: int = 0
    refuse: Callable[[str, str], Answer | None] = lambda method, path: None
    #: `METHOD path status` of each request.
    log: list[str] = field(default_factory=list[str])
    #: Holders of Leases, in order, each change once.
    holders: list[str] = field(default_factory=list[str])

    def answer(self, method: str, path: str, data: bytes | None) -> Answer:
        body: Obj = json.loads(data) if data else {}
        code, found = self.refuse(method, path) or self._done(method, path, body)
        self.log.append(f"{method} {path} {code}")
        return code, copy.deepcopy(found)

    def put(self, path: str, obj: Obj) -> Obj:
        """Store an object, whoever does it."""
        self.version += 1
        name = path.rpartition("/")[2]
        metadata = {**obj.get("metadata", {}), "name": name, "namespace": "occopus", "resourceVersion": str(self.version)}
        self.stored[path] = {**obj, "metadata": metadata}
        holder = obj.get("spec", {}).get("holderIdentity", "")
        if holder and self.holders[-1:] != [holder]:
            self.holders.append(holder)
        return self.stored[path]

    def touch(self, path: str) -> None:
        """Somebody labels the object, which is a new version of it."""
        if path in self.stored:
            self.put(path, self.stored[path])

    def _done(self, method: str, path: str, body: Obj) -> Answer:
        if method == "POST":
            whole = f"{path}/{body['metadata']['name']}"
            return refused(409, "AlreadyExists", whole) if whole in self.stored else (201, self.put(whole, body))
        found = self.stored.get(path)
        if found is None:
            return refused(404, "NotFound", path)
        if method == "GET":
            return 200, found
        assert method == "PATCH", method
        if body["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
            return refused(409, "Conflict", path)
        return 200, self.put(path, merge.apply(found, body))


def refused(code: int, reason: str, path: str, message: str = "") -> Answer:
    """A `Status` about the object at that path."""
    *_, plural, name = path.split("/")
    details: dict[str, Any] = {"name": name, "kind": plural}
    return code, {"kind": "Status", "reason": reason, "message": message or f'{plural} "{name}": {reason}', "details": details}
