"""Real SIGKILL of `occopus up`, `run` and `delete` at the three points where a machine could be made twice or be lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import faulty
from tests.e2e.desk import UP_SECONDS, Desk

PAIR = """
apiVersion: occopus.io/v1alpha1
kind: Cloud
metadata: {name: here}
spec: {local: {}}
---
apiVersion: occopus.io/v1alpha1
kind: InstanceTemplate
metadata: {name: plain}
spec:
  implementations: [{name: here, cloudRef: {name: here}, local: {}}]
  context: {cloudInit: {template: "#cloud-config\\nruncmd: [echo up]\\n"}}
---
apiVersion: occopus.io/v1alpha1
kind: Infrastructure
metadata: {name: pair}
spec:
  services:
  - {name: first, templateRef: {name: plain}}
  - {name: second, templateRef: {name: plain}, replicas: 2, dependsOn: [{service: first}]}
"""
KILLED = -signal.SIGKILL
TIMEOUT = ("--timeout", str(UP_SECONDS))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    (tmp_path / "pair.yaml").write_text(PAIR)
    try:
        yield desk
    finally:
        desk.end()


def dying(point: str) -> tuple[str, ...]:
    return ("-m", "tests.faulty", "occopus", point)


def up(desk: Desk) -> tuple[str, ...]:
    return ("up", "-f", str(desk.directory / "pair.yaml"), *TIMEOUT)


def assert_one_machine_each(desk: Desk) -> None:
    """As many live machines as Instances, each recorded; and none was made beside them, not even for a moment."""
    instances = desk.objects("instances")
    assert len(instances) == 3
    live = {each["id"] for each in desk.machines() if each["state"] == "running"}
    assert live == {each["status"]["machine"]["id"] for each in instances}
    assert len(desk.machines()) == 3


@pytest.mark.parametrize("point", [pytest.param(faulty.INTENT, id="intent"), pytest.param(faulty.MADE, id="made")])
def test_up_is_killed_while_it_launches_and_the_next_one_goes_on(desk: Desk, point: str) -> None:
    assert desk.run(*up(desk), module=dying(point)).returncode == KILLED
    (before,) = [each for each in desk.objects("instances") if "launch" in each.get("status", {})]
    assert "machine" not in before["status"]
    assert len(desk.machines()) == (0 if point == faulty.INTENT else 1)
    desk.occopus(*up(desk))
    assert_one_machine_each(desk)


@pytest.mark.long
@pytest.mark.parametrize("point", [pytest.param(faulty.INTENT, id="intent"), pytest.param(faulty.MADE, id="made")])
def test_run_is_killed_while_it_launches_and_the_next_one_goes_on(desk: Desk, point: str) -> None:
    running = desk.start_run(module=dying(point))
    desk.run(*up(desk)[:-1], "1")
    assert running.wait(UP_SECONDS) == KILLED
    desk.occopus(*up(desk))
    assert_one_machine_each(desk)


@pytest.mark.parametrize("point", [pytest.param(faulty.INTENT, id="intent"), pytest.param(faulty.MADE, id="made")])
def test_run_is_killed_while_it_launches_and_the_up_that_follows_it_goes_on_by_itself(desk: Desk, point: str) -> None:
    running = desk.start_run(module=dying(point))
    said = desk.occopus(*up(desk))
    assert running.wait(UP_SECONDS) == KILLED
    assert "nobody heals them" in said
    assert_one_machine_each(desk)


def test_run_is_killed_when_the_end_was_begun_and_the_delete_that_follows_it_goes_on_by_itself(desk: Desk) -> None:
    desk.occopus(*up(desk))
    running = desk.start_run(module=dying(faulty.END))
    assert "pair deleted" in desk.occopus("delete", "--all", *TIMEOUT)
    assert running.wait(UP_SECONDS) == KILLED
    assert {each["state"] for each in desk.machines()} == {"terminated"}


def test_delete_is_killed_when_the_end_was_begun_and_the_next_one_goes_on(desk: Desk) -> None:
    desk.occopus(*up(desk))
    assert desk.run("delete", "--all", *TIMEOUT, module=dying(faulty.END)).returncode == KILLED
    going = [each for each in desk.objects("instances") if each["metadata"].get("deletionTimestamp")]
    assert going
    assert all(each["spec"]["service"] == "second" for each in going)
    desk.occopus("delete", "--all", *TIMEOUT)
    assert desk.objects("instances") == []
    assert {each["state"] for each in desk.machines()} == {"terminated"}


def test_delete_is_killed_when_the_end_was_begun_and_up_finishes_that_and_makes_all_anew(desk: Desk) -> None:
    desk.occopus(*up(desk))
    before = {each["metadata"]["uid"] for each in desk.objects("instances")}
    assert desk.run("delete", "--all", *TIMEOUT, module=dying(faulty.END)).returncode == KILLED
    said = desk.occopus(*up(desk))
    assert said.startswith("pair is being deleted: that is finished first, then it is made anew\n")
    assert "pair Ready." in said
    instances = desk.objects("instances")
    assert before.isdisjoint(each["metadata"]["uid"] for each in instances)
    live = {each["id"] for each in desk.machines() if each["state"] == "running"}
    assert live == {each["status"]["machine"]["id"] for each in instances}
    assert len(live) == 3
    assert [each["state"] for each in desk.machines()].count("terminated") == 3


@pytest.mark.long
def test_run_is_killed_when_the_end_was_begun_and_up_makes_the_rest_so(desk: Desk) -> None:
    desk.occopus(*up(desk))
    running = desk.start_run(module=dying(faulty.END))
    desk.run("delete", "--instance", "pair-second-0", "--timeout", "1")
    assert running.wait(UP_SECONDS) == KILLED
    desk.occopus(*up(desk))
    assert sorted(each["metadata"]["name"] for each in desk.objects("instances")) in (
        ["pair-first-0", "pair-second-0", "pair-second-1"],
        ["pair-first-0", "pair-second-1", "pair-second-2"],
    )
    assert sum(each["state"] == "running" for each in desk.machines()) == 3
