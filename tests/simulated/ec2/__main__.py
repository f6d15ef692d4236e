"""The light EC2 as a process, for tests that want real ones: a World in real time, gone with it.

`python -m tests.simulated.ec2 --port-file F` serves until SIGTERM or SIGINT; F then holds the endpoint's URL. With
`--ledger F` the calls are written there at the end, a JSON object a line. With `--machines-port P` each machine has a loopback
address of its own and answers there at P, see `answering`; CreateTags with `light-ec2/page` (Serves, Fails, Hangs, Refuses)
says how.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from tests.simulated.ec2.answering import answering
from tests.simulated.ec2.asked import Behaviour
from tests.simulated.ec2.face import LightEc2
from tests.simulated.ec2.server import serve
from tests.simulated.world import Settings, World


def main() -> None:
    options = _options()
    settings = Settings(
        boot_seconds=lambda rng: rng.uniform(*options.boot_seconds),
        health_seconds=lambda rng: rng.uniform(*options.health_seconds),
        terminating_seconds=options.terminating_seconds,
        lag_seconds=options.lag_seconds,
    )
    world = World(time.time, seed=options.seed, epoch=datetime(1970, 1, 1, tzinfo=UTC), settings=settings)
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, end)
    light = LightEc2(world, behaviour=Behaviour(throttles=options.throttle))
    with contextlib.ExitStack() as stack:
        if options.machines_port is not None:
            stack.enter_context(answering(light, options.machines_port))
        url = stack.enter_context(serve(light, options.port))
        _write(options.port_file, url + "\n")
        ended.wait()
    if options.ledger:
        _write(options.ledger, "".join(json.dumps(dataclasses.asdict(call)) + "\n" for call in world.ledger))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulated.ec2", description="A light EC2 on 127.0.0.1.")
    parser.add_argument("--port-file", type=Path, required=True, help="where to write the endpoint's URL, once it serves")
    parser.add_argument("--port", type=int, default=0, help="the port; a free one unless given")
    parser.add_argument("--ledger", type=Path, help="where to write all calls at the end, as JSON lines")
    parser.add_argument("--seed", type=int, default=0, help="of the boot times")
    parser.add_argument("--boot-seconds", type=float, nargs=2, default=(1.0, 3.0), metavar=("LEAST", "MOST"), help="pending to running")
    parser.add_argument("--machines-port", type=int, metavar="PORT", help="the port at which machines answer; none unless given")
    parser.add_argument("--health-seconds", type=float, nargs=2, default=(0.0, 1.0), metavar=("LEAST", "MOST"), help="running to answering")
    parser.add_argument("--terminating-seconds", type=float, default=1.0, help="shutting-down to terminated")
    parser.add_argument("--lag-seconds", type=float, default=0.0, help="how late reads show the truth")
    parser.add_argument("--throttle", action="store_true", help="throttle as EC2 publishes it")
    return parser.parse_args()


def _write(path: Path, text: str) -> None:
    """Whole or not at all: who waits for the file never reads a part."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)


if __name__ == "__main__":
    main()
