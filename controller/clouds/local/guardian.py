"""The guardian of one local machine: `python -m controller.clouds.local.guardian <directory>`, started by the local cloud.

It is the machine's init: it takes the lock that says the machine lives, runs the user data once, as cloud-init would,
adopts what its commands leave behind, and lives until it is ended. It decides nothing about the machine's fate and knows
nothing of the controller, which it outlives. Its standard output is the machine's console.

Understood are `bootcmd`, `write_files` and `runcmd` of a `#cloud-config`, a text that begins `#!`, and either of them
compressed by gzip. As with cloud-init a command that fails is logged and the rest goes on.
"""

from __future__ import annotations

import base64
import ctypes
import gzip
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from controller.clouds.local import records

#: <linux/prctl.h>: orphans among our descendants become our children, so that they stay findable and are reaped.
_PR_SET_CHILD_SUBREAPER = 36
_UNDERSTOOD = ("bootcmd", "write_files", "runcmd")
#: Python ignores these, or the shell that started us does; the machine's commands get the default again.
_RESET_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT)
_SHELL = "/bin/sh"
_GZIP_MAGIC = b"\x1f\x8b"


class Unusable(Exception):
    """A part of the user data that cannot be done; it is logged and the rest goes on."""


def log(text: str) -> None:
    """Write one line to the console."""
    os.write(1, f"[occopus] {text}\n".encode(errors="replace"))


# --- running --------------------------------------------------------------------------------------------------------
def run(command: list[str], environment: dict[str, str]) -> str:
    """Run a command to its end, reap what ends meanwhile, and say how it ended."""
    try:
        pid = os.posix_spawnp(command[0], command, environment, setsigdef=_RESET_SIGNALS)
    except (OSError, ValueError) as error:
        raise Unusable(f"cannot be started: {error}") from error
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return f"exit status {code}" if code >= 0 else f"ended by signal {-code}"


def as_command(item: object) -> list[str]:
    """A string goes to the shell, a list is run as it is."""
    if isinstance(item, str):
        return [_SHELL, "-c", item]
    if isinstance(item, list) and item:
        return [str(each) for each in cast("list[object]", item)]
    raise Unusable("is neither a text nor a list")


def attempt(what: str, action: Callable[[], str]) -> None:
    try:
        log(f"{what}: {action()}")
    except Unusable as error:
        log(f"{what}: {error}")


# --- write_files ----------------------------------------------------------------------------------------------------
def decode(content: str | bytes, encoding: str) -> bytes:
    """The bytes of a file, by cloud-init's names of encodings."""
    data = content.encode() if isinstance(content, str) else content
    words = encoding.lower().replace("base64", "b64").replace("gzip", "gz").split("+") if encoding else []
    if words and words != ["text/plain"] and set(words) - {"b64", "gz"}:
        raise Unusable(f"encoding {encoding!r} is not known")
    try:
        data = base64.b64decode(data) if "b64" in words else data
        return gzip.decompress(data) if "gz" in words else data
    except (ValueError, OSError, EOFError) as error:
        raise Unusable(f"is not {encoding}: {error}") from error


def permissions(value: object) -> int:
    """A text is octal; YAML has read a bare number already (`0644` as octal)."""
    if value is None:
        return 0o644
    try:
        mode = int(value, 8) if isinstance(value, str) else int(cast("int", value))
    except (TypeError, ValueError) as error:
        raise Unusable(f"permissions {value!r} are not octal") from error
    if not 0 <= mode <= 0o7777:
        raise Unusable(f"permissions {value!r} are out of range")
    return mode


def below(root: Path, path: str) -> Path:
    """The place of a machine's absolute path; never outside of its root, through a link neither."""
    place = root / os.path.normpath("/" + path).lstrip("/")
    if not place.resolve().is_relative_to(root.resolve()) or place == root:
        raise Unusable(f"{path} leaves the machine's root")
    return place


