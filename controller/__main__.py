"""`python -m controller`: the operator; with `crds` or `docs` it writes what is generated from the models.

Flags and environment variables, no decisions. What is slow to load is loaded by the command that needs it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

from controller import errors
from controller.cli.exits import WRONG_INPUT

#: kopf loads these if it finds them, 20 and 60 MB that the operator has no use for (reference of kopf, section 2).
_NOT_FOR_KOPF = ("kubernetes", "kubernetes_asyncio")
_PORT = click.IntRange(0, 65535)


def _default_state() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "occopus"


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "auto_envvar_prefix": "OCCOPUS"},
)
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    show_envvar=True,
    help="How to reach the API server.  [default: the service account of the pod; KUBECONFIG is never read]",
)
@click.option(
    "--namespaces",
    multiple=True,
    show_envvar=True,
    help="Serve this namespace alone; may be repeated. One that may not be listed is left out while that is so.  [default: all]",
)
@click.option(
    "--own-namespace", show_envvar=True, help="Where the Lease and the controller id are kept.  [default: the credentials' namespace]"
)
@click.option(
    "--lease",
    default="occopus-controller",
    show_default=True,
    show_envvar=True,
    help="The name of the Lease, and of the ConfigMap with the controller id. Operators that share it take turns.",
)
@click.option(
    "--controller-id",
    show_envvar=True,
    help="What the machines' tags say whose they are.  [default: made once, kept in a ConfigMap beside the Lease]",
)
@click.option(
    "--bind-address", default="127.0.0.1", show_default=True, show_envvar=True, help="Where /healthz, /readyz and /metrics are served."
)
@click.option("--health-port", type=_PORT, default=8081, show_default=True, show_envvar=True, help="For /healthz and /readyz; 0: none.")
@click.option("--metrics-port", type=_PORT, default=8080, show_default=True, show_envvar=True, help="For /metrics; 0: none.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, show_envvar=True)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True, show_envvar=True)
@click.option(
    "--local-clouds/--no-local-clouds",
    default=False,
    show_default=True,
    show_envvar=True,
    help="Let Clouds of kind local start processes on this computer, and others have endpoints and machines on it.",
)
@click.option(
    "--state-directory",
    type=click.Path(path_type=Path),
    show_envvar=True,
    help="Where local clouds keep their machines.  [default: $XDG_STATE_HOME/occopus]",
)
@click.option(
    "--ambient-credentials/--no-ambient-credentials",
    default=False,
    show_default=True,
    show_envvar=True,
    help="Let Clouds without credentials use this process' own: whoever may create a Cloud then may use them.",
)
@click.option(
    "--sweep",
    type=click.Choice(["Report", "Terminate"]),
    default="Report",
    show_default=True,
    show_envvar=True,
    help="What to do with machines of ours that belong to nothing.",
)
@click.option("--pid-file", type=click.Path(dir_okay=False, path_type=Path), show_envvar=True, help="Keep the process id here.")
@click.version_option(package_name="occopus")
@click.pass_context
def cli(context: click.Context, **flags: Any) -> None:
    """Reconcile the infrastructures of a Kubernetes API server until SIGTERM.

    Exit codes: 0 told to stop, 1 a part failed, the Lease was lost, or other namespaces may be served (start it again), 2 wrong flags,
    3 the CRDs do not fit.
    """
    if context.invoked_subcommand is None:
        _operate(flags)


def _operate(flags: dict[str, Any]) -> None:
    for name in _NOT_FOR_KOPF:
        sys.modules[name] = None  # type: ignore[assignment]  # what the import system takes for "there is none"
    from controller import logs, process

    logs.configure(flags["log_format"], flags["log_level"])
    pid_file: Path | None = flags["pid_file"]
    if pid_file is not None:
        pid_file.write_text(f"{os.getpid()}\n")
    try:
        code = asyncio.run(process.run(process.options(flags, _default_state())))
    except errors.UsageError as error:
        click.echo(f"error: {error}", err=True)
        code = WRONG_INPUT
    except Exception:
        # Crash-only: to let it pass would wait for threads in which a driver's call may hang.
        logging.getLogger(__name__).exception("A part of the operator has died")
        code = process.DIED
    if pid_file is not None:
        pid_file.unlink(missing_ok=True)
    process.end_now(code)


@cli.command("crds")
@click.argument("directory", type=click.Path(path_type=Path), default="crds")
def _crds(directory: Path) -> None:
    """Write the CRDs of the drivers installed."""
    from controller import crds
    from controller.api import crd

    crds.write(directory, crd.crds(_installed()))


@cli.command("docs")
@click.argument("directory", type=click.Path(path_type=Path), default="docs")
def _docs(directory: Path) -> None:
    """Write the documents that are generated from the code."""
    from controller import reference

    reference.write(directory, reference.documents(_installed(), cli))


def _installed() -> Any:
    from controller.clouds import plugins

    installed = plugins.installed()
    if not installed:
        raise errors.UsageError("no cloud driver is installed, so no Cloud could be described: install occopus itself (`pip install -e .`)")
    return installed


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 2 with one sentence on stderr where the flags or the drivers' models are wrong."""
    try:
        cli.main(arguments, prog_name="python -m controller", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return WRONG_INPUT
    except errors.UsageError as error:
        click.echo(f"error: {error}", err=True)
        return WRONG_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
