"""`python -m controller crds|docs [DIRECTORY]`: writes the CRDs of the drivers installed, or the generated documents.

Deterministic: equal models and drivers give equal bytes, so that `make verify` can compare.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from controller import errors
from controller.api import crd
from controller.clouds import plugins

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


def main(arguments: list[str]) -> int:
    """Exit code 0, or 2 with one sentence on stderr where the drivers' models cannot be CRDs."""
    parser = argparse.ArgumentParser(prog="python -m controller", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    emit = commands.add_parser("crds", help="write the CRDs of the drivers installed")
    emit.add_argument("directory", nargs="?", default="crds", type=Path)
    told = commands.add_parser("docs", help="write the documents that are generated from the code")
    told.add_argument("directory", nargs="?", default="docs", type=Path)
    chosen = parser.parse_args(arguments)
    try:
        installed = plugins.installed()
        if not installed:
            raise errors.UsageError(
                "no cloud driver is installed, so no Cloud could be described: install occopus itself (`pip install -e .`)"
            )
        if chosen.command == "docs":
            from controller import reference  # loads the command line and more, which the CRDs do not need

            reference.write(chosen.directory, reference.documents(installed))
        else:
            write(chosen.directory, crd.crds(installed))
    except errors.UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
