"""The how-to of the ec2 cloud says what is: its policy is the calls that are made, its files are taken."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.clouds.ec2 import driver as ec2
from controller.clouds.ec2 import instances
from controller.ports import CONTROLLER_TAG
from controller.stores.rules import Rules
from tests.unit.clouds import iam
from tests.unit.clouds.ec2 import SPEC, launch, request, served

_ROOT = Path(__file__).parents[3]
_HOW_TO = (_ROOT / "docs" / "how-to" / "ec2.md").read_text()
_EXAMPLE = (_ROOT / "examples" / "ec2.yaml").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", _HOW_TO, re.DOTALL)


def _policy(controller_id: str) -> dict[str, Any]:
    (text,) = _blocks("json")
    return json.loads(text.replace("CONTROLLER-ID", controller_id))


def _granted() -> Iterator[str]:
    for statement in _policy("*")["Statement"]:
        actions = statement["Action"]
        yield from [actions] if isinstance(actions, str) else actions


def test_the_policy_grants_the_calls_that_are_made_and_no_other() -> None:
    with served() as cloud:
        driver = cloud.open()
        driver.identity()
        spec = driver.resolve({**SPEC, "keyName": "admin", "securityGroups": [{"name": "web"}]})
        (machines,) = driver.create([request(spec, count=2)])
        assert isinstance(machines, tuple)
        launch(driver, "batch-2")
        driver.list()
        driver.describe([machines[0].id])
        driver.console(machines[0].id)
        driver.delete([each.id for each in machines])
        made = {each.action for each in cloud.world.ledger}
    # CreateTags is what the tags of a launch need; it is never called.
    assert {f"ec2:{each}" for each in made - {"GetCallerIdentity"}} | {"ec2:CreateTags"} == set(_granted())
    assert "CreateTags" not in made


#: A launch that uses everything which IAM is asked for.
_WHOLE = {
    **{"image": {"id": "ami-01"}, "instanceType": "t3.small", "subnet": {"id": "subnet-01"}, "zone": "eu-west-1a", "keyName": "admin"},
    **{"securityGroups": [{"id": "sg-01"}], "rootVolume": {"device": "/dev/xvda"}, "spot": {}},
}
_IDS = [pytest.param("ours", id="the controller's id"), pytest.param("*", id="not known yet")]


def _launch(**changed: Any) -> list[iam.Question]:
    return list(iam.of_launch(instances.parameters(request({**_WHOLE, **changed}), "ours")))


def _tagged(*kinds: str, controller_id: str = "ours") -> list[iam.Question]:
    """A launch that gives the tag to these kinds of thing alone."""
    tags = [{"Key": CONTROLLER_TAG, "Value": controller_id}]
    return list(iam.of_launch({"ImageId": "ami-01", "TagSpecifications": [{"ResourceType": each, "Tags": tags} for each in kinds]}))


@pytest.mark.parametrize("controller_id", _IDS)
@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(_launch(), id="a launch"),
        pytest.param(_launch(publicAddress=True), id="a launch with an interface"),
        pytest.param([iam.on_instance("ec2:TerminateInstances", {CONTROLLER_TAG: "ours"})], id="end"),
        pytest.param([iam.on_instance("ec2:GetConsoleOutput", {CONTROLLER_TAG: "ours"})], id="console"),
        pytest.param([iam.Question("ec2:DescribeInstances", "*")], id="list"),
    ],
)
def test_the_policy_allows_what_is_done(asked: list[iam.Question], controller_id: str) -> None:
    assert [each for each in asked if not iam.allows(_policy(controller_id), each)] == []


@pytest.mark.parametrize("controller_id", _IDS)
@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(_tagged(), id="a launch without the tag"),
        pytest.param(_tagged("instance"), id="a launch without the tag of its volumes"),
        pytest.param(_tagged("volume"), id="a launch without the tag of its machines"),
        pytest.param([iam.on_instance("ec2:TerminateInstances", {})], id="end without the tag"),
        pytest.param([iam.on_instance("ec2:TerminateInstances", {"Name": "ours"})], id="end with another tag"),
        pytest.param([iam.on_instance("ec2:GetConsoleOutput", {})], id="console without the tag"),
        pytest.param([iam.on_instance("ec2:StopInstances", {CONTROLLER_TAG: "ours"})], id="stop"),
        pytest.param(
            [iam.Question("ec2:CreateTags", iam.arn("instance", "i-01"), {f"aws:RequestTag/{CONTROLLER_TAG}": "ours"})],
            id="a tag outside of a launch",
        ),
    ],
)
def test_the_policy_refuses_what_is_not(asked: list[iam.Question], controller_id: str) -> None:
    assert not all(iam.allows(_policy(controller_id), each) for each in asked)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(_tagged("instance", "volume", controller_id="theirs"), id="a launch"),
        pytest.param([iam.on_instance("ec2:TerminateInstances", {CONTROLLER_TAG: "theirs"})], id="end"),
        pytest.param([iam.on_instance("ec2:GetConsoleOutput", {CONTROLLER_TAG: "theirs"})], id="console"),
    ],
)
def test_the_policy_with_an_id_refuses_anothers(asked: list[iam.Question]) -> None:
    assert not all(iam.allows(_policy("ours"), each) for each in asked)


@pytest.mark.parametrize(
    "text",
    [pytest.param(each, id=f"how-to {number}") for number, each in enumerate(_blocks("yaml"))] + [pytest.param(_EXAMPLE, id="example")],
)
def test_a_file_is_taken(text: str) -> None:
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(text))
    assert documents
    for each in documents:
        each["metadata"]["namespace"] = "default"
        Rules([ec2.PLUGIN]).check(each, None)
