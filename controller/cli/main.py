"""Entry point of the `occopus` command: options, exit codes, and which module does what.

Exit codes: 0 done; 1 not reached (timeout, a service that cannot come up, interrupted); 2 wrong input or usage, a context that
does not exist too; 3 the state file cannot be used, or the cluster: no answer, no right, no CRDs; 143 ended by SIGTERM. Modules that
are slow to load are loaded by the command that needs them.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn

import click

from controller import errors
from controller.cli import kubectl
from controller.cli.exits import NOT_REACHED, UNUSABLE, WRONG_INPUT
from controller.cli.target import ApiServer, StateFile, Target, default_kubeconfig, unread


def default_state() -> Path:
    """`$XDG_STATE_HOME/occopus/state.db` (XDG Base Directory Specification 0.8)."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "occopus" / "state.db"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    envvar="OCCOPUS_STATE",
    metavar="FILE",
    help="The state file.  [default: $XDG_STATE_HOME/occopus/state.db]",
)
@click.option("--moved", is_flag=True, help="The state file was moved or restored here on purpose, and its original is in use no more.")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Speak to the Kubernetes API server of this kubeconfig instead of a state file.  "
    "[default with --context: ~/.kube/config; KUBECONFIG is never read]",
)
@click.option("--context", "context_name", metavar="NAME", help="The context of the kubeconfig.  [default: its current-context]")
@click.option("-n", "--namespace", metavar="NAME", help="The namespace on the API server.  [default: the context's]")
@click.version_option(package_name="occopus")
@click.pass_context
def cli(context: click.Context, **options: Any) -> None:
    """Describe services on cloud VMs and their order; occopus makes it true and keeps it true.

    Everything is kept in one state file. One process at a time reconciles it (up, run, delete); the others read and edit.

    With --kubeconfig or --context everything is on a Kubernetes API server instead, where the operator reconciles it: status, get,
    scale, console and validate do there what they do here; up, run and delete say which kubectl command does it.

    Exit codes: 0 done, 1 not reached, 2 wrong input, 3 the state file or the cluster cannot be used, 143 SIGTERM.
    """
    context.obj = _target(context, **options)


def _target(
    context: click.Context, state: Path | None, moved: bool, kubeconfig: Path | None, context_name: str | None, namespace: str | None
) -> Target:
    if kubeconfig is None and context_name is None:
        if namespace is not None:
            raise click.UsageError("-n goes with --kubeconfig or --context: a state file has one namespace", context)
        return StateFile(state or default_state(), moved)
    if moved or context.get_parameter_source("state") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--kubeconfig and --context name a cluster, --state and --moved a state file: choose one", context)
    # kubectl with a context alone would read an inherited KUBECONFIG, and speak to somebody else.
    named = kubeconfig is not None or "KUBECONFIG" in os.environ
    return ApiServer(kubeconfig or default_kubeconfig(), context_name, namespace, named)


_files = click.option(
    "-f", "--file", "files", multiple=True, required=True, help="A YAML file, a directory of them, or - for standard input."
)
_output = click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
_timeout = click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds after which to give up waiting.")
_quiet = click.option("-q", "--quiet", is_flag=True, help="Show no progress.")


@cli.command()
@_files
@_timeout
@_quiet
@click.pass_obj
def up(target: Target, files: tuple[str, ...], timeout: float | None, quiet: bool) -> None:
    """Make the documents so and reconcile until all is Ready.

    The machines stay when it ends; nobody heals them until the next `up` or `run`. After Ctrl-C, SIGTERM or a crash the same
    command goes on where it was.
    """
    if isinstance(target, ApiServer):
        _refuse(kubectl.up(target, files))
    from controller.cli import commands

    _run(commands.up(target, files, timeout, quiet))


@cli.command()
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Serve Prometheus metrics on this loopback port.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True)
@click.option(
    "--sweep",
    type=click.Choice(["Report", "Terminate"]),
    default="Report",
    show_default=True,
    help="What to do with machines of ours that belong to nothing.",
)
@click.option("--pid-file", type=click.Path(dir_okay=False, path_type=Path), help="Keep the process id in this file while running.")
@click.pass_obj
def run(target: Target, **options: Any) -> None:
    """Reconcile until stopped (Ctrl-C or SIGTERM)."""
    if isinstance(target, ApiServer):
        _refuse(kubectl.run(target))
    from controller.cli import commands

    _run(commands.run(target, commands.RunOptions(**options)))


