"""What a test can command of the light EC2, whose key is whose, and what the ledger and the oracles then tell."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from botocore.parsers import ResponseParserError

from controller import errors
from controller.ports import Identity, Machine
from tests.simulated.ec2 import Garbage, Hang, Refusal, Request, Response, ec2_client, sts_client
from tests.simulated.ec2.trial import Trial, asked, code, tagged


def _ledger(trial: Trial) -> list[tuple[str, str]]:
    return [(each.action, each.outcome) for each in trial.world.ledger]


# --- errors in EC2's words ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("error", "answer", "status"),
    [
        pytest.param(errors.Throttled("slow"), "RequestLimitExceeded", 503, id="throttled"),
        pytest.param(errors.NoCapacity("none"), "InsufficientInstanceCapacity", 500, id="no-capacity"),
        pytest.param(errors.QuotaExceeded("full"), "VcpuLimitExceeded", 400, id="quota"),
        pytest.param(errors.Denied("no"), "UnauthorizedOperation", 403, id="denied"),
        pytest.param(errors.Invalid("image", "gone"), "InvalidParameterValue", 400, id="invalid"),
        pytest.param(errors.MachineNotFound("gone"), "InvalidInstanceID.NotFound", 400, id="not-found"),
        pytest.param(errors.TokenSpent("spent"), "IdempotentInstanceTerminated", 400, id="token-spent"),
        pytest.param(Refusal("Unavailable", status=503), "Unavailable", 503, id="raw"),
        pytest.param(Refusal("InstanceLimitExceeded"), "InstanceLimitExceeded", 400, id="raw-400"),
    ],
)
def test_a_commanded_error_is_worded_as_ec2_would(error: errors.CloudError, answer: str, status: int) -> None:
    trial = Trial()
    trial.world.fail("RunInstances", error)
    with pytest.raises(ClientError) as refused:
        trial.run()
    got: Any = refused.value.response
    assert (got["Error"]["Code"], got["ResponseMetadata"]["HTTPStatusCode"]) == (answer, status)
    assert trial.world.machines == {}
    assert len(trial.ids()) == 1


def test_a_fault_meets_what_it_is_about() -> None:
    trial = Trial()
    one, two = trial.ids(1, "one"), trial.ids(1, "two")
    trial.world.fail("RunInstances", errors.NoCapacity("none"), where=lambda token: token == "three")
    trial.world.fail("TerminateInstances", errors.Throttled("slow"), times=2, where=lambda ids: two[0] in ids)
    assert len(trial.ids(1, "four")) == 1
    assert code(lambda: trial.run(1, "three")) == "InsufficientInstanceCapacity"
    assert code(lambda: trial.client.terminate_instances(InstanceIds=one)) == ""
    assert [code(lambda: trial.client.terminate_instances(InstanceIds=one + two)) for _ in range(3)] == ["RequestLimitExceeded"] * 2 + [""]


def test_a_fault_can_be_taken_back() -> None:
    trial = Trial()
    fault = trial.world.fail("DescribeInstances", errors.Denied("no"), times=float("inf"))
    assert [code(trial.listed) for _ in range(2)] == ["UnauthorizedOperation"] * 2
    trial.world.clear(fault)
    assert trial.listed() == []


# --- no answer ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("after", "machines", "outcome"),
    [pytest.param(False, 0, "Transient", id="not-done"), pytest.param(True, 2, "lost ok", id="lost-reply")],
)
def test_a_connection_is_closed_before_or_after_the_deed(after: bool, machines: int, outcome: str) -> None:
    trial = Trial()
    trial.world.fail("RunInstances", errors.Transient("cut"), after=after)
    with pytest.raises(ConnectionClosedError):
        trial.run(2, "batch")
    assert len(trial.world.machines) == machines
    assert _ledger(trial) == [("RunInstances", outcome)]
    again = trial.ids(2, "batch")
    assert list(trial.world.machines) == again
    assert trial.world.duplicates() == []


def test_a_lost_reply_without_a_token_of_ones_own_makes_a_duplicate_that_the_oracle_sees() -> None:
    trial = Trial()
    trial.world.fail("RunInstances", errors.Transient("cut"), after=True)
    batch = tagged(**{"occopus.io/batch": "b"})
    with pytest.raises(ConnectionClosedError):
        trial.run(1, TagSpecifications=batch)
    trial.run(1, TagSpecifications=batch)
    assert trial.world.duplicates() == [Identity("b", 0)]
    assert trial.world.most_live()[Identity("b", 0)] == 2


def test_an_error_after_the_deed() -> None:
    trial = Trial()
    trial.world.fail("TerminateInstances", Refusal("InternalError", status=500), after=True)
    ids = trial.ids()
    assert code(lambda: trial.client.terminate_instances(InstanceIds=ids)) == "InternalError"
    assert trial.states() == ["shutting-down"]


def test_a_refusal_whose_reply_was_lost_is_told_apart() -> None:
    trial = Trial()
    trial.world.fail("RunInstances", errors.Transient("cut"), after=True)
    with pytest.raises(ConnectionClosedError):
        trial.run(1, ImageId="debian")
    assert _ledger(trial) == [("RunInstances", "lost InvalidAMIID.Malformed")]


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(Garbage(b"<DescribeInstancesResponse><reservationSet>"), id="cut-off"),
        pytest.param(Garbage(b"not XML"), id="no-xml"),
        pytest.param(Garbage(b"bad gateway", 502), id="bad-gateway"),
    ],
)
def test_garbage_is_no_answer(garbage: Garbage) -> None:
    trial = Trial()
    trial.world.fail("DescribeInstances", garbage)
    with pytest.raises(ResponseParserError):
        trial.listed()
    assert trial.listed() == []


def test_a_page_of_another_server_looks_to_boto3_like_an_answer_without_a_list() -> None:
    trial = Trial()
    trial.run()
    trial.world.fail("DescribeInstances", Garbage())
    assert "Reservations" not in trial.client.describe_instances()


@pytest.mark.parametrize(("after", "made"), [pytest.param(False, 0, id="before-the-deed"), pytest.param(True, 1, id="after-the-deed")])
def test_a_call_hangs_until_it_is_released(after: bool, made: int) -> None:
    trial, hang, ids = Trial(), Hang(), list[str]()
    trial.world.fail("RunInstances", hang, after=after)
    caller = threading.Thread(target=lambda: ids.extend(trial.ids(1, "batch")), daemon=True)
    caller.start()
    assert hang.reached.wait(10)
    assert (len(trial.world.machines), ids) == (made, [])
    assert trial.listed() == [] or made
    hang.release()
    caller.join(10)
    assert list(trial.world.machines) == ids == trial.ids(1, "batch")


# --- false lists ----------------------------------------------------------------------------------------------------
def _none(machines: Sequence[Machine]) -> Sequence[Machine]:
    return []


def _half(machines: Sequence[Machine]) -> Sequence[Machine]:
    return machines[: len(machines) // 2]


@pytest.mark.parametrize(("answer", "shown"), [pytest.param(_none, 0, id="empty"), pytest.param(_half, 2, id="partial")])
def test_a_list_is_falsified_once(answer: Callable[[Sequence[Machine]], Sequence[Machine]], shown: int) -> None:
    trial = Trial()
    ids = trial.ids(4)
    trial.world.falsify(answer)
    assert len(trial.listed(InstanceIds=ids)) == 4
    assert len(trial.listed(Filters=[{"Name": "instance-id", "Values": ids}])) == shown
    assert len(trial.listed()) == 4


def test_a_list_of_anothers_machines() -> None:
    trial = Trial()
    mine = trial.ids()
    (theirs,) = ec2_client(trial.ec2, key="AKIDOTHER").run_instances(**asked())["Instances"]
    false = [each.shown(0, trial.world.epoch) for each in trial.world.machines.values() if each.id not in mine]
    trial.world.falsify(lambda machines: false)
    assert [each["InstanceId"] for each in trial.listed()] == [theirs.get("InstanceId")]


# --- keys -----------------------------------------------------------------------------------------------------------
def test_a_key_names_the_account() -> None:
    trial = Trial()
    assert sts_client(trial.ec2).get_caller_identity()["Account"] == "111111111111"
    assert sts_client(trial.ec2, key="AKIDOTHER").get_caller_identity()["Account"] == "222222222222"
    trial.ec2.keys["AKIDMAIN"] = "222222222222"
    assert sts_client(trial.ec2).get_caller_identity()["Arn"] == "arn:aws:iam::222222222222:user/occopus"


def test_a_key_may_come_to_answer_for_another_account() -> None:
    trial = Trial()
    trial.run()
    trial.world.settings.answers_for["111111111111"] = "333333333333"
    assert sts_client(trial.ec2).get_caller_identity()["Account"] == "333333333333"
    assert trial.listed() == []
    trial.world.settings.answers_for.clear()
    assert len(trial.listed()) == 1


@pytest.mark.parametrize(
    ("service", "key", "answer"),
    [
        pytest.param("ec2", "AKIDNOBODY", "AuthFailure", id="unknown-to-ec2"),
        pytest.param("sts", "AKIDNOBODY", "InvalidClientTokenId", id="unknown-to-sts"),
        pytest.param("ec2", "AKIDMAIN", "RequestExpired", id="expired-for-ec2"),
        pytest.param("sts", "AKIDMAIN", "ExpiredToken", id="expired-for-sts"),
        pytest.param("ec2", "AKIDOTHER", "", id="another-key-is-good"),
    ],
)
def test_a_key_that_is_no_good(service: str, key: str, answer: str) -> None:
    trial = Trial()
    trial.ec2.expired.add("AKIDMAIN")
    ec2, sts = ec2_client(trial.ec2, key=key), sts_client(trial.ec2, key=key)
    assert code(lambda: ec2.describe_instances() if service == "ec2" else sts.get_caller_identity()) == answer


def test_requests_that_nobody_signed_or_that_ask_for_nothing_known() -> None:
    trial = Trial()
    unsigned = trial.ec2.handle(Request("POST", "/", {}, b"Action=DescribeInstances"))
    assert isinstance(unsigned, Response)
    assert (unsigned.status, b"MissingAuthenticationToken" in unsigned.body) == (403, True)
    assert code(lambda: trial.client.describe_vpcs()) == "InvalidAction"
    assert code(lambda: trial.client.describe_subnets(Filters=[{"Name": "tag-key", "Values": ["Name"]}])) == ""
    assert _ledger(trial) == [
        ("DescribeInstances", "MissingAuthenticationToken"),
        ("DescribeVpcs", "InvalidAction"),
        ("DescribeSubnets", "ok"),
    ]


# --- the ledger -----------------------------------------------------------------------------------------------------
def test_each_request_is_one_line_of_the_ledger() -> None:
    trial = Trial()
    ids = trial.ids(3, "batch")
    trial.client.terminate_instances(InstanceIds=ids[:2])
    trial.pages(5)
    trial.listed(InstanceIds=ids)
    assert trial.world.counts() == {"RunInstances": 1, "TerminateInstances": 1, "DescribeInstances": 2}
    run, end, listed, named = trial.world.ledger
    assert (run.token, run.ids, end.ids, listed.ids, named.ids) == ("batch", tuple(ids), tuple(ids[:2]), (), tuple(ids))


def test_leaks_are_the_controllers_live_machines_that_nobody_knows() -> None:
    trial = Trial()
    ours = tagged(**{"occopus.io/controller": "ours", "occopus.io/batch": "b"})
    ids = trial.ids(2, TagSpecifications=ours) + trial.ids(1)
    assert trial.world.leaks([Identity("b", 0)], "ours") == [ids[1]]
    trial.world.kill(ids[1])
    assert trial.world.leaks([Identity("b", 0)], "ours") == []
