"""The pages of the two commands, from what click knows of them."""

from __future__ import annotations

import inspect

import click

from controller.cli import exits, main
from controller.reference.tables import table

EXIT_CODES: tuple[tuple[int, str], ...] = (
    (0, "Done."),
    (main.NOT_REACHED, "Not reached: the time was over, a service cannot come up, something is not Ready, or it was interrupted."),
    (main.WRONG_INPUT, "Wrong input or usage; nothing was changed."),
    (
        main.UNUSABLE,
        "The state file cannot be used: locked, copied, damaged, read-only or of a newer version. "
        "Or the cluster cannot: no answer, a right that is missing, CRDs that are not applied.",
    ),
    (exits.TERMINATED, "`up` or `delete` was ended by SIGTERM, in order as by Ctrl-C: the same command goes on where it was."),
)


def occopus() -> str:
    """`reference/cli.md`."""
    top = click.Context(main.cli, info_name="occopus", **main.cli.context_settings)
    parts = ["# The `occopus` command\n", _command(main.cli, top), "## Exit codes\n"]
    parts.append(table(("Code", "Meaning"), ((str(code), meaning) for code, meaning in EXIT_CODES)))
    for name in sorted(main.cli.commands):
        command = main.cli.commands[name]
        parts += [f"## occopus {name}\n", _command(command, click.Context(command, info_name=name, parent=top))]
    return "\n".join(parts)


def operator(command: click.Group) -> str:
    """`reference/operator.md`."""
    top = click.Context(command, info_name="python -m controller", **command.context_settings)
    return f"# The operator\n\n{_command(command, top)}"


def _command(command: click.Command, context: click.Context) -> str:
    usage = " ".join((context.command_path, *command.collect_usage_pieces(context)))
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in inspect.cleandoc(command.help or "").split("\n\n"))
    records = [each.get_help_record(context) for each in command.get_params(context) if isinstance(each, click.Option)]
    rows = ((f"`{record[0]}`", record[1]) for record in records if record is not None)
    return f"```\n{usage}\n```\n\n{text}\n\n" + table(("Option", "What it does"), rows)


__all__ = ["EXIT_CODES", "occopus", "operator"]
