"""What the light EC2 shows of its machines, when, and how they end; and what of an account is in place."""

from __future__ import annotations

import base64
import functools
import time
from collections.abc import Callable
from typing import Any

import pytest

from controller.ports import Identity, MachineId
from tests.simulated.ec2 import Image, Request, Response, ec2_client
from tests.simulated.ec2.trial import Trial, asked, code, tagged
from tests.simulated.world import NEVER, World

_UNKNOWN = "i-0000000000000ffff"


# --- what is seen ---------------------------------------------------------------------------------------------------
def test_a_new_machine_is_unseen_until_reads_have_caught_up() -> None:
    trial = Trial(lag_seconds=60)
    (id,) = trial.ids(1, "batch")
    for at, seen in ((0, False), (59, False), (60, True)):
        trial.clock.seconds = at
        assert (trial.found("client-token", "batch") == [id]) is seen
        assert (code(lambda: trial.listed(InstanceIds=[id])) == "") is seen
    assert trial.states() == ["pending"]
    trial.clock.seconds = 90
    assert trial.states() == ["running"]


@pytest.mark.parametrize(
    ("lags", "answer"), [pytest.param(False, "", id="seen"), pytest.param(True, "InvalidInstanceID.NotFound", id="unseen")]
)
def test_an_end_may_meet_a_machine_that_is_unseen(lags: bool, answer: str) -> None:
    trial = Trial(lag_seconds=60)
    trial.ec2.behaviour.mutations_lag = lags
    (id,) = trial.ids()
    assert code(lambda: trial.client.terminate_instances(InstanceIds=[id])) == answer
    trial.clock.seconds = 60
    assert code(lambda: trial.client.terminate_instances(InstanceIds=[id])) == ""


def test_an_ended_machine_is_shown_for_an_hour_and_then_unknown() -> None:
    trial = Trial()
    (id,) = trial.ids()
    trial.client.terminate_instances(InstanceIds=[id])
    trial.clock.seconds = 3600
    assert trial.states() == ["terminated"]
    assert "PrivateIpAddress" not in trial.listed()[0]
    trial.clock.seconds = 3610
    assert trial.listed() == []
    assert code(lambda: trial.listed(InstanceIds=[id])) == "InvalidInstanceID.NotFound"
    assert code(lambda: trial.client.terminate_instances(InstanceIds=[id])) == "InvalidInstanceID.NotFound"


def test_reads_that_lag_show_an_ended_machine_the_longer() -> None:
    trial = Trial(lag_seconds=60, shown_seconds=100)
    (id,) = trial.ids()
    trial.clock.seconds = 60
    trial.world.kill(id)
    for at, states in ((119, ["running"]), (120, ["terminated"]), (219, ["terminated"]), (220, [])):
        trial.clock.seconds = at
        assert trial.states() == states


def test_tags_of_an_ended_machine_may_fade() -> None:
    trial = Trial()
    trial.ec2.behaviour.tags_fade_seconds = 60
    (id,) = trial.ids(1, TagSpecifications=tagged(a="b"))
    trial.world.kill(id)
    trial.clock.seconds = 59
    assert trial.found("tag:a", "b") == [id]
    trial.clock.seconds = 60
    assert trial.found("tag:a", "b") == []
    assert "Tags" not in trial.listed(InstanceIds=[id])[0]


def test_accounts_and_regions_do_not_see_each_other() -> None:
    trial = Trial()
    (id,) = trial.ids()
    other, elsewhere = ec2_client(trial.ec2, key="AKIDOTHER"), ec2_client(trial.ec2, region="us-east-1")
    for each in (other, elsewhere):
        assert each.describe_instances()["Reservations"] == []
        assert code(functools.partial(each.terminate_instances, InstanceIds=[id])) == "InvalidInstanceID.NotFound"
    # "If you specify an instance that you do not own, it is not included in the output."
    assert other.describe_instances(InstanceIds=[id])["Reservations"] == []
    assert code(lambda: elsewhere.describe_instances(InstanceIds=[id])) == "InvalidInstanceID.NotFound"
    assert trial.states() == ["pending"]


def test_a_machine_that_nobody_launched_here_is_shown() -> None:
    trial = Trial()
    id = trial.world.insert(("111111111111", "eu-west-1"), Identity("b", 2), {"k": "v"})
    (shown,) = trial.listed(Filters=[{"Name": "tag:k", "Values": ["v"]}])
    assert (shown["InstanceId"], shown["AmiLaunchIndex"]) == (id, 2)