def write_file(root: Path, entry: object) -> str:
    """Write one entry of `write_files`."""
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):  # pyright: ignore[reportUnknownMemberType] -- YAML
        raise Unusable("has no path")
    fields = cast("dict[str, Any]", entry)
    content = fields.get("content", "")
    data = decode(content if isinstance(content, bytes) else str(content), str(fields.get("encoding") or ""))
    mode = permissions(fields.get("permissions"))
    place = below(root, fields["path"])
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("ab" if fields.get("append") else "wb") as file:
            # Before the content: it may be a secret.
            os.fchmod(file.fileno(), mode)
            file.write(data)
    except OSError as error:
        raise Unusable(f"cannot be written: {error.strerror}") from error
    return f"wrote {fields['path']}"


# --- user data ------------------------------------------------------------------------------------------------------
def contextualise(user_data: bytes, root: Path, environment: dict[str, str]) -> None:
    """Do what the user data says."""
    if user_data.startswith(_GZIP_MAGIC):
        try:
            user_data = gzip.decompress(user_data)
        except (OSError, EOFError) as error:
            raise Unusable(f"is not gzip: {error}") from error
    if user_data.startswith(b"#!"):
        script = root.parent / "script"
        script.write_bytes(user_data)
        script.chmod(0o700)
        attempt("script", lambda: run([str(script)], environment))
    elif user_data.startswith(b"#cloud-config"):
        apply_config(load(user_data), root, environment)
    elif user_data.strip():
        raise Unusable("begins with neither #cloud-config nor #!")


def load(user_data: bytes) -> dict[str, object]:
    import yaml  # here, for it takes longer to load than all else, and the lock must not wait for it

    try:
        config: object = yaml.safe_load(user_data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Unusable("is not YAML") from error
    if config is not None and not isinstance(config, dict):
        raise Unusable("is not a mapping")
    return cast("dict[str, object]", config or {})


def apply_config(config: dict[str, object], root: Path, environment: dict[str, str]) -> None:
    """cloud-init's order: bootcmd, write_files, runcmd."""
    for key in config:
        if key not in _UNDERSTOOD:
            log(f"{key}: not done on a local machine")
    for key in _UNDERSTOOD:
        items: object = config.get(key) or []
        if not isinstance(items, list):
            log(f"{key}: is not a list")
            continue
        for number, item in enumerate(cast("list[object]", items)):
            if key == "write_files":
                attempt(f"{key}[{number}]", lambda item=item: write_file(root, item))
            else:
                # The command's text stays out of the console: it may hold a secret.
                attempt(f"{key}[{number}]", lambda item=item: run(as_command(item), environment))


# --- life -----------------------------------------------------------------------------------------------------------
def start(directory: Path) -> records.Record | None:
    """Take the lock and note that this guardian has started, or None: it has another, or has had one, or is to end."""
    with records.locked(directory):
        record = records.read(directory)
        if record["state"] != "pending" or record["pid"] or records.take_guardian_lock(directory) is None:
            return None
        record["pid"] = os.getpid()
        records.write(directory, record)
    return record


def boot(directory: Path, seconds: float) -> bool:
    """Take the time that a machine takes to boot, then say that it runs; False if it is to end meanwhile."""
    select.select([], [], [], seconds)
    with records.locked(directory):
        record = records.read(directory)
        if record["state"] != "pending":
            return False
        record["state"] = "running"
        records.write(directory, record)
    return True


def machine_environment(root: Path) -> dict[str, str]:
    """What the machine's commands see: nothing of the controller's own, which may hold credentials."""
    kept = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "USER", "LOGNAME")
    ours = (records.MARK_VARIABLE, records.MACHINE_VARIABLE, records.ADDRESS_VARIABLE)
    environment = {name: os.environ[name] for name in (*kept, *ours) if name in os.environ}
    return environment | {records.ROOT_VARIABLE: str(root), "HOME": str(root)}


def live() -> None:
    """Reap orphans until the end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        reap()
        signal.sigwait({signal.SIGCHLD})


def reap() -> None:
    """Collect every child that has ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def main(directory: Path) -> None:
    os.setsid()
    os.umask(0o022)
    record = start(directory)
    if record is None:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    root = directory / records.ROOT
    os.chdir(root)
    if not boot(directory, record["bootSeconds"]):
        return
    try:
        contextualise((directory / records.USER_DATA).read_bytes(), root, machine_environment(root))
    except Unusable as error:
        log(f"user data {error}")
    log("user data done")
    live()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
