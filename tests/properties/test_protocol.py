"""The whole launch and end protocol against a world that hangs, fails, loses, delays, repeats and kills on purpose.

Hypothesis draws what users, the cloud and fate do to a running system in virtual time, on a cloud with tokens that makes alike machines
by one call and on one with fences. Whatever came: never two machines of one identity, never one before what it depends on, never more at
once nor more in all than `bounds` allows, at the end as many as wanted and none besides; and then all goes, dependents first.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from controller import errors
from controller.api.group import InstanceGroup
from controller.engine import inventory
from controller.ports import Key, T
from controller.reconcilers.instancegroup import observed as group_observed
from tests.crash.injector import MUTATING, FaultyStore
from tests.properties import bounds
from tests.properties.bounds import Asked
from tests.simulated.world import Settings, SimulatedMachine
from tests.system.documents import chain
from tests.system.rig import Rig, play

Deed = Callable[[Rig, Asked], Awaitable[None]]


def _of(rig: Rig, number: int) -> SimulatedMachine | None:
    live = sorted(rig.world.live(), key=lambda each: each.id)
    return live[number % len(live)] if live else None


def _kill(number: int) -> Deed:
    async def deed(rig: Rig, asked: Asked) -> None:
        if machine := _of(rig, number):
            rig.world.kill(machine.id)

    return deed


def _spoil(number: int) -> Deed:
    async def deed(rig: Rig, asked: Asked) -> None:
        if machine := _of(rig, number):
            rig.world.make_unhealthy(machine.id)

    return deed


def _power_off(number: int) -> Deed:
    async def deed(rig: Rig, asked: Asked) -> None:
        if machine := _of(rig, number):
            rig.world.stop(machine.id)

    return deed


def _delete(number: int) -> Deed:
    async def deed(rig: Rig, asked: Asked) -> None:
        instances = rig.instances()
        if instances:
            found = instances[number % len(instances)]
            asked.take(found["spec"]["service"])
            await rig.delete("Instance", found["metadata"]["name"])

    return deed


def _scale(number: int) -> Deed:
    async def deed(rig: Rig, asked: Asked) -> None:
        if rig.find("InstanceGroup", "shop-app") is not None:
            before = (await rig.store.get(APP))["spec"]["replicas"]
            asked.scale("app", before, number)
            await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": number}})

    return deed


def _revise(number: int) -> Deed:
    """A template is changed: what is not known to have a machine may be made anew."""

    async def deed(rig: Rig, asked: Asked) -> None:
        asked.taken["app"] += sum(1 for each in rig.instances("app") if "machine" not in each.get("status", {}))
        key = Key("InstanceTemplate", "default", "app")
        text = (await rig.store.get(key))["spec"]["context"]["cloudInit"]["template"]
        await rig.patch("InstanceTemplate", "app", {"spec": {"context": {"cloudInit": {"template": f"{text}# {number}\n"}}}})

    return deed


def _fail(action: str, error: errors.CloudError, times: int, after: bool) -> Deed:
    async def deed(rig: Rig, asked: Asked) -> None:
        rig.world.fail(action, error, times=times, after=after)

    return deed


def _short_list(part: float, times: int) -> Deed:
    """Lists that show a first part alone: nothing, or as a first page whose next ones were not asked for."""

    async def deed(rig: Rig, asked: Asked) -> None:
        for _ in range(times):
            rig.world.falsify(lambda machines: machines[: round(part * len(machines))])

    return deed


def _hang(action: str, seconds: int) -> Deed:
    async def deed(rig: Rig, asked: Asked) -> None:
        rig.hold(action, seconds)
        await rig.let_pass(seconds)
        rig.before.clear()

    return deed


class _Shaky:
    """A gate of the store whose next writes fail, before or after they are done."""

    def __init__(self) -> None:
        self.coming: list[bool] = []

    async def call(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        if name not in MUTATING or not self.coming:
            return await do()
        if self.coming.pop():
            await do()
        raise errors.Unavailable("the store does not answer")

    def blocking(self, name: str, do: Callable[[], T]) -> T:
        return do()


def _shake(coming: list[bool]) -> Deed:
    async def deed(rig: Rig, asked: Asked) -> None:
        gate = _Shaky()
        gate.coming = coming.copy()
        rig.wrap_store = lambda store: FaultyStore(store, gate)
        await rig.restart()

    return deed


def _stray(action: str, seconds: int, lost: bool) -> Deed:
    """Within the settling time of the cloud, which is how late a call may be done."""

    async def deed(rig: Rig, asked: Asked) -> None:
        rig.stray(action, seconds, lost=lost)

    return deed


def _lag(seconds: int) -> Deed:
    """No longer than the driver says; a call that strays comes before."""

    async def deed(rig: Rig, asked: Asked) -> None:
        rig.world.settings.lag_seconds = min(seconds, rig.world.settings.settle_seconds / 2)

    return deed


async def _crash(rig: Rig, asked: Asked) -> None:
    await rig.restart()


ERRORS = (errors.Transient("no answer"), errors.Throttled("slow down"), errors.Denied("not now"))
WHICH = st.integers(0, 9)
APP = Key("InstanceGroup", "default", "shop-app")
#: What depends on what.
EDGES = (("app", "db"), ("web", "app"))
LOST = st.builds(_fail, st.sampled_from(("create", "delete", "prepare", "close")), st.just(ERRORS[0]), st.integers(1, 3), st.booleans())
REFUSED = st.builds(
    _fail, st.sampled_from(("create", "delete", "list", "describe")), st.sampled_from(ERRORS), st.integers(1, 3), st.just(False)
)
FULL = st.builds(
    _fail, st.just("create"), st.sampled_from((errors.NoCapacity("full"), errors.QuotaExceeded("no more"))), WHICH, st.just(False)
)
DEEDS = st.one_of(
    *(st.builds(each, WHICH) for each in (_kill, _spoil, _power_off, _delete, _revise)),
    st.builds(_scale, st.integers(0, 7)),
    *(LOST, REFUSED, FULL),
    st.builds(_short_list, st.sampled_from((0.0, 0.5, 0.8)), st.integers(1, 3)),
    st.builds(_hang, st.sampled_from(("create", "delete", "list")), st.sampled_from((5, 25))),
    st.builds(_stray, st.sampled_from(("create", "delete", "prepare", "close")), st.sampled_from((1, 12, 25)), st.booleans()),
    st.builds(_lag, st.sampled_from((0, 2, 10, 60))),
    st.builds(_shake, st.lists(st.booleans(), min_size=1, max_size=12)),
    st.just(_crash),
)
#: What is done, and how long after the one before.
STORIES = st.lists(st.tuples(st.sampled_from((0.0, 0.3, 2.0, 7.0, 31.0, 90.0)), DEEDS), max_size=12)


@settings(max_examples=settings().max_examples // 4)
@given(STORIES, st.booleans(), st.sampled_from((-1, inventory.PAGE)), st.sampled_from((30.0, 120.0)), st.integers(0, 2**32))
def test_whatever_happens_it_ends_as_described(
    story: list[tuple[float, Deed]], fences: bool, left_out: int, settle: float, seed: int
) -> None:
    manners = Settings(lag_seconds=2.0, settle_seconds=settle, fences=fences, closes=fences, most_per_call=1 if fences else 100)
    # Lists of more machines than that leave out what runs.
    with tempfile.TemporaryDirectory() as place, mock.patch.object(inventory, "_WORTH_LEAVING_OUT", left_out):
        play(Path(place), lambda rig: _live_through(rig, story, seed), manners)


async def _live_through(rig: Rig, story: list[tuple[float, Deed]], seed: int) -> None:
    rig.world.random = random.Random(seed)
    asked = Asked()
    await rig.make(*chain())
    for pause, deed in story:
        await rig.let_pass(pause)
        await deed(rig, asked)
    rig.world.faults.clear()
    rig.world.answers.clear()
    rig.before.clear()
    rig.world.settings.lag_seconds = 2.0
    await rig.wait(lambda: rig.ready() and _as_wanted(rig), 7200)
    _in_order(rig)
    bounds.judge(rig, asked)
    since = rig.clock()
    await rig.delete("Infrastructure", "shop")
    await rig.wait(rig.gone, 1200)
    assert rig.world.live() == []
    _against_the_edges(rig, since)


def _as_wanted(rig: Rig) -> bool:
    return all(
        group_observed.wanted(each) == len(rig.live(each.spec.service)) == len(rig.instances(each.spec.service))
        for each in rig.engine.objects.models("InstanceGroup", InstanceGroup)
    )


def _in_order(rig: Rig) -> None:
    """No machine was made before one of each service it depends on was healthy."""
    for service, needs in EDGES:
        first = min(each.created for each in rig.made(service))
        assert any(each.healthy <= first for each in rig.made(needs))


def _against_the_edges(rig: Rig, since: float) -> None:
    """Since then no machine began to end before those of each service that depends on it had ended."""
    for service, needs in EDGES:
        last = max((each.ended for each in rig.made(service)), default=0.0)
        first = min((each.ending for each in rig.made(needs) if each.ending >= since), default=last)
        assert last <= first, f"{needs} began to end at {first}, before {service} had ended at {last}"
