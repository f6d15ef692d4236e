"""The `Renderer` port: renders in one long-lived child process, which is killed and replaced when it exceeds its bounds.

Made and closed by the shell, called by the launcher. Templates are written by whoever may write an InstanceTemplate, and
Jinja2's sandbox bounds neither time nor memory (`'a' * 10**9` renders). It refuses to know what a template is.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import TYPE_CHECKING, Any

import controller
from controller import errors
from controller.context import costs

if TYPE_CHECKING:
    from controller.ports import RenderRequest

#: Processor time of one render, which takes 5 ms; one that takes this much longer is a loop.
RENDER_SECONDS = 2.0
#: What a render may take beyond the interpreter with its modules: a template of 64 KiB takes under 10 MiB.
MEMORY_BYTES = 128 * 1024 * 1024
#: By the clock, for starting, which takes 0.2 s, and for each answer. A busy machine may take many times what those take, and no
#: template is at fault then.
ANSWER_SECONDS = 30.0
#: After a failure of the renderer itself none is tried for so long, doubling to the most: on a machine that is short of all.
REST_FIRST_SECONDS, REST_MOST_SECONDS = 1.0, 60.0
#: The longest reply: base64 of the longest user data (1 Mi characters, up to 4 bytes each) and its wrapping.
_REPLY_BYTES = 8 * 1024 * 1024


#: What ends a process that overflows its stack or finds no memory for what it cannot do without, beside the exit code of Python's own.
_OWN_END = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT})


class _Died(Exception):
    """The child ended, or its pipe did, before it answered."""


class ChildRenderer:
    """Implements `Renderer`. One render at a time; whoever waits is not harmed by a render that kills the child.

    What a template is blamed for is measured by what it used, and remembered (`costs`). What the clock, or whoever ends a child, has to say
    is this machine's fault.
    Bound to the event loop it is first used in; `close` ends the child.
    """

    def __init__(
        self, render_seconds: float = RENDER_SECONDS, memory_bytes: int = MEMORY_BYTES, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._render_seconds = render_seconds
        self._memory_bytes = memory_bytes
        self._answer_seconds = answer_seconds
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._costs = costs.Costs()
        self._child: Process | None = None
        #: The failures of the renderer in a row, the last one, and until when it is the answer to all.
        self._failures = 0
        self._failed = ""
        self._rests_until = 0.0

    async def render(self, request: RenderRequest) -> bytes:
        """Raises TemplateError, TooLarge, RendererFailed; see the port."""
        what = costs.of(request)
        self._waiting += 1
        try:
            self._costs.check(what, request.name, self._waiting, _now())
            async with self._turn:
                # Those before may have found out meanwhile.
                self._costs.check(what, request.name, self._waiting, _now())
                return await self._rendered(request, what)
        finally:
            self._waiting -= 1

    async def _rendered(self, request: RenderRequest, what: costs.What) -> bytes:
        begun = _now()
        if begun < self._rests_until:
            raise errors.RendererFailed(self._failed)
        try:
            reply = await self._answer(request)
        except errors.RendererFailed as error:
            self._rest(str(error))
            raise
        self._failures = 0
        self._costs.learn(what, reply.get("costly"), _now() - begun, _now())
        return _result(reply, request)

    async def close(self) -> None:
        """End the child. A later render starts another."""
        async with self._turn:
            await self._kill()

    def _rest(self, failed: str) -> None:
        seconds = min(REST_FIRST_SECONDS * 2 ** min(self._failures, 16), REST_MOST_SECONDS)
        self._failures, self._failed = self._failures + 1, failed
        self._rests_until = _now() + seconds

    async def _answer(self, request: RenderRequest) -> dict[str, Any]:
        """What went before may have used up the child's memory, or have killed it since: a fresh one gives the verdict."""
        fresh = self._child is None
        reply = await self._ask(request)
        if not fresh and reply.keys() & {"costly", "killed"}:
            reply = await self._ask(request)
        if "killed" in reply:
            raise errors.RendererFailed(f"the renderer was ended by others ({reply['killed']}); this machine may be short of memory")
        return reply

    async def _ask(self, request: RenderRequest) -> dict[str, Any]:
        """One request, one reply. Whatever else happens ends the child: a reply that comes late must meet no later request."""
        line = json.dumps(
            {"template": request.template, "name": request.name, "values": dict(request.values), "limit_bytes": request.limit_bytes}
        )
        child = self._child or await self._start()
        reply: dict[str, Any] = {}
        try:
            async with asyncio.timeout(self._answer_seconds):
                try:
                    reply = await _exchange(child, line.encode())
                except _Died:
                    return self._verdict(await child.wait())
        except TimeoutError:
            raise errors.RendererFailed(
                f"the renderer gave no answer within {self._answer_seconds:g} s; this machine may be too busy"
            ) from None
        finally:
            if not reply or "memory" in reply:
                await self._kill()
        return reply if "memory" not in reply else {"costly": f"rendering needed more than {self._memory_bytes // 1024**2} MiB of memory"}

    def _verdict(self, code: int) -> dict[str, Any]:
        """What the end of a child says, by its exit code: negative of the signal that ended it."""
        if code == -signal.SIGPROF:
            return {"costly": f"rendering took longer than {self._render_seconds:g} s of processor time"}
        if code >= 0 or -code in _OWN_END:
            return {"costly": "rendering ended the process it ran in: it needed more memory or depth than a template may"}
        return {"killed": signal.strsignal(-code)}

    async def _start(self) -> Process:
        try:
            self._child = child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-s", "-W", "ignore", "-X", "utf8", "-m", "controller.context.child"),
                *(str(self._memory_bytes), str(self._render_seconds)),
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
            raise errors.RendererFailed(f"the renderer cannot be started: {os.strerror(error.errno or 0)}") from error
        ready = False
        try:
            async with asyncio.timeout(self._answer_seconds):
                ready = bool(await _line(child))
        except (TimeoutError, _Died):
            raise errors.RendererFailed("the renderer cannot be started: its process ended or did not answer") from None
        finally:
            if not ready:
                await self._kill()
        return child

    async def _kill(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if child.returncode is None:
            child.kill()
        # Reads what is left of the pipes too, so that their transports end with the process.
        await child.communicate()


def _now() -> float:
    return asyncio.get_running_loop().time()


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
        case {"costly": str(why)}:
            raise errors.TooCostly(request.name, 0, 0, why)
        case _:
            raise errors.TemplateError(request.name, 0, 0, f"it cannot be rendered ({reply.get('fault')})")


__all__ = ["MEMORY_BYTES", "RENDER_SECONDS", "ChildRenderer"]
