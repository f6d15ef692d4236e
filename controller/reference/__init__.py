"""Writes the reference: the API by kind and field, reasons with their way out, metrics, the command line.

Called by `python -m controller docs`. Everything comes from where it is decided (the emitted CRDs and their models, the list
of reasons, the registry of metrics, the click commands), so a document cannot say anything else than the code. Deterministic:
equal code gives equal bytes. It knows no driver beyond its two models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from controller.ports import CloudPlugin
from controller.reference import api, commands, metrics, troubleshooting

HEADER = "<!-- Written by `make docs` from the code. Do not edit. -->\n"


def documents(plugins: Sequence[CloudPlugin], operator_command: click.Group) -> dict[str, str]:
    """Path below the documents' directory → text. Raises UsageError where a driver's model cannot be part of a CRD."""
    return {
        "reference/api.md": HEADER + api.page(plugins),
        "reference/cli.md": HEADER + commands.occopus(),
        "reference/metrics.md": HEADER + metrics.page(),
        "reference/operator.md": HEADER + commands.operator(operator_command),
        "troubleshooting.md": HEADER + troubleshooting.page(),
    }


def write(directory: Path, texts: Mapping[str, str]) -> None:
    """Write the documents; whatever else is in the directory stays."""
    for name, text in texts.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")


__all__ = ["HEADER", "documents", "write"]
