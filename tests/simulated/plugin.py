"""The simulated cloud for a process that loads plugins by entry point: one World in real time, gone with the process.

simulated = tests.simulated.plugin:PLUGIN
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from tests.simulated.cloud import plugin
from tests.simulated.world import World

WORLD = World(time.time, epoch=datetime(1970, 1, 1, tzinfo=UTC))
PLUGIN = plugin(WORLD)
