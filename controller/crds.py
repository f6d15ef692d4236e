"""The CRDs as files: the text of each, and a directory that holds these and no other of ours. `make crds` calls it.

Deterministic: equal models and drivers give equal bytes, so that `make verify` can compare.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_HEADER = "# Written by `make crds` from the models in controller/api and the cloud drivers installed. Do not edit.\n"


def text(document: dict[str, Any]) -> str:
    """A CRD as the text of its file."""
    return _HEADER + yaml.safe_dump(document, sort_keys=False, width=140, allow_unicode=True)


def write(directory: Path, documents: dict[str, dict[str, Any]]) -> None:
    """Make `directory` hold these CRDs and no other file of ours."""
    directory.mkdir(parents=True, exist_ok=True)
    for stale in directory.glob("*.yaml"):
        if stale.name not in documents and stale.read_text(encoding="utf-8").startswith(_HEADER):
            stale.unlink()
    for name, document in documents.items():
        (directory / name).write_text(text(document), encoding="utf-8")
