"""Machines that are to end at one time end by one call, each once, and each asker hears of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from controller import errors
from controller.engine.terminator import GATHER_SECONDS, MOST, Asker, Terminator
from controller.ports import CloudDriver, Key, MachineId
from tests.simulated.world import NEVER
from tests.unit.engine.rig import CLOUD, Rig, run, turns

ILL = errors.Denied("it is protected")


class Askers:
    """A terminator, and what was told to whom."""

    def __init__(self, rig: Rig, *, holds: bool = True) -> None:
        self.rig = rig
        self.told: dict[str, list[str]] = {}
        self.doubted: list[CloudDriver] = []
        self.terminator = Terminator(self._holds, self._tell, self.doubted.append, "may not act")
        self.may = holds
        rig.bind()

    async def _holds(self) -> bool:
        return self.may

    def _tell(self, asker: Asker, trouble: str) -> None:
        self.told.setdefault(asker.uid, []).append(trouble)

    def end(self, ids: Sequence[MachineId], uid: str = "") -> None:
        binding = self.rig.clouds.binding(CLOUD)
        assert binding is not None
        for id in ids:
            name = uid or f"of {id}"
            self.terminator.end(binding, (id,), Asker(name, Key("Instance", "default", name)))

    async def pass_by(self) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        await turns()

    @property
    def calls(self) -> int:
        return self.rig.world.counts()["delete"]


def test_what_is_asked_for_together_goes_in_one_call(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        askers = Askers(rig)
        ids = [rig.insert(f"batch-{number}") for number in range(MOST + 1)]
        askers.end(ids)
        askers.end(ids[:5])  # while it is on its way
        await askers.pass_by()
        assert askers.calls == 2
        assert all(machine.ending < NEVER for machine in rig.world.machines.values())
        assert Counter(each for said in askers.told.values() for each in said) == {"": MOST + 1}
        askers.end(ids[:1])
        await askers.pass_by()
        assert askers.calls == 3, "asked for later it is asked again"
        await askers.terminator.drain(0)

    run(tmp_path, scenario)


@pytest.mark.parametrize("whole", [pytest.param(True, id="the call"), pytest.param(False, id="one of its machines")])
def test_what_fails_is_told_to_those_whom_it_concerns(tmp_path: Path, whole: bool) -> None:
    async def scenario(rig: Rig) -> None:
        askers = Askers(rig)
        ids = [rig.insert(f"batch-{number}") for number in range(3)]
        rig.world.fail("delete", ILL, whole=whole, where=lambda token: whole or token == ids[1])
        askers.end(ids)
        await askers.pass_by()
        concerned = ids if whole else ids[1:2]
        assert {uid for uid, said in askers.told.items() if said != [""]} == {f"of {each}" for each in concerned}
        binding = rig.clouds.binding(CLOUD)
        assert binding is not None
        assert askers.doubted == [binding.driver]
        await askers.terminator.drain(0)

    run(tmp_path, scenario)


def test_a_process_that_may_not_act_ends_nothing(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        askers = Askers(rig, holds=False)
        askers.end([rig.insert("batch-0")])
        await askers.pass_by()
        assert askers.calls == 0
        assert list(askers.told.values()) == [["may not act"]]
        await askers.terminator.drain(0)

    run(tmp_path, scenario)


def test_a_call_that_hangs_holds_up_no_other(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        askers = Askers(rig)
        first, second = rig.insert("batch-0"), rig.insert("batch-1")
        plain = rig.threads

        async def hang(call: object, lane: str, /) -> object:
            await asyncio.Event().wait()
            raise AssertionError

        rig.threads = hang  # pyright: ignore[reportAttributeAccessIssue] -- never answers
        askers.end([first])
        await askers.pass_by()
        rig.threads = plain
        askers.end([second])
        await askers.pass_by()
        assert rig.world.machines[second].ending < NEVER
        assert list(askers.told) == [f"of {second}"]
        await askers.terminator.drain(0)

    run(tmp_path, scenario)
