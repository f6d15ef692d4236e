"""A `Renderer` in this process: for worlds whose time is not the clock's, where nothing may wait for a real process."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from controller import errors
from controller.context import cloudinit
from controller.context.renderer import RENDER_SECONDS, ChildRenderer
from controller.ports import RenderRequest


class InlineRenderer:
    """Implements `Renderer` with the code that the child runs, and without its bounds on time and memory.

    While `fails` is set it raises that instead.
    """

    def __init__(self) -> None:
        self.fails: errors.OccopusError | None = None

    async def render(self, request: RenderRequest) -> bytes:
        if self.fails is not None:
            raise self.fails
        return cloudinit.make(request)

    async def close(self) -> None:
        """Holds nothing."""


class BoundedRenderer(InlineRenderer):
    """With the turns and the memory of the real one. What says `costly`, in the template or in a variable, comes to nothing.

    `costly` counts how often that was tried; `mended` ends it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mended = False
        self.costly = 0
        self._real = _Bounded(self)

    async def render(self, request: RenderRequest) -> bytes:
        return await self._real.render(request)


class _Bounded(ChildRenderer):
    """In place of the child, which is always a fresh one: its code, and the time that it takes."""

    def __init__(self, owner: BoundedRenderer) -> None:
        super().__init__()
        self._owner = owner

    async def _ask(self, request: RenderRequest) -> dict[str, Any]:
        if self._owner.mended or not any("costly" in str(each) for each in (request.template, *request.values["variables"].values())):
            return {"data": base64.b64encode(cloudinit.make(request)).decode()}
        self._owner.costly += 1
        await asyncio.sleep(RENDER_SECONDS + 0.2)
        return {"costly": f"rendering took longer than {RENDER_SECONDS:g} s of processor time"}


__all__ = ["BoundedRenderer", "InlineRenderer"]
