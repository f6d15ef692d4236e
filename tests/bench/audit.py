"""What was written to an API server, by its own audit log."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from tools.control_plane import ControlPlane

_WRITING = frozenset({"create", "update", "patch", "delete"})


class Audit:
    """Counts from `begin` on: one line of the log is one request."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._read = 0

    def begin(self) -> None:
        self._read = self._plane.audit_log.stat().st_size

    def writes(self) -> dict[str, int]:
        """Requests of ours that write, by what they did (`patch instances/status`…)."""
        found: Counter[str] = Counter()
        with self._plane.audit_log.open("rb") as log:
            log.seek(self._read)
            for line in log:
                said: dict[str, Any] = json.loads(line)
                where: dict[str, str] = said.get("objectRef", {})
                if said["verb"] in _WRITING and said["user"]["username"] == "admin":
                    name = "/".join(filter(None, (where.get("resource", ""), where.get("subresource", ""))))
                    found[f"{said['verb']} {name}"] += 1
        return dict(sorted(found.items()))


__all__ = ["Audit"]
