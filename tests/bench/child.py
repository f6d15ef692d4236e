"""One measurement in a process of its own: `python -m tests.bench.child NAME NUMBERS…`; its JSON on standard output."""

from __future__ import annotations

import json
import sys

from tests.bench import ec2, ec2_kubernetes, idle, kubernetes, scale

MEASUREMENTS = {
    "scale": scale.measure,
    "idle": idle.measure,
    "kubernetes": kubernetes.measure,
    "ec2": ec2.measure,
    "ec2_kubernetes": ec2_kubernetes.measure,
}


def main() -> None:
    name, *numbers = sys.argv[1:]
    json.dump(MEASUREMENTS[name](*map(int, numbers)), sys.stdout)


if __name__ == "__main__":
    main()