@cli.command()
@click.argument("names", nargs=-1)
@_output
@click.option("--wait", is_flag=True, help="Follow until all are Ready, or one of them is deleted (exit code 1).")
@_timeout
@click.pass_obj
def status(target: Target, names: tuple[str, ...], **options: Any) -> None:
    """Show infrastructures: services in order, machines, addresses, and why not. Exits 1 while one is not Ready."""
    from controller.cli import inspect

    _run(inspect.status(target, names, inspect.StatusOptions(**options)))


@cli.command()
@click.argument("kind")
@click.argument("name", required=False)
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@click.pass_obj
def get(target: Target, kind: str, name: str | None, output: str) -> None:
    """Show an object whole, or all of a kind (short names: infra, ig, inst, it)."""
    from controller.cli import inspect

    _run(inspect.get(target, kind, name, output))


@cli.command()
@click.argument("infrastructure")
@click.argument("service")
@click.argument("replicas", type=click.IntRange(0, 10_000))
@click.pass_obj
def scale(target: Target, infrastructure: str, service: str, replicas: int) -> None:
    """Set how many machines a service has. Whoever reconciles makes it so."""
    from controller.cli import commands

    _run(commands.scale(target, infrastructure, service, replicas))


@cli.command()
@click.argument("infrastructure", required=False)
@click.option("--all", "everything", is_flag=True, help="Delete all infrastructures.")
@click.option("--instance", help="Delete this one Instance instead; its group makes another.")
@click.option("--scale-in", is_flag=True, help="With --instance: lower the number of machines instead of replacing it.")
@click.option(
    "-f", "--file", "files", multiple=True, help="Delete the documents of this file: infrastructures first, then their Clouds and the rest."
)
@_timeout
@_quiet
@click.pass_obj
def delete(target: Target, **options: Any) -> None:
    """Delete infrastructures against their order and wait until their machines have ended."""
    if isinstance(target, ApiServer):
        _refuse(kubectl.delete(target, options["infrastructure"], options["instance"], options["files"], scale_in=options["scale_in"]))
    from controller.cli import commands

    _run(commands.delete(target, commands.DeleteOptions(**options)))


@cli.command()
@click.argument("instance")
@click.option(
    "--state-directory",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Over a cluster: where the operator on this computer keeps the machines of local clouds (`make up`: .dev).",
)
@click.pass_obj
def console(target: Target, instance: str, state_directory: Path | None) -> None:
    """Print the tail of an Instance's console. It may show secrets that its user data holds.

    The cloud is asked from here: over a cluster with the Cloud's Secret, if you may read it.
    """
    from controller.cli import console

    _run(console.console(target, instance, state_directory))


@cli.command()
@_files
@click.pass_obj
def validate(target: Target, files: tuple[str, ...]) -> None:
    """Check documents without touching anything: fields, rules, references, templates.

    Over a cluster the API server itself is asked, and references may be to what is there.
    """
    from controller.cli import validate

    _run(validate.validate(target, files))


def _refuse(why: str) -> NoReturn:
    click.echo(f"error: {why}", err=True)
    sys.exit(WRONG_INPUT)


def _run(work: Coroutine[Any, Any, int]) -> None:
    try:
        code = asyncio.run(work)
    except KeyboardInterrupt:
        click.echo("interrupted; the same command goes on where it was", err=True)
        code = NOT_REACHED
    except errors.StoreUnusable as error:
        target: Target = click.get_current_context().obj
        missing = isinstance(target, StateFile) and not target.path.exists()
        click.echo(f"error: {error}{unread(target, os.environ) if missing else ''}", err=True)
        code = UNUSABLE
    except (errors.UsageError, errors.Rejected, errors.ObjectNotFound, errors.ContextError) as error:
        click.echo(f"error: {error}", err=True)
        code = WRONG_INPUT
    except errors.OccopusError as error:
        click.echo(f"error: {error}", err=True)
        code = NOT_REACHED
    sys.exit(code)


def main() -> None:
    cli()


if __name__ == "__main__":
    main()
