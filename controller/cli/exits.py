"""Exit codes of the `occopus` command; 0 is done."""

from __future__ import annotations

#: Not reached: a timeout, a service that cannot come up, interrupted.
NOT_REACHED = 1
#: Wrong input or usage.
WRONG_INPUT = 2
#: The state file or the cluster cannot be used.
UNUSABLE = 3
#: Ended by SIGTERM: 128 + 15, what a shell says of any program.
TERMINATED = 143
