"""`occopus up`: what it shows, how it ends, and that it goes on where it was."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from controller import desktop
from controller.ports import Key
from tests.e2e.descriptions import CHAIN, CLOUD, gated, infrastructure, service, template
from tests.e2e.desk import COMMAND_SECONDS, UP_SECONDS, Desk

TIMEOUT = ("--timeout", str(UP_SECONDS))
KINDS = ("Cloud", "InstanceTemplate", "Infrastructure", "InstanceGroup", "Instance", "ControllerRevision", "Event")


def up(desk: Desk, text: str) -> str:
    return desk.occopus("up", "-f", desk.write("infra.yaml", text), *TIMEOUT)


def versions(desk: Desk) -> dict[str, str]:
    """Every object with its resourceVersion; events by their count."""

    async def read() -> dict[str, str]:
        async with desktop.open(desktop.Settings(desk.state)) as opened:
            found = [each for kind in KINDS for each in await opened.store.list(kind)]
        return {f"{each['kind']}/{each['metadata']['name']}": each["metadata"].get("resourceVersion", each.get("count")) for each in found}

    return asyncio.run(read())


def test_services_come_up_in_order_and_it_says_so_in_plain_lines(desk: Desk) -> None:
    said = up(desk, CHAIN)
    assert "\x1b" not in said
    ready = [said.index(f"chain/{name}: Ready") for name in ("db", "app", "web")]
    assert ready == sorted(ready)
    assert "chain/app: WaitingForDependencies 0/2" in said
    assert said.splitlines()[-1].startswith("chain Ready.")
    assert "nobody heals them" in said.splitlines()[-1]
    events = {(each["reason"], each["involvedObject"]["name"]) for each in desk.objects("events")}
    assert {("Created", "chain-db"), ("Ready", "chain-web-0"), ("Ready", "chain")} <= events
    before = versions(desk)
    assert "chain Ready." in up(desk, CHAIN)
    assert versions(desk) == before


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [pytest.param(signal.SIGINT, 1, "interrupted", id="ctrl-c"), pytest.param(signal.SIGTERM, 143, "terminated", id="sigterm")],
)
def test_after_ctrl_c_or_sigterm_the_same_command_goes_on_with_the_same_machine(
    number: signal.Signals, code: int, word: str, desk: Desk
) -> None:
    gate = desk.directory / "gate"
    file = desk.write("infra.yaml", CLOUD + gated(gate) + infrastructure("slow", service("only", template="gated")))
    started = desk.start("up", "-f", file, *TIMEOUT)
    desk.until(started, lambda: "slow-only-0: Starting" in desk.started())
    started.send_signal(number)
    assert started.wait(COMMAND_SECONDS) == code
    assert f"{word}; the same command goes on" in desk.started()
    assert "Traceback" not in desk.started()
    gate.touch()
    desk.occopus("up", "-f", file, *TIMEOUT)
    assert [each["state"] for each in desk.machines()] == ["running"]


def test_a_timeout_that_is_too_short_tells_the_reason_of_each_service(desk: Desk) -> None:
    services = (service("first", template="gated"), service("second", "first", template="gated"))
    file = desk.write("infra.yaml", CLOUD + gated(desk.directory / "gate") + infrastructure("slow", *services))
    said = desk.refused(1, "up", "-f", file, "--timeout", "3")
    assert "slow was not Ready within 3 s" in said
    assert "first: Reconciling" in said
    assert "refused" in said  # what the probe met
    assert "second: WaitingForDependencies" in said
    status = desk.run("status")
    assert status.returncode == 1
    assert "WaitingForDependencies" in status.stdout
    assert desk.run("status", "--wait", "--timeout", "0.5").returncode == 1


def test_while_run_reconciles_it_writes_and_follows(desk: Desk) -> None:
    running = desk.start_run()
    try:
        assert f"reconciling {desk.state}" in desk.started()
        said = up(desk, CHAIN)
        assert said.splitlines()[-1] == "chain Ready."
        assert f"in use by process {running.pid}" in desk.refused(3, "run")
        desk.occopus("scale", "chain", "app", "3")
        # The command only writes; whoever asks next must not be told what was so before.
        desk.occopus("status", "--wait", *TIMEOUT)
        assert desk.services()["app"]["ready_replicas"] == 3
    finally:
        running.terminate()
        assert running.wait(COMMAND_SECONDS) == 0
    assert not (desk.directory / "run.pid").exists()
    assert len([each for each in desk.machines() if each["state"] == "running"]) == 5


def test_while_run_reconciles_a_mended_template_is_judged_by_what_run_makes_of_it(desk: Desk) -> None:
    """The status says still that the old one is invalid when the new one is written."""
    only = infrastructure("chain", service("only"))
    running = desk.start_run()
    try:
        file = desk.write("wrong.yaml", CLOUD + template(command="echo {{ nothing }}") + only)
        assert "TemplateInvalid" in desk.refused(1, "up", "-f", file, *TIMEOUT)
        assert up(desk, CLOUD + template() + only).splitlines()[-1] == "chain Ready."
        assert "TemplateInvalid" in desk.refused(1, "up", "-f", file, *TIMEOUT)
    finally:
        running.terminate()
        assert running.wait(COMMAND_SECONDS) == 0
    (chain,) = desk.objects("infra")
    assert chain["metadata"].get("annotations", {}) == {}


def test_a_service_that_leaves_the_file_goes_against_the_edges_and_one_that_enters_comes(desk: Desk) -> None:
    db, app, web = service("db"), service("app", "db"), service("web", "app")
    up(desk, CLOUD + template() + infrastructure("chain", db, app, web))
    said = up(desk, CLOUD + template() + infrastructure("chain", db, service("cache", "db")))
    gone = [said.index(f"{name}: gone") for name in ("chain/web", "chain/app")]
    assert gone == sorted(gone)
    assert "chain/cache: Ready 1/1" in said
    assert list(desk.services()) == ["db", "cache"]
    assert sorted(each["name"] for each in desk.machines() if each["state"] == "running") == ["chain-cache-0", "chain-db-0"]
    # What has gone was ended before the command ended.
    assert sorted(each["state"] for each in desk.machines()) == ["running", "running", "terminated", "terminated"]


def test_a_changed_template_is_told_and_running_machines_stay(desk: Desk) -> None:
    only = infrastructure("chain", service("only"))
    up(desk, CLOUD + template() + only)
    before = desk.machines()
    said = up(desk, CLOUD + template(command="echo changed") + only)
    assert desk.machines() == before
    (group,) = desk.objects("ig")
    (progressing,) = [each for each in group["status"]["conditions"] if each["type"] == "Progressing"]
    assert (progressing["status"], progressing["reason"]) == ("False", "RevisionChanged")
    assert "1 of 1" in progressing["message"]
    # All is Ready, and yet it is not as described: whoever looks is told, and what to do about it.
    assert "note: chain/only: RevisionChanged: 1 of 1" in said
    assert "Delete Instances one by one" in said
    status = desk.run("status")
    assert status.returncode == 0
    assert "RevisionChanged: 1 of 1" in status.stdout
    (note,) = desk.services()["only"]["notes"]
    assert note["reason"] == "RevisionChanged"


def test_a_changed_template_is_told_too_where_another_process_reconciles(desk: Desk) -> None:
    only = infrastructure("chain", service("only"))
    running = desk.start_run()
    try:
        up(desk, CLOUD + template() + only)
        assert "note: chain/only: RevisionChanged" in up(desk, CLOUD + template(command="echo changed") + only)
    finally:
        running.terminate()
        assert running.wait(COMMAND_SECONDS) == 0


def test_an_infrastructure_without_services_is_ready(desk: Desk) -> None:
    assert "empty Ready" in up(desk, CLOUD + infrastructure("empty").replace("services:\n", "services: []\n"))


def test_documents_without_an_infrastructure_are_applied_and_nothing_is_waited_for(desk: Desk) -> None:
    assert "applied 2 objects; none is an Infrastructure" in up(desk, CLOUD + template())


def test_a_paused_infrastructure_is_not_waited_for(desk: Desk) -> None:
    paused = infrastructure("one", service("a"), more="  paused: true\n")
    assert "Paused: spec.paused is true" in desk.refused(1, "up", "-f", desk.write("one.yaml", CLOUD + template() + paused), *TIMEOUT)


def test_what_cannot_be_followed_ends_at_once_and_what_runs_stays(desk: Desk) -> None:
    up(desk, CHAIN)
    before = desk.machines()
    nowhere = infrastructure("chain", service("a", template="nowhere"))
    said = desk.refused(1, "up", "-f", desk.write("infra.yaml", CLOUD + template() + nowhere), *TIMEOUT)
    assert "TemplateNotFound" in said
    assert desk.machines() == before


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        pytest.param(infrastructure("chain", service("a", "c"), service("b", "a"), service("c", "b")), ("Cycle", "a → "), id="a-cycle"),
        pytest.param(infrastructure("chain", service("db"), more="  id: other\n"), ("id cannot be changed",), id="what-never-changes"),
    ],
)
def test_with_exit_code_2_nothing_was_changed(wrong: str, words: tuple[str, ...], desk: Desk) -> None:
    up(desk, CHAIN)
    before = versions(desk)
    said = desk.refused(2, "up", "-f", desk.write("infra.yaml", CLOUD + template(command="echo changed") + wrong), *TIMEOUT)
    assert all(word in said for word in words), said
    assert versions(desk) == before


def test_a_status_that_an_earlier_process_left_is_not_believed(desk: Desk) -> None:
    up(desk, CHAIN)
    lost = next(each for each in desk.machines() if each["name"] == "chain-app-0")
    desk.kill(lost["id"])
    assert desk.run("status").returncode == 0  # nobody has looked
    up(desk, CHAIN)
    assert desk.services()["app"]["ready_replicas"] == 2
    running = {each["id"] for each in desk.machines() if each["state"] == "running"}
    assert len(running) == 4
    assert lost["id"] not in running


def mark(desk: Desk, *keys: Key) -> None:
    """Mark objects for deletion and let nobody do anything about it."""

    async def delete() -> None:
        async with desktop.open(desktop.Settings(desk.state)) as opened:
            for key in keys:
                await opened.delete(key)

    asyncio.run(delete())


def test_what_is_being_deleted_is_ended_first_its_cloud_too(desk: Desk) -> None:
    only = CLOUD + template() + infrastructure("chain", service("only"))
    up(desk, only)
    before = {each["metadata"]["uid"] for kind in ("cloud", "infra", "inst") for each in desk.objects(kind)}
    mark(desk, Key("Infrastructure", "default", "chain"), Key("Cloud", "default", "here"))
    # What is wrong is told before anything is waited for.
    assert "unknown field" in desk.refused(2, "up", "-f", desk.write("wrong.yaml", only.replace("templateRef", "template")), *TIMEOUT)
    assert "Cloud here, chain is being deleted" in up(desk, only)
    assert before.isdisjoint(each["metadata"]["uid"] for kind in ("cloud", "infra", "inst") for each in desk.objects(kind))
    assert sorted(each["state"] for each in desk.machines()) == ["running", "terminated"]


def test_a_cloud_that_is_being_deleted_and_cannot_go_is_refused_with_the_way_out(desk: Desk) -> None:
    only = CLOUD + template() + infrastructure("chain", service("only"))
    up(desk, only)
    mark(desk, Key("Cloud", "default", "here"))
    said = desk.refused(2, "up", "-f", desk.write("infra.yaml", only), *TIMEOUT)
    assert "Cloud here has machines of infrastructure chain too; delete that first" in said


def test_up_of_what_another_command_deletes_ends_and_the_other_one_finishes_it(desk: Desk) -> None:
    gate = desk.directory / "gate"
    file = desk.write("infra.yaml", CLOUD + gated(gate) + infrastructure("slow", service("only", template="gated")))
    started = desk.start("up", "-f", file, *TIMEOUT)
    desk.until(started, lambda: "slow-only-0: Starting" in desk.started())
    assert "slow deleted" in desk.occopus("delete", "slow", *TIMEOUT)
    assert started.wait(COMMAND_SECONDS) == 1
    assert "slow cannot be made as described: Terminating" in desk.started()
    assert [each["state"] for each in desk.machines()] == ["terminated"]


def test_up_beside_a_delete_makes_anew_what_that_one_ends(desk: Desk) -> None:
    only = CLOUD + template() + infrastructure("chain", service("only"))
    up(desk, only)
    # It stops when it is about to end the machine, and holds the state file.
    deleting = desk.start("delete", "chain", *TIMEOUT, module=("-m", "tests.faulty", "occopus", "before:delete:stop"))
    desk.until(deleting, lambda: Path(f"/proc/{deleting.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    making = desk.start("up", "-f", desk.write("infra.yaml", only), *TIMEOUT)
    desk.until(making, lambda: "chain is being deleted: that is finished first" in desk.started())
    deleting.send_signal(signal.SIGCONT)
    assert deleting.wait(COMMAND_SECONDS) == 0
    assert making.wait(COMMAND_SECONDS) == 0
    assert "chain deleted" in desk.started()
    assert "chain Ready." in desk.started()
    assert sorted(each["state"] for each in desk.machines()) == ["running", "terminated"]
