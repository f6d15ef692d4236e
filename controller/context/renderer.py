"""The `Renderer` port: renders in one long-lived child process, which is killed and replaced when it exceeds its bounds.

Made and closed by the shell, called by the launcher. Templates are written by whoever may write an InstanceTemplate, and
Jinja2's sandbox bounds neither time nor memory (`'a' * 10**9` renders). It refuses to know what a template is.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import TYPE_CHECKING, Any

import controller
from controller import errors

if TYPE_CHECKING:
    from controller.ports import RenderRequest

#: A render takes 5 ms; one that takes this much longer is a loop.
RENDER_SECONDS = 2.0
#: What a render may take beyond the interpreter with its modules: a template of 64 KiB takes under 10 MiB.
MEMORY_BYTES = 128 * 1024 * 1024
#: Starting takes 0.2 s; a busy machine may take many times that, and no template is at fault then.
START_SECONDS = 30.0
#: The longest reply: base64 of the longest user data (1 Mi characters, up to 4 bytes each) and its wrapping.
_REPLY_BYTES = 8 * 1024 * 1024


#: A child that is gone was ended by the kernel: the C stack overflowed, or memory or processor time ran out.
_ENDED = {"why": "rendering ended the process it ran in: it needed more memory, depth or time than a template may"}


class _Died(Exception):
    """The child ended, or its pipe did, before it answered."""


class ChildRenderer:
    """Implements `Renderer`. One render at a time; whoever waits is not harmed by a render that kills the child.

    Bound to the event loop it is first used in; `close` ends the child. Raises plain ContextError where no child starts.
    """

    def __init__(self, render_seconds: float = RENDER_SECONDS, memory_bytes: int = MEMORY_BYTES) -> None:
        self._render_seconds = render_seconds
        self._memory_bytes = memory_bytes
        self._turn = asyncio.Lock()
        self._child: Process | None = None
        self._used = False

    async def render(self, request: RenderRequest) -> bytes:
        """Raises TemplateError, TooLarge; see the port."""
        async with self._turn:
            return _result(await self._answer(request), request)

    async def close(self) -> None:
        """End the child. A later render starts another."""
        async with self._turn:
            await self._kill()

    async def _answer(self, request: RenderRequest) -> dict[str, Any]:
        used = self._used
        try:
            reply = await self._ask(request)
            if "memory" not in reply:
                return reply
        except _Died:
            reply = _ENDED
        if not used:
            return self._excess(reply)
        # What went before may have used up the memory, or have killed the child since: a fresh one gives the verdict.
        try:
            return self._excess(await self._ask(request))
        except _Died:
            return _ENDED

    def _excess(self, reply: dict[str, Any]) -> dict[str, Any]:
        if "memory" not in reply:
            return reply
        return {"why": f"rendering needed more than {self._memory_bytes // 1024**2} MiB of memory"}

    async def _ask(self, request: RenderRequest) -> dict[str, Any]:
        """One request, one reply. Whatever else happens ends the child: a reply that comes late must meet no later request."""
        line = json.dumps(
            {"template": request.template, "name": request.name, "values": dict(request.values), "limit_bytes": request.limit_bytes}
        )
        child = self._child or await self._start()
        reply: dict[str, Any] = {}
        try:
            async with asyncio.timeout(self._render_seconds):
                reply = await _exchange(child, line.encode())
        except TimeoutError:
            return {"why": f"rendering took longer than {self._render_seconds:g} s"}
        finally:
            self._used = True
            if not reply or "memory" in reply:
                await self._kill()
        return reply

    async def _start(self) -> Process:
        try:
            self._child = child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-s", "-W", "ignore", "-X", "utf8", "-m", "controller.context.child", str(self._memory_bytes)),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                env=_surroundings(),
                cwd="/",
                limit=_REPLY_BYTES,
                # Ctrl-C in a terminal goes to the whole process group; when the child ends is decided here.
                start_new_session=True,
            )
        except OSError as error:
            raise errors.ContextError(f"the renderer cannot be started: {os.strerror(error.errno or 0)}") from error
        self._used = False
        ready = False
        try:
            async with asyncio.timeout(START_SECONDS):
                ready = bool(await _line(child))
        except (TimeoutError, _Died):
            raise errors.ContextError("the renderer cannot be started: its process ended or did not answer") from None
        finally:
            if not ready:
                await self._kill()
        return child

    async def _kill(self) -> None:
        child, self._child = self._child, None
        self._used = False
        if child is None:
            return
        if child.returncode is None:
            child.kill()
        # Reads what is left of the pipes too, so that their transports end with the process.
        await child.communicate()


def _surroundings() -> dict[str, str]:
    """The child's whole environment: where modules are, as this process finds them. No variable of ours reaches a template.

    With one seed for all hashes each child gives sets in the same order, so that equal requests give equal bytes after a restart too.
    """
    paths = [str(Path(controller.__file__).parents[1]), *(path for path in sys.path if path)]
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONHASHSEED": "0", **kept}


async def _exchange(child: Process, line: bytes) -> dict[str, Any]:
    assert child.stdin is not None
    try:
        child.stdin.write(line + b"\n")
        await child.stdin.drain()
    except ConnectionError:
        raise _Died from None
    return await _line(child)


async def _line(child: Process) -> dict[str, Any]:
    assert child.stdout is not None
    try:
        line = await child.stdout.readline()
    except ConnectionError:
        raise _Died from None
    if not line.endswith(b"\n"):
        raise _Died
    return json.loads(line)


def _result(reply: dict[str, Any], request: RenderRequest) -> bytes:
    match reply:
        case {"data": str(data)}:
            return base64.b64decode(data)
        case {"template": [int(line), int(column), str(why)]}:
            raise errors.TemplateError(request.name, line, column, why)
        case {"size": [int(size), int(compressed)]}:
            raise errors.TooLarge(size, compressed, request.limit_bytes)
        case _:
            why = reply.get("why") or f"it cannot be rendered ({reply.get('fault')})"
            raise errors.TemplateError(request.name, 0, 0, why)


__all__ = ["MEMORY_BYTES", "RENDER_SECONDS", "ChildRenderer"]
