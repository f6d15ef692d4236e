"""Ends machines, many in one call: what Instances of one account ask for within a moment goes to the cloud together.

The Instance's pass calls `end` and goes on; what came of it is told to it later. A machine whose call is on its way is not asked
for again. Ending is idempotent at every driver, so what a crash loses is asked again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field

from controller import errors
from controller.engine.clouds import Binding
from controller.ports import Account, CloudDriver, Key, MachineId

log = logging.getLogger(__name__)

#: How long a call is held for others to join: about as long as the passes over a group's Instances take.
GATHER_SECONDS = 0.1
#: The most machines of one call. EC2 takes 1,000 and advises fewer (API reference of TerminateInstances).
MOST = 200


@dataclass(frozen=True, slots=True)
class Asker:
    """The Instance that wants a machine ended."""

    uid: str
    key: Key


@dataclass(slots=True)
class _Window:
    """What is held for a moment, by one Cloud's credentials."""

    binding: Binding
    machines: dict[MachineId, Asker] = field(default_factory=dict[MachineId, Asker])


class Terminator:
    """`holds` is asked before each call; `tell` is given what became of each asker's machines: "" or the trouble.

    `doubt` hears of a driver that was denied.
    """

    def __init__(
        self,
        holds: Callable[[], Awaitable[bool]],
        tell: Callable[[Asker, str], None],
        doubt: Callable[[CloudDriver], None],
        may_not_act: str,
    ) -> None:
        self._holds = holds
        self._tell = tell
        self._doubt = doubt
        self._may_not_act = may_not_act
        #: By driver: those of one Cloud that are refused must not keep another's.
        self._windows: dict[int, _Window] = {}
        self._on_way: set[tuple[Account, MachineId]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def end(self, binding: Binding, ids: Sequence[MachineId], asker: Asker) -> None:
        """Ask for the machines' end, together with what others ask for at this time."""
        account = binding.inventory.account
        new = [each for each in ids if (account, each) not in self._on_way]
        if not new:
            return
        place = id(binding.driver)
        window = self._windows.get(place)
        if window is None:
            window = self._windows[place] = _Window(binding)
            self._begin(self._gather(place))
        for each in new:
            window.machines[each] = asker
            self._on_way.add((account, each))

    async def drain(self, seconds: float) -> None:
        """Let calls that are on their way end, for so long at most."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=seconds)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="terminator")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _gather(self, place: int) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        window = self._windows.pop(place)
        found = list(window.machines.items())
        # A call that hangs holds up no other.
        for begin in range(0, len(found), MOST):
            self._begin(self._call(window.binding, dict(found[begin : begin + MOST])))

    async def _call(self, binding: Binding, machines: dict[MachineId, Asker]) -> None:
        account, ids = binding.inventory.account, tuple(machines)
        try:
            troubles = await self._troubles(binding, ids)
        finally:
            self._on_way -= {(account, id) for id in ids}
        binding.inventory.hurry()
        for asker in dict.fromkeys(machines.values()):
            said = (troubles[id] for id, whose in machines.items() if whose == asker)
            self._tell(asker, next(filter(None, said), ""))

    async def _troubles(self, binding: Binding, ids: tuple[MachineId, ...]) -> dict[MachineId, str]:
        """What went wrong with each, "" where nothing did."""
        try:
            if not await self._holds():
                return dict.fromkeys(ids, self._may_not_act)
            results = await binding.inventory.calls(
                "delete", lambda: binding.driver.delete(ids), weight=len(ids) / 100 + 1, machines=len(ids)
            )
        except errors.OccopusError as error:
            log.warning("%d machines could not be ended: %s", len(ids), error)
            if isinstance(error, errors.Denied):
                self._doubt(binding.driver)
            return dict.fromkeys(ids, str(error))
        if any(isinstance(each, errors.Throttled) for each in results):
            binding.inventory.calls.throttled("delete")
        if any(isinstance(each, errors.Denied) for each in results):
            self._doubt(binding.driver)
        if len(results) != len(ids):
            return dict.fromkeys(ids, f"{len(results)} answers for {len(ids)} machines")
        return {id: "" if error is None else str(error) for id, error in zip(ids, results, strict=True)}


__all__ = ["GATHER_SECONDS", "MOST", "Asker", "Terminator"]
