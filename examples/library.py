"""Brings the quickstart up by `import occopus`, says of each service when it becomes Ready, and takes it down on request.

    python examples/library.py [STATE_FILE]        # without: a state file that is removed at the end
    python examples/library.py --delete STATE_FILE # take down what was left there

With a state file the machines stay when the program ends, and the `occopus` command can go on with them.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import occopus

QUICKSTART = Path(__file__).with_name("quickstart.yaml")
NAME = "quickstart"


def row(desktop: occopus.Desktop) -> occopus.InfrastructureRow | None:
    """How the quickstart stands; None when there is none."""
    found = occopus.infrastructures(desktop.objects, datetime.now(UTC), [NAME])
    return found[0] if found else None


async def bring_up(desktop: occopus.Desktop) -> None:
    """Apply the documents, and follow until all is Ready."""
    await desktop.apply(occopus.load((str(QUICKSTART),)))
    told: set[str] = set()
    async for _ in desktop.changes():
        now = row(desktop)
        if now is None:
            continue  # what was applied shows with the next change
        for service in now.services:
            if service.ready and service.name not in told:
                told.add(service.name)
                print(f"{service.name} is Ready at {service.address}", flush=True)
        if now.ready:
            return


async def take_down(desktop: occopus.Desktop) -> None:
    """Delete the infrastructure, and wait until its machines have ended."""
    if row(desktop) is None:
        return
    await desktop.delete(occopus.Key("Infrastructure", "default", NAME))
    async for _ in desktop.changes():
        if row(desktop) is None:
            print(f"{NAME} is gone", flush=True)
            return


async def main(state: Path, *, up: bool, down: bool) -> None:
    # As long as this block runs, the engine keeps what is described true.
    async with occopus.run(occopus.Settings(state)) as desktop:
        try:
            if up:
                await bring_up(desktop)
        finally:
            # After Ctrl-C too: machines outlive this program.
            if down:
                await take_down(desktop)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("state", nargs="?", type=Path)
    parser.add_argument("--delete", action="store_true")
    chosen = parser.parse_args()
    try:
        if chosen.state is not None:
            asyncio.run(main(chosen.state, up=not chosen.delete, down=chosen.delete))
        else:
            with tempfile.TemporaryDirectory() as directory:
                asyncio.run(main(Path(directory, "state.db"), up=True, down=True))
    except occopus.errors.OccopusError as error:
        raise SystemExit(f"error: {error}") from error
