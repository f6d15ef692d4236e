"""A `Renderer` in this process: for worlds whose time is not the clock's, where nothing may wait for a real process."""

from __future__ import annotations

from controller import errors
from controller.context import cloudinit
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


__all__ = ["InlineRenderer"]