# --- filters --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "values", "found"),
    [
        pytest.param("tag:app", ["web"], [0, 1], id="tag"),
        pytest.param("tag:app", ["w*"], [0, 1], id="tag-star"),
        pytest.param("tag:app", ["we?", "nothing"], [0, 1], id="tag-one-letter"),
        pytest.param("tag:app", ["w?"], [], id="tag-one-letter-of-two"),
        pytest.param("tag:app", ["WEB"], [], id="case-matters"),
        pytest.param("tag:app", [r"a\*b"], [3], id="escaped"),
        pytest.param("tag:app", ["a*b"], [3, 4], id="not-escaped"),
        pytest.param("tag-key", ["app"], [0, 1, 2, 3, 4], id="tag-key"),
        pytest.param("tag-key", ["other"], [], id="no-tag-key"),
        pytest.param("client-token", ["one"], [0, 1], id="client-token"),
        pytest.param("client-token", ["one", "two"], [0, 1, 2], id="client-tokens"),
        pytest.param("instance-state-name", ["pending"], [0, 1, 3, 4], id="state"),
        pytest.param("instance-state-name", ["pending", "shutting-down"], [0, 1, 2, 3, 4], id="states"),
        pytest.param("instance-state-code", ["32"], [2], id="state-code"),
        pytest.param("subnet-id", ["subnet-0a000000000000002"], [2], id="subnet"),
        pytest.param("availability-zone", ["eu-west-1b"], [2], id="zone"),
        pytest.param("launch-index", ["1"], [1], id="launch-index"),
    ],
)
def test_filters(name: str, values: list[str], found: list[int]) -> None:
    trial = Trial()
    ids = trial.ids(2, "one", TagSpecifications=tagged(app="web"))
    ids += trial.ids(1, "two", TagSpecifications=tagged(app="db"), SubnetId="subnet-0a000000000000002")
    ids += trial.ids(1, "three", TagSpecifications=tagged(app="a*b")) + trial.ids(1, "four", TagSpecifications=tagged(app="axb"))
    trial.client.terminate_instances(InstanceIds=[ids[2]])
    assert trial.found(name, *values) == [ids[each] for each in found]


def test_filters_are_joined_by_and() -> None:
    trial = Trial()
    ids = trial.ids(2, "one", TagSpecifications=tagged(app="web"))
    both = [{"Name": "tag:app", "Values": ["web"]}, {"Name": "instance-id", "Values": [ids[1]]}]
    assert [each["InstanceId"] for each in trial.listed(Filters=both)] == [ids[1]]


def test_a_filter_that_is_not_known_and_too_many_values_are_refused() -> None:
    trial = Trial()
    assert code(lambda: trial.found("colour", "red")) == "InvalidParameterValue"
    assert code(lambda: trial.found("instance-id", *(f"i-{n:017x}" for n in range(201)))) == "FilterLimitExceeded"


# --- pages ----------------------------------------------------------------------------------------------------------
def test_pages_show_each_machine_once_and_may_split_a_reservation() -> None:
    trial = Trial()
    ids = trial.ids(7) + trial.ids(5)
    shown = [[each["InstanceId"] for each in page] for page in trial.pages(5)]
    assert [len(each) for each in shown] == [5, 5, 2]
    assert [id for page in shown for id in page] == ids
    token = trial.client.describe_instances(MaxResults=5).get("NextToken", "")
    assert len(trial.client.describe_instances(NextToken=token, MaxResults=5)["Reservations"]) == 2


def test_a_page_token_works_again_and_only_for_its_account() -> None:
    trial = Trial()
    trial.ids(12)
    token = trial.client.describe_instances(MaxResults=5).get("NextToken", "")
    assert len(trial.listed(NextToken=token)) == len(trial.listed(NextToken=token)) == 7
    other = ec2_client(trial.ec2, key="AKIDOTHER")
    assert code(lambda: other.describe_instances(NextToken=token)) == "InvalidPaginationToken"


def test_a_machine_launched_between_pages_is_on_none_and_its_state_is_of_now() -> None:
    trial = Trial()
    trial.ids(10)
    token = trial.client.describe_instances(MaxResults=5).get("NextToken", "")
    trial.ids(1)
    trial.clock.seconds = 30
    assert [each["State"]["Name"] for each in trial.listed(NextToken=token)] == ["running"] * 5


@pytest.mark.parametrize(
    ("size", "ids", "answer"),
    [
        pytest.param(4, [], "InvalidParameterValue", id="too-few"),
        pytest.param(1001, [], "InvalidParameterValue", id="too-many"),
        pytest.param(5, [_UNKNOWN], "InvalidParameterCombination", id="with-ids"),
    ],
)
def test_sizes_of_pages_that_are_refused(size: int, ids: list[str], answer: str) -> None:
    trial = Trial()
    assert code(lambda: trial.client.describe_instances(MaxResults=size, InstanceIds=ids)) == answer


