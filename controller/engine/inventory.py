"""What one account's machines are: one list for all Clouds bound to it, adaptive in its pace.

The inventory asks, compares with what it knew, and wakes the Instances whose machine has changed. It never asks per machine,
but for those that an Instance has recorded and the list lacks: whether these are gone is asked by id (design section 5,
rules 4 and 5). Of a large account most lists leave out what runs, so that they cost what changes and not what there is
(decision 0010). It decides nothing about machines.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller import errors
from controller.engine.calls import Calls
from controller.ports import Account, CloudDriver, Identity, Key, Machine, MachineId, MachineState, Now, Threads
from controller.reconcilers.instance.observed import Sight

log = logging.getLogger(__name__)

#: Seconds between two lists while something is pending, and after nothing has moved for ten minutes (design section 6).
FASTEST_SECONDS = 1.0
SLOWEST_SECONDS = 12.5
_QUIET_SECONDS = 600.0
#: Pauses differ by this part, so that the lists of many controllers do not fall together.
_JITTER = 0.05
#: A list every so many seconds is enough while machines are on their way and nothing has moved for some seconds …
_WAITING_SECONDS, _WAITING_AFTER_SECONDS = 2.0, 5.0
#: … or where it shows many: its cost is by the machine.
_MANY, _MANY_SECONDS = 40, 3.0
#: A list that takes long (a large account costs a second of CPU) takes no more than this part of the time, or the slowest pause follows.
_BUSY_PART = 0.25
#: How many machines a page of a list holds, for the count of calls that a list is (design section 6: pages of 100 to 200).
PAGE = 200
#: While more machines than these run, more than one page, lists may leave them out …
_WORTH_LEAVING_OUT = PAGE
#: … but one each so many seconds: with `CONFIRM_AFTER` an absent machine is known within 60 s, where lists take a moment.
_WHOLE_SECONDS = 26.5
#: How long a list may lack a machine that it has not shown yet before that is asked for by id.
_SHOWN_AFTER = timedelta(seconds=10)
#: The second of two answers comes by so much later than it has to, never earlier.
_LATE_SECONDS = 0.1
#: Two NotFound answers so far apart mean that the id is gone (design section 5, rule 5).
CONFIRM_AFTER = timedelta(seconds=30)
#: For so long the last good list stands while newer ones are throttled: the account's reads are shared with all who use it.
_STANDS_SECONDS = 30.0
_MOVING = frozenset({MachineState.PENDING, MachineState.SHUTTING_DOWN, MachineState.STOPPING})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an inventory is given: threads and clock, what Instances have recorded, which launches may live, and whom to wake.

    `recorded` has the Instance of each id, and `owns` says whether there is an Instance of an identity that has no other machine.

    `others` gives the drivers of all Clouds of the account, that of the Cloud after this one's first; `doubt` hears of one that was denied.
    `moved` is told of each change of the whole, and whether it is one that everybody on the account waits for: the first list,
    or the first good one after a failure.
    """

    threads: Threads
    now: Now
    recorded: Callable[[Account], Mapping[MachineId, Identity]]
    owns: Callable[[Identity, MachineId], bool]
    launched: Callable[[Account], Set[Identity]]
    others: Callable[[Account, CloudDriver], Sequence[CloudDriver]]
    doubt: Callable[[CloudDriver], None]
    wake: Callable[[Identity], None]
    wake_key: Callable[[Key], None]
    moved: Callable[[Account, bool], None]


