"""Immutable snapshots of a template, named by what its user wrote. Pure.

The hash covers the fields the user set and the text of a ConfigMap template; defaults are in neither, so an upgrade of ours
never looks like a change of a template (`hashVersion` says by which rule it was made).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

HASH_VERSION = 1


def data(template_spec: dict[str, Any], text: str | None) -> dict[str, Any]:
    """What a ControllerRevision keeps: the template's spec as stored, a ConfigMap's text put in its place."""
    spec = json.loads(json.dumps(template_spec))
    if text is not None and "cloudInit" in spec.get("context", {}):
        spec["context"]["cloudInit"] = {"template": text}
    return {"hashVersion": HASH_VERSION, "spec": spec}


def name(group: str, revision: dict[str, Any]) -> str:
    """`<group>-<hash>`: equal content, equal name."""
    text = json.dumps(revision, sort_keys=True, separators=(",", ":"))
    return f"{group}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
