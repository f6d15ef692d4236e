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

#: What no scenario reaches, and why: a file or directory below `controller/`, or one call in a function of a file.
UNREACHED: dict[str, str] = {
    "cli/": "the command reads, and changes nothing by these",
    "desktop.py": "what the user asks for by the command; after a crash it is asked for again, as each scenario's step is",
    "controller_id.py": "before the engine starts; found or made by each start",
    "engine/engine.py __init__ store.holds": "handed on to the terminator, which calls it as `_holds`",
    "engine/engine.py _watch store.watch": "a stream, which every crash ends and every start opens",
    "engine/engine.py _stale objects.refresh": "a read after a conflict",
    "engine/engine.py _refused objects.say_trouble": "only where the API refuses a write: a condition, which each pass writes again",
    "engine/inventory.py _ask_missing driver.describe": "a read; asked only where a list lacks a machine, as those of test_lists.py do",
    "engine/inventory.py _list_changes driver.list": "only beside more than 200 machines: a read; the drawn stories come to it",
    "engine/request.py _template objects.refresh": "a read of what a restart has forgotten or somebody has removed",
    "reconcilers/instancegroup/snapshots.py ensure objects.refresh": "a read after somebody else made the revision first",
}


def _excuses(site: Site) -> list[str]:
    names = (site.path, f"{site.path.split('/')[0]}/", f"{site.path} {site.function} {site.call}")
    return [each for each in UNREACHED if each in names]


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
    assert [str(each) for each in sorted(unreached) if not _excuses(each)] == []


def test_what_is_excused_is_there() -> None:
    assert {excuse for site in sites.found() for excuse in _excuses(site)} == set(UNREACHED)


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