class Inventory:
    """The machines of one account, as its newest lists show them.

    `listed` is when the newest whole list began: only that one proves that a machine is not there.
    """

    def __init__(self, account: Account, driver: CloudDriver, around: Surroundings) -> None:
        self.account = account
        self.driver = driver
        self.listed: datetime | None = None
        self.trouble: errors.CloudError | None = None
        #: When the lists that are good by now began to be, throttled ones aside: what was said before that is not known to be so still.
        self.recovered: datetime | None = None
        #: When, by the loop's clock, the last good list before these began: since then the controller may have been cut off.
        self.cut_off_since = 0.0
        self._good_at = 0.0
        #: Whether the controller may have been cut off since the last good list: who is throttled was answered.
        self._cut_off = True
        self._failed_last = False
        self.machines: dict[MachineId, Machine] = {}
        self._by_identity: dict[Identity, tuple[Machine, ...]] = {}
        self._not_found: dict[MachineId, list[datetime]] = {}
        self._first_seen: dict[MachineId, datetime] = {}
        self._lacking: dict[MachineId, datetime] = {}
        self.calls = Calls(account, around.threads, driver.limits)
        self._around = around
        self._moved_at = 0.0
        self._took = 0.0
        self._hurry = asyncio.Event()
        self._waiters: set[Key] = set()
        self._wants_whole = True
        #: Which drivers were denied since the last good list.
        self._denied: list[CloudDriver] = []
        self.version = 0

    def sight(self, identity: Identity, recorded: MachineId | None) -> Sight:
        """What is seen of one Instance."""
        return Sight(
            listed=self.listed,
            machines=self._by_identity.get(identity, ()),
            gone=recorded is not None and self._is_gone(recorded),
            trouble=str(self.trouble) if self.trouble is not None else "",
        )

    def age(self, machine: Machine, now: datetime) -> timedelta:
        """For how long the machine exists, at least."""
        return now - min(machine.created or now, self._first_seen.get(machine.id, now))

    def duplicates(self) -> frozenset[Identity]:
        """Identities that more than one live machine carries."""
        return frozenset(
            identity
            for identity, machines in self._by_identity.items()
            if len(machines) > 1 and sum(1 for each in machines if each.state is not MachineState.TERMINATED) > 1
        )

    def use(self, driver: CloudDriver) -> None:
        """Ask by this driver from now on; what is known was told to other credentials."""
        self.driver = driver
        self._wants_whole = True
        self.hurry()

    def wake_after_list(self, key: Key) -> None:
        """Wake that Instance after the next whole list, whatever it shows; something waits for proof."""
        self._wants_whole = True
        self.wake_after_answer(key)

    def wake_after_answer(self, key: Key) -> None:
        """Wake that Instance when its recorded machine was asked for the next time, whatever came of it."""
        self._waiters.add(key)
        self.hurry()

    def hurry(self) -> None:
        """Something is about to change: list soon and often."""
        self._moved_at = asyncio.get_running_loop().time()
        self._hurry.set()

    async def run(self) -> None:
        """List for ever."""
        while True:
            started = asyncio.get_running_loop().time()
            await self.poll()
            # One that did not end well says nothing of how long a list takes.
            self._took = asyncio.get_running_loop().time() - started if not self._failed_last else 0.0
            await self._pause(started)

    async def poll(self) -> None:
        """One list, and one question about the ids it lacks."""
        begun, recorded, driver = self._around.now(), self._around.recorded(self.account), self.driver
        self._hurry.clear()
        if self.listed is not None and begun < self.listed:
            # The clock was set back: what was shown before is no proof of what is asked after.
            self.listed = None
            self._not_found.clear()
            self._lacking.clear()
        whole = self._whole(begun)
        if whole:
            self._wants_whole = False
        try:
            machines = await (self._list(driver) if whole else self._list_changes(driver))
            # What was known not to run and is shown no more in a list of changes runs now, most likely.
            started = set[MachineId]() if whole else self.machines.keys() - machines.keys()
            asked = await self._ask_missing(driver, self._missing(recorded.keys() - machines.keys(), begun) | started, begun)
            machines |= {id: each for id, each in asked.items() if each.ours or id in recorded}
            if unseen := started - machines.keys():
                # One answer that lacks them proves nothing; a whole list does.
                machines |= {id: self.machines[id] for id in unseen}
                self._wants_whole = True
            if not self._around.launched(self.account) <= {each.identity for each in machines.values()}:
                await self._must_be_same(driver)
        except errors.CloudError as error:
            self._failed_last = True
            self._failed(error, driver)
            return
        self._failed_last = False
        self._take({id: self._recognised(each, recorded) for id, each in machines.items()}, begun, whole=whole)

    def _recognised(self, machine: Machine, recorded: Mapping[MachineId, Identity]) -> Machine:
        """The machine as that of the Instance that has recorded its id, where its tags name no better one: somebody changed them."""
        identity = recorded.get(machine.id)
        if identity is None or identity == machine.identity or self._around.owns(machine.identity, machine.id):
            return machine
        return replace(machine, identity=identity)

    def _whole(self, now: datetime) -> bool:
        """Whether the next list has to show everything."""
        if self._wants_whole or self.listed is None or self.trouble is not None or not self._leaves_out():
            return True
        return now - self.listed >= timedelta(seconds=_WHOLE_SECONDS - (1 + _JITTER) * self._longest_period())

    def _leaves_out(self) -> bool:
        """Whether so many run that lists leave them out."""
        return self._running() > _WORTH_LEAVING_OUT

    def _running(self) -> int:
        return sum(1 for each in self.machines.values() if each.state is MachineState.RUNNING)

    def _longest_period(self) -> float:
        """How long after the next list the one after it begins at the latest, if that is within `_WHOLE_SECONDS`."""
        quiet = asyncio.get_running_loop().time() - self._moved_at + _WHOLE_SECONDS
        return max(_MANY_SECONDS, min(SLOWEST_SECONDS, quiet * SLOWEST_SECONDS / _QUIET_SECONDS), self._busy_seconds())

    def _busy_seconds(self) -> float:
        """The shortest time from a list to the next one where lists take long."""
        return self._took + min(self._took * (1 / _BUSY_PART - 1), SLOWEST_SECONDS)

    async def _list(self, driver: CloudDriver) -> dict[MachineId, Machine]:
        return await self.calls("list", lambda: _by_id(driver.list()), weight=1 + len(self.machines) / PAGE)

    async def _list_changes(self, driver: CloudDriver) -> dict[MachineId, Machine]:
        """What is known to run and what a list without that shows."""
        running = {id: each for id, each in self.machines.items() if each.state is MachineState.RUNNING}
        pages = 1 + (len(self.machines) - len(running)) / PAGE
        return running | await self.calls("list", lambda: _by_id(driver.list(running=False)), weight=pages)

    def _missing(self, ids: Set[MachineId], now: datetime) -> Set[MachineId]:
        """Those of the recorded ids which no list shows that are worth asking for.

        A machine just made shows up by itself, so what this process never saw is waited for a little.
        """
        self._lacking = {id: self._lacking.get(id, now) for id in ids}
        known = self.machines.keys() | self._not_found.keys()
        return {id for id, since in self._lacking.items() if id in known or now - since >= _SHOWN_AFTER}

    async def _ask_missing(self, driver: CloudDriver, ids: Set[MachineId], begun: datetime) -> dict[MachineId, Machine]:
        """What is there, by id, of those that the list lacks."""
        missing = sorted(ids)
        found: dict[MachineId, Machine] = {}
        if missing:
            found = await self.calls("describe", lambda: _by_id(driver.describe(missing).values()), weight=1 + len(missing) / PAGE)
        for id in missing:
            if id not in found:
                answers = self._not_found.setdefault(id, [])
                self._not_found[id] = [*answers[:1], begun]
        self._not_found = {id: answers for id, answers in self._not_found.items() if id in missing and id not in found}
        return found

    async def _must_be_same(self, driver: CloudDriver) -> None:
        """What is not there proves something only in the same account (design section 5, rules 5 and 6). Raises Denied."""
        account = await self.calls("identity", driver.identity)
        if account != self.account:
            raise errors.Denied(f"the credentials answer for account {account.id}, no more for {self.account.id}")

    def _is_gone(self, id: MachineId) -> bool:
        answers = self._not_found.get(id, [])
        return len(answers) > 1 and answers[-1] - answers[0] >= CONFIRM_AFTER

    def _failed(self, error: errors.CloudError, driver: CloudDriver) -> None:
        if isinstance(error, errors.Denied) and self._is_handed_on(driver, error):
            return
        if isinstance(error, errors.Throttled) and self._stands():
            self._wants_whole = True
            return
        self._cut_off |= not isinstance(error, errors.Throttled)
        # Where several Clouds are refused in turn, what the first was told stays said: a status must not flap.
        flaps = len(self._denied) > 1 and isinstance(error, errors.Denied) and isinstance(self.trouble, errors.Denied)
        if self.trouble is None or (str(self.trouble) != str(error) and not flaps):
            log.warning("Listing the machines of %s %s failed: %s", self.account.kind, self.account.id, error)
            self.trouble = error
            self._around.moved(self.account, False)

    def _stands(self) -> bool:
        """Whether nothing but the cloud's asking for fewer calls speaks against the last good list, and that is a new one."""
        return self.trouble is None and self.listed is not None and asyncio.get_running_loop().time() - self._good_at < _STANDS_SECONDS

    def _is_handed_on(self, driver: CloudDriver, error: errors.Denied) -> bool:
        """Let the next list be made by the credentials of another Cloud; whether they were not denied yet: they may be good ones."""
        if driver is not self.driver:
            # Other credentials were given meanwhile; of those nothing is known.
            self.hurry()
            return True
        self._around.doubt(driver)
        others = self._around.others(self.account, driver)
        self._denied = [each for each in self._denied if each in others and each is not driver] + [driver]
        fresh = next((each for each in others if each not in self._denied), None)
        self.driver = fresh or next(iter(others), driver)
        if fresh is not None:
            log.warning(
                "The credentials of a Cloud of %s %s are denied, those of another are tried: %s", self.account.kind, self.account.id, error
            )
            self._wants_whole = True
            self.hurry()
        return fresh is not None

    def _take(self, machines: dict[MachineId, Machine], begun: datetime, *, whole: bool) -> None:
        changed = {each.identity for id, each in machines.items() if self.machines.get(id) != each}
        changed |= {each.identity for id, each in self.machines.items() if machines.get(id) != each}
        if changed:
            self._group(machines, changed)
        for id in machines.keys() - self._first_seen.keys():
            self._first_seen[id] = begun
        for id in self._first_seen.keys() - machines.keys():
            del self._first_seen[id]
        first, recovered = self.listed is None, self.trouble is not None
        self.machines, self.trouble = machines, None
        if first or self._cut_off:
            self.recovered, self.cut_off_since = begun, self._good_at
        self._cut_off = False
        self._good_at = asyncio.get_running_loop().time()
        self._denied.clear()
        if whole:
            self.listed = begun
        if changed:
            self.version += 1
            self._moved_at = asyncio.get_running_loop().time()
        if changed or first or recovered:
            self._around.moved(self.account, first or recovered)
        waiters, self._waiters = self._waiters, set()
        for identity in changed:
            self._around.wake(identity)
        for key in waiters:
            self._around.wake_key(key)

    def _group(self, machines: dict[MachineId, Machine], changed: Set[Identity]) -> None:
        fresh: dict[Identity, tuple[Machine, ...]] = dict.fromkeys(changed, ())
        for machine in sorted(machines.values(), key=lambda each: each.id):
            if machine.identity in changed:
                fresh[machine.identity] += (machine,)
        self._by_identity |= fresh
        for identity in (each for each, shown in fresh.items() if not shown):
            del self._by_identity[identity]

    async def _pause(self, started: float) -> None:
        loop = asyncio.get_running_loop()
        quiet = loop.time() - self._moved_at
        shown = len(self.machines) - (self._running() if self._leaves_out() else 0)
        fastest = _MANY_SECONDS if shown > _MANY else FASTEST_SECONDS
        pace = max(fastest, _WAITING_SECONDS if quiet > _WAITING_AFTER_SECONDS else FASTEST_SECONDS)
        confirms = self._confirm_seconds()
        moving = self._waiters or confirms < math.inf or any(each.state in _MOVING for each in self.machines.values())
        # Nothing is seen to move while lists fail: they come more and more slowly then.
        moving = moving and not self._failed_last
        seconds = pace if moving else max(FASTEST_SECONDS, min(SLOWEST_SECONDS, quiet * SLOWEST_SECONDS / _QUIET_SECONDS))
        busy = self._busy_seconds()
        # From the beginning of one list to that of the next; one that failed may have taken longer than that.
        since = loop.time() if self._failed_last else started
        due = since + max(seconds * random.uniform(1 - _JITTER, 1 + _JITTER), busy)
        earliest = since + max(fastest * 0.9, busy)
        if not self._failed_last:
            due, earliest = (min(each, loop.time() + confirms) for each in (due, earliest))
        try:
            async with asyncio.timeout_at(due):
                await self._hurry.wait()
        except TimeoutError:
            return
        # Hurried: still no more than about one list a second.
        await asyncio.sleep(max(0.0, earliest - loop.time()))

    def _confirm_seconds(self) -> float:
        """The seconds until an id that was not found may be known to be gone."""
        begun = [answers[0] for answers in self._not_found.values() if answers[-1] - answers[0] < CONFIRM_AFTER]
        left = (min(begun) + CONFIRM_AFTER - self._around.now()).total_seconds() if begun else math.inf
        return max(0.0, left) + _LATE_SECONDS


def _by_id(machines: Iterable[Machine]) -> dict[MachineId, Machine]:
    """The machines by id; made where a driver's garbage is told from its answer."""
    return {each.id: each for each in machines}
