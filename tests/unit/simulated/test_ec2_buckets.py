"""The light EC2 throttles as EC2 publishes it, in the World's time. Figures: see `tests.simulated.ec2.buckets`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulated.ec2 import ec2_client
from tests.simulated.ec2.trial import Trial, asked, code
from tests.simulated.world import NEVER

_LIMITED = "RequestLimitExceeded"
_NOBODY = "i-0000000000000ffff"


def _trial() -> Trial:
    trial = Trial()
    trial.ec2.behaviour.throttles = True
    return trial


def _until_limited(call: Callable[[], object]) -> int:
    """How many calls pass before one is throttled."""
    return next(passed for passed in range(2000) if code(call) == _LIMITED)


_CALLS: dict[str, Callable[[Trial], object]] = {
    "run": lambda trial: trial.run(),
    "terminate": lambda trial: trial.client.terminate_instances(InstanceIds=[_NOBODY]),
    "describe-paged": lambda trial: trial.listed(MaxResults=5),
    "describe-filtered": lambda trial: trial.found("tag-key", "a"),
    "describe-unfiltered": lambda trial: trial.listed(),
    "describe-by-id": lambda trial: trial.listed(InstanceIds=[_NOBODY]),
    "describe-images": lambda trial: trial.client.describe_images(),
    "console": lambda trial: trial.client.get_console_output(InstanceId=_NOBODY),
    "create-tags": lambda trial: trial.client.create_tags(Resources=[_NOBODY], Tags=[]),
}


@pytest.mark.parametrize(
    ("name", "size", "rate"),
    [
        pytest.param("run", 5, 2, id="run"),
        pytest.param("terminate", 100, 5, id="terminate"),
        pytest.param("describe-paged", 100, 20, id="describe-paged"),
        pytest.param("describe-filtered", 100, 20, id="describe-filtered"),
        pytest.param("describe-unfiltered", 50, 10, id="describe-unfiltered"),
        pytest.param("describe-by-id", 50, 10, id="describe-by-id"),
        pytest.param("describe-images", 100, 20, id="describe-images"),
        pytest.param("console", 100, 20, id="console"),
        pytest.param("create-tags", 100, 10, id="create-tags"),
    ],
)
def test_requests(name: str, size: int, rate: int) -> None:
    trial, call = _trial(), _CALLS[name]
    assert _until_limited(lambda: call(trial)) == size
    trial.clock.seconds += 1
    assert _until_limited(lambda: call(trial)) == rate
    trial.clock.seconds += 3600
    assert _until_limited(lambda: call(trial)) == size


def test_instances_have_a_bucket_of_their_own() -> None:
    trial = _trial()
    ids = trial.ids(999)
    assert code(lambda: trial.run(2)) == _LIMITED
    assert code(lambda: trial.run(1)) == ""
    trial.clock.seconds = 50
    assert code(lambda: trial.run(101)) == _LIMITED
    ids += trial.ids(100)
    assert len(ids) == 1099


def test_a_launch_for_which_there_are_too_few_tokens_makes_none_and_its_token_stays_good() -> None:
    trial = _trial()
    trial.run(1000)
    assert code(lambda: trial.run(2, "batch")) == _LIMITED
    assert len(trial.world.machines) == 1000
    trial.clock.seconds = 1
    first = trial.ids(2, "batch")
    # The same call again makes nothing, so it takes no tokens of instances.
    assert trial.ids(2, "batch") == first


def test_ends_take_tokens_by_the_instance() -> None:
    trial = Trial()
    ids = trial.ids(500) + trial.ids(600)
    trial.ec2.behaviour.throttles = True
    trial.client.terminate_instances(InstanceIds=ids[:900])
    assert code(lambda: trial.client.terminate_instances(InstanceIds=ids[900:])) == _LIMITED
    assert sum(each.ending != NEVER for each in trial.world.machines.values()) == 900
    trial.clock.seconds = 5
    assert code(lambda: trial.client.terminate_instances(InstanceIds=ids[900:])) == ""


def test_buckets_are_of_an_account_in_a_region_and_of_an_action() -> None:
    trial = _trial()
    assert _until_limited(trial.run) == 5
    for other in (ec2_client(trial.ec2, key="AKIDOTHER"), ec2_client(trial.ec2, region="us-east-1")):
        assert other.run_instances(**asked(1))["Instances"]
    assert code(trial.listed) == ""
    assert code(trial.run) == _LIMITED


def test_throttling_can_be_off() -> None:
    trial = Trial()
    assert [code(trial.run) for _ in range(10)] == [""] * 10
