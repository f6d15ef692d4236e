"""The process that renders: one JSON request a line on stdin, one JSON reply a line on stdout, until stdin ends.

Started and killed by `renderer`, as `python -m controller.context.child <bytes of memory> <seconds of processor time>`. It bounds
its own memory and processor time, so that a template can harm nothing but it; wall-clock time is its parent's business. Nothing it is
told is written anywhere but into the reply: no log, no traceback, no core dump.
"""

from __future__ import annotations

import base64
import json
import resource
import signal
import sys
from pathlib import Path
from typing import IO, Any

from controller import errors
from controller.context import cloudinit


def main() -> None:
    """Answer requests. The first line says that the child is ready, so that starting is on nobody's time."""
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    _bound_memory(int(sys.argv[1]))
    seconds = float(sys.argv[2])
    _send(replies, {"ready": True})
    for line in requests:
        # SIGPROF, which nobody handles, ends the process once that time was used, however long the machine takes to give it.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        reply = _reply(line)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(replies, reply)
        if "memory" in reply:
            # What the failed render left behind may be in the way of the next one.
            return


def _send(replies: IO[bytes], reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply).encode() + b"\n")
    replies.flush()


def _reply(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
        data = cloudinit.user_data(request["template"], request["name"], request["values"], request["limit_bytes"])
        return {"data": base64.b64encode(data).decode()}
    except errors.TemplateError as error:
        return {"template": [error.line, error.column, error.why]}
    except errors.TooLarge as error:
        return {"size": [error.size_bytes, error.compressed_bytes]}
    except MemoryError:
        return {"memory": True}
    except Exception as error:  # noqa: BLE001 (a fault of ours: its type goes to the parent, its text may quote a value)
        return {"fault": type(error).__name__}


def _bound_memory(beyond_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":
        # Elsewhere the address space is not counted so; there the bounds are time and the length of the text.
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        bound = pages * resource.getpagesize() + beyond_bytes
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


if __name__ == "__main__":
    main()