# --- states ---------------------------------------------------------------------------------------------------------
_ACTS: dict[str, Callable[[Trial, str], None]] = {
    "nothing": lambda trial, id: None,
    "stop": lambda trial, id: trial.world.stop(id),
    "end": lambda trial, id: trial.world.terminate(MachineId(id)),
    "kill": lambda trial, id: trial.world.kill(id),
    "interrupt": lambda trial, id: trial.ec2.interrupt(id),
    "break-down": lambda trial, id: trial.world.break_down(id),
}


@pytest.mark.parametrize(
    ("act", "at", "state", "reason"),
    [
        pytest.param("nothing", 0, "pending", "", id="pending"),
        pytest.param("nothing", 30, "running", "", id="running"),
        pytest.param("stop", 0, "stopping", "Client.UserInitiatedShutdown", id="stopping"),
        pytest.param("stop", 5, "stopped", "Client.UserInitiatedShutdown", id="stopped"),
        pytest.param("end", 9, "shutting-down", "Client.UserInitiatedShutdown", id="shutting-down"),
        pytest.param("end", 10, "terminated", "Client.UserInitiatedShutdown", id="terminated"),
        pytest.param("kill", 0, "terminated", "Client.UserInitiatedShutdown", id="killed"),
        pytest.param("interrupt", 10, "terminated", "Server.SpotInstanceTermination", id="spot"),
        pytest.param("break-down", 0, "stopped", "Server.InternalError", id="host-failed"),
    ],
)
def test_states_and_their_reasons(act: str, at: float, state: str, reason: str) -> None:
    trial = Trial(stopping_seconds=5)
    (id,) = trial.ids()
    _ACTS[act](trial, id)
    trial.clock.seconds = at
    (shown,) = trial.listed()
    assert (shown["State"]["Name"], shown.get("StateReason", {}).get("Code", "")) == (state, reason)
    if reason == "Client.UserInitiatedShutdown":
        assert shown["StateTransitionReason"] == "User initiated (2030-01-01 00:00:00 GMT)"


def test_a_word_that_is_no_state_is_shown_as_it_is() -> None:
    trial = Trial()
    (id,) = trial.ids()
    trial.world.machines[next(iter(trial.world.machines))].strange_state = "dreaming"
    assert trial.states() == ["dreaming"]
    assert trial.found("instance-state-name", "dreaming") == [id]


# --- ending ---------------------------------------------------------------------------------------------------------
def test_ending_is_idempotent() -> None:
    trial = Trial()
    (id,) = trial.ids()
    changes: list[tuple[str, str]] = []
    for at in (30, 35, 100):
        trial.clock.seconds = at
        (change,) = trial.client.terminate_instances(InstanceIds=[id, id])["TerminatingInstances"]
        changes.append((change.get("PreviousState", {}).get("Name", ""), change.get("CurrentState", {}).get("Name", "")))
    assert changes == [("running", "shutting-down"), ("shutting-down", "shutting-down"), ("terminated", "terminated")]
    assert trial.world.live() == []
    assert next(iter(trial.world.machines.values())).ended == 40


@pytest.mark.parametrize(
    ("more", "answer"),
    [
        pytest.param([_UNKNOWN], "InvalidInstanceID.NotFound", id="unknown"),
        pytest.param(["i-xyz"], "InvalidInstanceID.Malformed", id="malformed"),
        pytest.param([f"i-{n:017x}" for n in range(1, 1001)], "InvalidParameterValue", id="more-than-1000"),
    ],
)
def test_one_bad_id_and_none_is_ended(more: list[str], answer: str) -> None:
    trial = Trial()
    (id,) = trial.ids()
    assert code(lambda: trial.client.terminate_instances(InstanceIds=[id, *more])) == answer
    assert next(iter(trial.world.machines.values())).ending == NEVER


def test_a_dry_run_ends_nothing() -> None:
    trial = Trial()
    (id,) = trial.ids()
    assert code(lambda: trial.client.terminate_instances(InstanceIds=[id], DryRun=True)) == "DryRunOperation"
    assert next(iter(trial.world.machines.values())).ending == NEVER


def test_tags_can_be_changed_and_the_ledger_shows_who_did() -> None:
    trial = Trial()
    (id,) = trial.ids(1, TagSpecifications=tagged(a="b"))
    assert trial.listed()[0].get("Tags") == [{"Key": "a", "Value": "b"}]
    trial.client.create_tags(Resources=[id], Tags=[{"Key": "a", "Value": "c"}])
    assert trial.listed()[0].get("Tags") == [{"Key": "a", "Value": "c"}]
    assert trial.world.counts()["CreateTags"] == 1


