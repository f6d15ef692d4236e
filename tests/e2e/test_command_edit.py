"""`occopus scale`, `delete`, `status`, `get` and `console`: what is changed, what is shown, what is refused."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest
import yaml

from controller import desktop, errors
from controller.ports import Key
from tests.e2e.descriptions import CHAIN, CLOUD, infrastructure, service, template
from tests.e2e.desk import COMMAND_SECONDS, UP_SECONDS, Desk

TIMEOUT = ("--timeout", str(UP_SECONDS))
_NONE = service("none", more=", scaling: {min: 0, max: 0}")
FIXED = CLOUD + template() + infrastructure("fixed", service("two", more=", replicas: 2"), _NONE, service("free"))
#: Every way to ask for what is not there or does not go together → a word of the answer.
WRONG = {
    ("scale", "chain", "nope", "1"): "no service nope",
    ("scale", "nope", "app", "1"): "there are chain",
    ("scale", "chain", "app", "--", "-1"): "not in the range",
    ("scale", "chain", "app", "many"): "not a valid integer",
    ("delete",): "--all",
    ("delete", "chain", "--all"): "--all",
    ("delete", "chain", "--instance", "chain-db-0"): "--instance",
    ("delete", "chain", "--scale-in"): "--scale-in goes with",
    ("delete", "nope"): "there are chain",
    ("delete", "--instance", "nope"): "no Instance nope",
    ("status", "nope"): "no infrastructure nope",
    ("get", "gizmo"): "InstanceTemplate",
    ("get", "inst", "nope"): "no Instance nope",
    ("console", "nope"): "no Instance nope",
    ("up",): "--file",
    ("fly",): "fly",
}


def up(desk: Desk, text: str) -> str:
    return desk.occopus("up", "-f", desk.write("infra.yaml", text), *TIMEOUT)


def test_what_is_shown_and_what_is_not_there(desk: Desk) -> None:
    up(desk, CHAIN)
    lines = desk.occopus("status").splitlines()
    assert [line.split()[1] for line in lines if line[0] in "├└"] == ["db", "app", "web"]
    assert "\x1b" not in "".join(lines)
    as_json, as_yaml = desk.occopus("status", "chain", "-o", "json"), desk.occopus("status", "chain", "-o", "yaml")
    (row,) = json.loads(as_json)["infrastructures"]
    assert (row["name"], row["ready"], len(row["services"])) == ("chain", True, 3)
    assert [each["name"] for each in yaml.safe_load(as_yaml)["infrastructures"][0]["services"]] == ["db", "app", "web"]
    assert {each["metadata"]["name"] for each in desk.objects("INST")} == {"chain-db-0", "chain-app-0", "chain-app-1", "chain-web-0"}
    assert yaml.safe_load(desk.occopus("get", "infrastructures", "chain"))["status"]["phase"] == "Ready"
    assert desk.occopus("console", "chain-db-0").startswith("up\n")
    (machine,) = [each["id"] for each in desk.machines() if each["name"] == "chain-web-0"]
    desk.kill(machine)
    assert desk.occopus("console", "chain-web-0").startswith("up\n")  # also of one that has ended
    for arguments, word in WRONG.items():
        assert word in desk.refused(2, *arguments), arguments


def test_scale_is_clamped_and_said(desk: Desk) -> None:
    up(desk, CHAIN)
    assert "app: 9 wanted; its scaling allows 2 to 4, so it will have 4 (Clamped)" in desk.occopus("scale", "chain", "app", "9")
    # Written and not made so yet, which status must not call Ready.
    status = desk.run("status")
    assert status.returncode == 1
    assert "2/4" in status.stdout
    assert "note: chain/app: Clamped: replicas is 9; scaling allows 4" in up(desk, CHAIN)
    assert desk.services()["app"]["ready_replicas"] == 4
    (group,) = [each for each in desk.objects("ig") if each["spec"]["service"] == "app"]
    (scaled,) = [each for each in group["status"]["conditions"] if each["type"] == "Scaled"]
    assert (scaled["status"], scaled["reason"]) == ("False", "Clamped")
    assert "9" in scaled["message"]
    desk.occopus("scale", "chain", "app", "0")
    up(desk, CHAIN)
    running = sorted(each["name"] for each in desk.machines() if each["state"] == "running")
    assert running == ["chain-app-0", "chain-app-1", "chain-db-0", "chain-web-0"]


@pytest.mark.long
def test_a_fixed_number_is_not_scaled_and_a_free_one_may_be_none(desk: Desk) -> None:
    up(desk, FIXED)
    said = desk.refused(2, "scale", "fixed", "two", "3")
    assert "services[].replicas" in said
    said = desk.occopus("delete", "--instance", "fixed-two-0", "--scale-in", "-q", *TIMEOUT)
    assert said == "fixed-two-0 deleted and replaced: the count stays 2, which services[].replicas or scaling.min sets\n"
    assert "its scaling allows 0 to 0, so it will have 0" in desk.occopus("scale", "fixed", "none", "3")
    assert desk.occopus("scale", "fixed", "free", "0") == "fixed/free: 0 wanted\n"
    up(desk, FIXED)
    free = desk.services()["free"]
    assert (free["ready"], free["replicas"], free["instances"]) == (True, 0, [])


def test_an_instance_is_replaced_or_scaled_in(desk: Desk) -> None:
    more = CHAIN.replace("min: 2", "min: 1")
    up(desk, more)
    desk.occopus("scale", "chain", "app", "2")
    up(desk, more)
    before = {each["id"] for each in desk.machines()}
    assert "chain-app-0 deleted and replaced" in desk.occopus("delete", "--instance", "chain-app-0", *TIMEOUT)
    assert desk.services()["app"]["ready_replicas"] == 2
    assert len({each["id"] for each in desk.machines()} - before) == 1
    going = desk.services()["app"]["instances"][-1]["name"]
    said = desk.occopus("delete", "--instance", going, "--scale-in", "-q", *TIMEOUT)
    assert said == f"{going} deleted\n"
    assert desk.services()["app"]["replicas"] == 1
    (group,) = [each for each in desk.objects("ig") if each["spec"]["service"] == "app"]
    assert group["spec"]["replicas"] == 1


def test_an_instance_of_a_paused_infrastructure_is_scaled_in(desk: Desk) -> None:
    scaled = CLOUD + template() + infrastructure("one", service("only", more=", scaling: {min: 1, max: 3}"))
    up(desk, scaled)
    desk.occopus("scale", "one", "only", "2")
    up(desk, scaled)
    paused = desk.write("paused.yaml", scaled.replace("spec:\n  services:", "spec:\n  paused: true\n  services:"))
    assert "Paused" in desk.refused(1, "up", "-f", paused, *TIMEOUT)
    assert desk.occopus("delete", "--instance", "one-only-1", "--scale-in", "-q", *TIMEOUT) == "one-only-1 deleted\n"


def test_an_instance_of_what_cannot_be_followed_is_deleted_and_nothing_more_is_waited_for(desk: Desk) -> None:
    up(desk, CLOUD + template() + infrastructure("one", service("only")))
    nowhere = infrastructure("one", service("only"), service("more", template="nowhere"))
    desk.refused(1, "up", "-f", desk.write("infra.yaml", nowhere), *TIMEOUT)
    done = desk.run("delete", "--instance", "one-only-0", *TIMEOUT)
    assert done.returncode == 1
    assert done.stdout.endswith("one-only-0 deleted\n"), "and not because the time was over"
    assert "one cannot be made as described: TemplateNotFound" in done.stderr
    assert "terminated" in {each["state"] for each in desk.machines()}


def test_delete_shows_its_order_and_deletes_one_or_all_or_nothing(desk: Desk) -> None:
    other = infrastructure("other", service("only"))
    up(desk, CHAIN + other)
    assert "other deleted" in desk.occopus("delete", "other", *TIMEOUT)
    assert {each["metadata"]["name"] for each in desk.objects("infra")} == {"chain"}
    said = desk.occopus("delete", "--all", *TIMEOUT)
    gone = [said.index(f"chain-{name}-0: gone") for name in ("web", "app", "db")]
    assert gone == sorted(gone)
    # No machine of a service was touched while one that depends on it was there.
    assert said.index("chain-app-0: Ending") >= said.index("chain-web-0: Ending")
    assert {each["state"] for each in desk.machines()} == {"terminated"}
    assert desk.occopus("delete", "--all") == "nothing deleted\n"
    assert "no infrastructure" in desk.occopus("status")
    assert json.loads(desk.occopus("status", "-o", "json")) == {"infrastructures": []}
    assert "there is none" in desk.refused(2, "delete", "chain")


def test_after_sigterm_delete_has_let_its_calls_end_and_the_same_command_goes_on(desk: Desk) -> None:
    up(desk, CLOUD + template() + infrastructure("one", service("only")))
    deleting = desk.start("delete", "one", *TIMEOUT, module=("-m", "tests.faulty", "occopus", "before:delete:3"))
    desk.until(deleting, lambda: "one-only-0: Ending" in desk.started())
    deleting.send_signal(signal.SIGTERM)
    assert deleting.wait(COMMAND_SECONDS) == 143
    assert "terminated; the same command goes on" in desk.started()
    assert "Traceback" not in desk.started()
    assert [each["state"] for each in desk.machines()] == ["terminated"], "the call was on its way"
    assert "one deleted" in desk.occopus("delete", "one", *TIMEOUT)


def test_delete_by_file_takes_what_the_infrastructure_was_made_from_too(desk: Desk) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {password: x}\n---\n"
    mine = desk.write("mine.yaml", CLOUD + template() + secret + infrastructure("mine", service("only")))
    other = desk.write("other.yaml", infrastructure("other", service("only")))
    desk.occopus("up", "-f", mine, "-f", other, *TIMEOUT)
    assert "machines of infrastructure other" in desk.refused(2, "delete", "-f", mine)
    assert {each["metadata"]["name"] for each in desk.objects("infra")} == {"mine", "other"}, "nothing was deleted"
    assert "other deleted" in desk.occopus("delete", "-f", other, *TIMEOUT)
    said = desk.occopus("delete", "-f", mine, *TIMEOUT)
    assert said.index("mine deleted") < said.index("Cloud here, InstanceTemplate plain, Secret keys deleted")
    assert [each for kind in ("cloud", "it", "infra", "inst") for each in desk.objects(kind)] == []
    assert "no Secret" in desk.refused(2, "get", "secret", "keys")
    assert {each["state"] for each in desk.machines()} == {"terminated"}
    assert "nothing deleted" in desk.occopus("delete", "-f", mine)


def test_an_instance_and_its_launch_are_never_changed(desk: Desk) -> None:
    up(desk, CLOUD + template() + infrastructure("chain", service("only")))

    async def change() -> None:
        async with desktop.open(desktop.Settings(desk.state)) as opened:
            key = Key("Instance", "default", "chain-only-0")
            before = await opened.store.get(key)
            with pytest.raises(errors.Rejected) as refused:
                await opened.change(key, {"spec": {"service": "other"}})
            assert [cause.field for cause in refused.value.causes] == ["spec"]
            for launch in (None, {"digest": "sha256:0"}):
                with pytest.raises(errors.Rejected):
                    await opened.store.patch(
                        key, {"status": {"launch": launch}}, version=before["metadata"]["resourceVersion"], subresource="status"
                    )
            assert await opened.store.get(key) == before

    asyncio.run(change())
