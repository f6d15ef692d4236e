"""The table of figures, from results that are made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.bench import figures, report, report_ec2
from tests.bench.__main__ import FLEETS
from tests.bench.ec2 import Fleet, Stretch
from tests.bench.ec2_kubernetes import Writes
from tests.bench.idle import Idle, Quiet
from tests.bench.kubernetes import Kubernetes, Phase
from tests.bench.local import Local
from tests.bench.makespan import Makespan
from tests.bench.reaction import Reaction
from tests.bench.report import Results
from tests.bench.scale import Cost, Scale

COST = Cost(1.0, 0.0, 1.0, 500, 10, 100, 3, 203)
STILL = Quiet(0, 0, 0, 240, 1.0, 3600.0)


def scale(instances: int, cpu_seconds: float) -> Scale:
    cost = replace(COST, cpu_seconds=cpu_seconds)
    return Scale(instances, cost, cost, 0.5, 60.0, 70.0, 71.0)


def phase(instances: int, others: int = 0) -> Phase:
    """So many writes to Instances, so many to groups; events count apart."""
    return Phase({"patch instances/status": instances, "patch instancegroups/status": others, "create events": 7}, 1.0, 2.0)


def fleet(alike: bool) -> Fleet:
    """A hundred machines, by one call or by one each."""
    runs = {"RunInstances": 1 if alike else 100, "DescribeInstances": 40}
    up = Stretch(runs, 38, 2, 0, 450, 100, 3.0, 60.0 if alike else 110.0)
    still = Stretch({}, 60, 0, 0, 0, 0, 1.0, 10.0)
    down = Stretch({"TerminateInstances": 1}, 20, 0, 0, 300, 200, 2.0, 40.0)
    up_and_ready = [(20.0, 50), (60.0, 100)]
    lost, absent = [(3.0, 4.0), (2.0, 2.0)], [(20.0, 50.0)]
    return Fleet(100, alike, up, 55.0, 0.0 if alike else 50.0, up_and_ready, still, still, down, 80.0, 120.0, lost, lost, absent)


WRITES = Writes(100, True, {"patch instances/status": 480, "create events": 100}, {}, {}, {"delete instances": 300, "create events": 200})


GOOD = Results(
    makespans={"chain": [Makespan(105.0, 100.0, 9, 0.0, (0.5, 0.0, 0.0, 0.0, 0.0), 0.5)]},
    scales={"1 service of 100": [scale(100, 1.0)], "1 service of 400": [scale(400, 8.0)]},
    idle=Idle(1000, STILL, STILL),
    reactions={"quiet": [Reaction(1.0, 2.0, 3.0)]},
    local=Local(5.0, 1.0, 2.0, 4.0),
    kubernetes={100: Kubernetes(100, phase(400), phase(0), phase(0), 0, phase(300), 60.0, 80.0)},
    ec2=(fleet(True), fleet(False)),
    ec2_kubernetes=(WRITES,),
)


def missed(results: Results) -> list[str]:
    return [each.what for each in report.missed(report.sections(results))]


def test_nothing_is_missed_where_all_goals_are_met() -> None:
    assert missed(GOOD) == []


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        pytest.param(
            replace(GOOD, makespans={"chain": [*GOOD.makespans["chain"], Makespan(111.0, 100.0, 9, 0.0, (0.0,) * 5, 0.0)]}),
            ["chain"],
            id="one slow run of two",
        ),
        pytest.param(
            replace(GOOD, makespans={"layers, on EC2": [Makespan(114.0, 100.0, 9, 0.0, (0.0,) * 5, 0.0)]}),
            [],
            id="on EC2 the goal is another",
        ),
        pytest.param(
            replace(GOOD, makespans={"layers, on EC2": [Makespan(116.0, 100.0, 9, 0.0, (0.0,) * 5, 0.0)]}),
            ["layers, on EC2"],
            id="slow on EC2",
        ),
        pytest.param(replace(GOOD, idle=replace(GOOD.idle, hour=replace(STILL, writes=1))), ["hour: writes and events"], id="a write"),
        pytest.param(replace(GOOD, idle=replace(GOOD.idle, hour=replace(STILL, events=1))), ["hour: writes and events"], id="an event"),
        pytest.param(replace(GOOD, idle=replace(GOOD.idle, hour=replace(STILL, lists=301))), ["hour: lists of the cloud"], id="many lists"),
        pytest.param(
            replace(GOOD, idle=replace(GOOD.idle, restart=replace(STILL, mutating_calls=1))),
            ["restart: calls that change the cloud"],
            id="a call after a restart",
        ),
        pytest.param(
            replace(GOOD, kubernetes={100: replace(GOOD.kubernetes[100], up=phase(490, 11))}),
            ["100: writes an Instance, created → Ready"],
            id="roll-ups count too",
        ),
        pytest.param(
            replace(GOOD, kubernetes={100: replace(GOOD.kubernetes[100], restart=phase(1))}),
            ["100: writes and mutating cloud calls of a restart"],
            id="a write after a restart",
        ),
        pytest.param(
            replace(GOOD, local=Local(5.0, 1.0, 2.0, 27.0)), ["killed → replaced by a Ready one, less its own boot, s"], id="healed late"
        ),
    ],
)
def test_a_goal_is_missed_by_the_worst_run(results: Results, expected: Sequence[str]) -> None:
    assert missed(results) == expected


def test_growth_compares_the_cost_of_one_instance() -> None:
    rows = {each.what: each.value for section in report.sections(GOOD) for each in section.figures}
    assert rows["up: CPU an Instance at 400 ÷ at 100"] == "2.00 (1 is linear, 4 quadratic)"


def test_the_page_says_what_was_missed() -> None:
    results = replace(GOOD, idle=replace(GOOD.idle, hour=replace(STILL, writes=1)))
    page = report.markdown(report.sections(results), "a machine")
    assert "| hour: writes and events | 1 + 0 | 0: **missed** |" in page
    assert "| restart: writes and events | 0 + 0 | 0: met |" in page


def test_a_spread_names_the_noise() -> None:
    assert figures.spread([3.0, 1.0, 2.0]) == "2.0 (1.0 to 3.0, 3 runs)"
    assert figures.spread([1.0], " s") == "1.0 s"
    assert figures.spread([0.0, 0.0], digits=0, of="losses") == "0 (2 losses)"


@pytest.mark.parametrize(
    ("alike", "change", "expected"),
    [
        pytest.param(True, {"calls": {"RunInstances": 3}}, ["100 alike: mutating calls a machine, created → Ready"], id="calls"),
        pytest.param(True, {"lists": 60}, ["100 alike: reads a machine, created → Ready"], id="reads"),
        pytest.param(True, {"described": 20}, ["100 alike: reads a machine, created → Ready"], id="questions by id"),
        pytest.param(True, {"throttled": 1}, ["100 alike: throttled calls and CreateTags"], id="throttled"),
        pytest.param(False, {"calls": {"RunInstances": 100, "CreateTags": 1}}, ["mutating", "CreateTags"], id="tags"),
        pytest.param(True, {"seconds": 90.0}, ["makespan", "beyond the slowest"], id="slow"),
    ],
)
def test_a_fleet_that_costs_too_much_is_told(alike: bool, change: dict[str, object], expected: Sequence[str]) -> None:
    worse = replace(fleet(alike), up=replace(fleet(alike).up, **change))  # pyright: ignore[reportArgumentType] -- fields of each row
    found = missed(replace(GOOD, ec2=[worse]))
    assert len(found) == len(expected)
    assert all(any(each in row for row in found) for each in expected)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"lost": [(3.0, 4.0), (21.0, 22.0)]}, "100 alike: one terminated → condition, s", id="noticed late"),
        pytest.param({"lost": [(3.0, 4.0), (3.0, 26.0)]}, "100 alike: one terminated → call for another, s", id="replaced late"),
        pytest.param(
            {"stopped": [(3.0, 4.0), (21.0, 22.0)]}, "100 alike: one stopped → condition, s", id="noticed late that it is stopped"
        ),
        pytest.param(
            {"stopped": [(3.0, 4.0), (3.0, 26.0)]}, "100 alike: one stopped → call for another, s", id="a stopped one replaced late"
        ),
        pytest.param({"absent": [(61.0, 3.0)]}, "100 alike: one merely absent → call for another, s", id="missed late"),
    ],
)
def test_a_loss_that_is_seen_late_is_told(change: dict[str, list[tuple[float, float]]], expected: str) -> None:
    worse = replace(fleet(True), **change)  # pyright: ignore[reportArgumentType] -- fields of each row
    assert missed(replace(GOOD, ec2=[worse])) == [expected]
    assert missed(replace(GOOD, ec2=[worse, fleet(True)])) == [expected], "the worst of the runs of a fleet counts"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"up": {"patch instances/status": 501}}, "writes a machine, created → Ready", id="up"),
        pytest.param({"down": {"delete instances": 301}}, "writes a machine, deleted", id="down"),
        pytest.param({"down": {"create events": 201}}, "events a machine, created → gone", id="events"),
        pytest.param({"restart": {"patch clouds/status": 1}}, "writes of 900 s of quiet, and of a restart", id="restart"),
    ],
)
def test_a_fleet_that_writes_too_much_is_told_and_what_it_would_take(change: dict[str, dict[str, int]], expected: str) -> None:
    results = replace(GOOD, ec2_kubernetes=[replace(WRITES, **change)])
    assert missed(results) == [f"100 alike on Kubernetes: {expected}"]
    words = "What it would take"
    page = report.markdown(report.sections(results), "a machine")
    assert words in page
    assert f"- 100 alike on Kubernetes: {expected}: " in page
    assert words not in report.markdown(report.sections(GOOD), "a machine")


def test_of_every_goal_it_is_said_what_it_would_take_where_it_is_missed() -> None:
    for section in report.sections(GOOD):
        for each in section.figures:
            assert each.met is None or len(section.what_it_takes(each)) > 10, each.what


def test_the_picture_has_a_line_for_each_fleet() -> None:
    drawn = report_ec2.picture(GOOD.ec2)
    assert drawn.count("<polyline") == 3, "two fleets, and the bound of the one"
    assert 'viewBox="0 0 720 320"' in drawn
    of_all = report_ec2.picture([replace(fleet(alike), instances=number) for number, alike, runs in FLEETS for _ in range(runs)])
    assert of_all.count(", Ready</text>") == len(FLEETS)