def test_console_output() -> None:
    trial = Trial()
    (id,) = trial.ids(1, UserData="abc", TagSpecifications=tagged(Name="web-0"))
    assert trial.client.get_console_output(InstanceId=id).get("Output") == ""
    trial.clock.seconds = 30
    assert trial.client.get_console_output(InstanceId=id).get("Output") == "web-0 booted with 3 bytes of user data\n"
    raw = trial.ec2.handle(Request("POST", "/", _signed(), f"Action=GetConsoleOutput&InstanceId={id}".encode()))
    assert isinstance(raw, Response)
    assert base64.b64encode(b"web-0 booted") in raw.body
    assert code(lambda: trial.client.get_console_output(InstanceId=_UNKNOWN)) == "InvalidInstanceID.NotFound"


# --- what is in place -----------------------------------------------------------------------------------------------
def test_images_by_name_owner_and_tag() -> None:
    trial = Trial()
    client = trial.client
    trial.ec2.catalogue.images.append(Image("ami-0a000000000000009", "debian-12-mine", owner="111111111111"))

    def names(**wanted: Any) -> list[str]:
        return [each.get("Name", "") for each in client.describe_images(**wanted)["Images"]]

    assert names(Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}]) == ["debian-12-amd64-20290101", "debian-12-amd64-20290601"]
    assert names(Owners=["amazon"]) == ["al2023-ami-2029.0-x86_64"]
    assert names(Owners=["self"]) == ["debian-12-mine"]
    assert names(Filters=[{"Name": "tag:role", "Values": ["base"]}]) == ["debian-12-amd64-20290601"]
    assert names(ImageIds=["ami-0a000000000000001"]) == ["debian-12-amd64-20290101"]
    assert code(lambda: names(ImageIds=["ami-0a00000000000ffff"])) == "InvalidAMIID.NotFound"
    assert code(lambda: names(ImageIds=["debian"])) == "InvalidAMIID.Malformed"


def test_subnets_groups_key_pairs_and_zones() -> None:
    client = Trial().client
    back = client.describe_subnets(Filters=[{"Name": "tag:tier", "Values": ["back"]}])["Subnets"]
    assert [each.get("AvailabilityZone") for each in back] == ["eu-west-1b", "eu-west-1c"]
    (web,) = client.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["web"]}])["SecurityGroups"]
    assert (web.get("GroupId"), web.get("Tags")) == ("sg-0a000000000000002", [{"Key": "Name", "Value": "web"}])
    assert [each.get("KeyName") for each in client.describe_key_pairs(KeyNames=["admin"])["KeyPairs"]] == ["admin"]
    zones = [each.get("ZoneName") for each in client.describe_availability_zones()["AvailabilityZones"]]
    assert zones == ["eu-west-1a", "eu-west-1b", "eu-west-1c"]
    assert code(lambda: client.describe_subnets(SubnetIds=["subnet-0a00000000000ffff"])) == "InvalidSubnetID.NotFound"
    assert code(lambda: client.describe_security_groups(GroupIds=["sg-0a00000000000ffff"])) == "InvalidGroup.NotFound"
    assert code(lambda: client.describe_key_pairs(KeyNames=["nobody"])) == "InvalidKeyPair.NotFound"


# --- what it costs --------------------------------------------------------------------------------------------------
def _signed() -> dict[str, str]:
    return {"authorization": "AWS4-HMAC-SHA256 Credential=AKIDMAIN/20300101/eu-west-1/ec2/aws4_request, SignedHeaders=host, Signature=0"}


def test_a_list_of_1000_unchanged_machines_is_cheap() -> None:
    """10 CPU-ms were measured; 50 leave room for a busy machine and are far below making each machine's XML anew."""
    trial = Trial()
    trial.client.run_instances(**asked(1000, TagSpecifications=tagged(app="web")))
    list_all = Request("POST", "/", _signed(), b"Action=DescribeInstances&Filter.1.Name=tag:app&Filter.1.Value.1=web")
    first = trial.ec2.handle(list_all)
    took: list[float] = []
    for _ in range(3):
        start = time.thread_time()
        assert trial.ec2.handle(list_all) is not None
        took.append(time.thread_time() - start)
    assert isinstance(first, Response)
    assert first.body.count(b"<instanceId>") == 1000
    assert min(took) < 0.05


def test_machines_of_a_world_have_ids_of_ec2s() -> None:
    world: World = Trial().world
    assert world.id_of(255) == "i-000000000000000ff"
