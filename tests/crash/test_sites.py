"""The crash suite reaches every call over a port that the source has: one that is added, and met by no scenario, fails here."""

from __future__ import annotations

from pathlib import Path

from tests.crash import play, sites
from tests.crash.injector import Mode
from tests.crash.play import Fault
from tests.crash.scenarios import SCENARIOS
from tests.crash.seldom import SELDOM
from tests.crash.sites import Site, Trace
from tests.crash.test_crash import place

_ANSWERED = "the answer to another process that waits: whoever reconciles next gives it (tests/unit/test_asking.py)"
_COMMAND_READS = "the command reads"
_ASKED = "what the user asks for by the command; after a crash it is asked for again, as each scenario's step is"
_OVERLOOKED = "only where the garbage collector overlooks what is owned (tests/system/test_ownership.py)"
_AT_THE_START = "before the engine starts; found or made by each start"
#: What no scenario reaches, and why: a call in a function of a file below `controller/`.
UNREACHED: dict[str, str] = {
    "asking.py _answer store.get": _ANSWERED,
    "asking.py _answer store.patch": _ANSWERED,
    "cli/cluster.py _check_update store.get": _COMMAND_READS,
    "cli/cluster.py _look store.list": _COMMAND_READS,
    "cli/commands.py _clamped store.get": _COMMAND_READS,
    "cli/commands.py scale store.list": _COMMAND_READS,
    "cli/console.py _console driver.console": _COMMAND_READS,
    "cli/home.py find store.get": _COMMAND_READS,
    "cli/inspect.py get store.list": _COMMAND_READS,
    "cli/validate.py _referable store.get": _COMMAND_READS,
    "cli/validate.py _referable store.list": _COMMAND_READS,
    "controller_id.py _kept store.create": _AT_THE_START,
    "controller_id.py _kept store.get": _AT_THE_START,
    "controller_id.py _kept store.patch": _AT_THE_START,
    "desktop.py _check store.get": _ASKED,
    "desktop.py _put store.create": _ASKED,
    "desktop.py _put store.get": _ASKED,
    "desktop.py _put store.patch": _ASKED,
    "desktop.py change store.get": _ASKED,
    "desktop.py change store.patch": _ASKED,
    "desktop.py delete store.delete": _ASKED,
    "desktop.py delete store.get": _ASKED,
    "desktop.py watch store.watch": _ASKED,
    "engine/engine.py __init__ store.holds": "handed on to the terminator, which calls it as `_holds`",
    "engine/engine.py _watch store.watch": "a stream, which every crash ends and every start opens",
    "engine/engine.py _refused objects.say_trouble": "only where the API refuses a write: a condition, which each pass writes again",
    "engine/inventory.py _ask_missing driver.describe": "a read; asked only where a list lacks a machine, as those of test_lists.py do",
    "engine/inventory.py _list_changes driver.list": "only beside more than 200 machines: a read; the drawn stories come to it",
    "engine/request.py _template objects.refresh": "a read of what a restart has forgotten or somebody has removed",
    "reconcilers/infrastructure/reconcile.py _act objects.disown": _OVERLOOKED,
    "reconcilers/instancegroup/reconcile.py _act objects.disown": _OVERLOOKED,
    "reconcilers/instancegroup/creation.py _must_be_known objects.refresh": "a read of what a watch shows later",
    "reconcilers/instancegroup/reconcile.py _delete objects.refresh": "a read after a conflict",
    "reconcilers/instancegroup/snapshots.py ensure objects.refresh": "a read after somebody else made the revision first",
}


def _name(site: Site) -> str:
    return f"{site.path} {site.function} {site.call}"


def test_every_call_in_the_source_is_reached(tmp_path: Path) -> None:
    trace = Trace()
    rows = [("token", each) for each in (*SCENARIOS.values(), *SELDOM.values())]
    # Only EC2's Cloud has a Secret, which it takes hold of and lets go of.
    for cloud, scenario in (*rows, ("ec2", SCENARIOS["create"]), ("ec2", SELDOM["leave"])):
        path = tmp_path / f"{cloud}-{scenario.name}"
        path.mkdir()
        assert not play.run(scenario, place(cloud, path), Fault(Mode.CRASH_AFTER), trace).wrong
    assert not trace.strays, "calls that the search of the source does not see"
    unreached = sites.found() - trace.met
    assert [str(each) for each in sorted(unreached) if _name(each) not in UNREACHED] == []
    assert set(UNREACHED) - {_name(each) for each in unreached} == set(), "excuses that nothing needs"


def test_calls_are_told_from_other_calls() -> None:
    source = """
async def work(engine, group):
    engine.objects.get(group)
    await engine.objects.store.get(group)
    await asyncio.gather(*(
        engine.objects.create(each) for each in group
    ))
    await calls("close", lambda: self._driver.close(group))
    group.spec.get("name").create()
"""
    found = sites.sites_of(source, "a.py")
    assert [(each.function, each.call, each.line) for each in sorted(found, key=lambda each: each.line)] == [
        ("work", "store.get", 4),
        ("work", "objects.create", 6),
        ("work", "driver.close", 8),
    ]
