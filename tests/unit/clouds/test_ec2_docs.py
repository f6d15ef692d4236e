"""The how-to of the ec2 cloud says what is: its policy is the calls that are made, its files are taken."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.clouds import ec2
from controller.stores.rules import Rules
from tests.unit.clouds.ec2 import SPEC, launch, request, served

_ROOT = Path(__file__).parents[3]
_HOW_TO = (_ROOT / "docs" / "how-to" / "ec2.md").read_text()
_EXAMPLE = (_ROOT / "examples" / "ec2.yaml").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", _HOW_TO, re.DOTALL)


def _granted() -> Iterator[str]:
    (policy,) = (json.loads(each) for each in _blocks("json"))
    for statement in policy["Statement"]:
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
