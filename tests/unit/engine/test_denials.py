"""Of launches that are denied one asks for all of its kind; who asks may go, and what lets the others go on."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.instance import Instance, InstanceStatus
from controller.api.reasons import Reason
from controller.api.template import Implementation
from controller.engine.denials import ASKS_SECONDS, WAITS, Denials
from controller.ports import Key
from tests.properties import build

OTHER = Implementation.model_validate({"name": "one", "cloudRef": {"name": "other"}, "simulated": {"image": "image-1"}})
WORDS = "not allowed to RunInstances"


class Cloud:
    """What is asked through, and who was woken."""

    def __init__(self) -> None:
        self.driver: object = object()
        self.woken: list[Key] = []
        self.denials = Denials(lambda key: self.driver, self.woken.append)


def instance(index: int, *, group: str = "g", said: str = "", **spec: Any) -> Instance:
    owner = build.owner("InstanceGroup", f"shop-{group}").model_copy(update={"uid": f"uid-of-{group}"})
    made = build.instance(index, owner_references=(owner,), spec=spec)
    made = made.model_copy(update={"metadata": made.metadata.model_copy(update={"uid": f"{group}-{index}"})})
    if not said:
        return made
    told = build.said("Launched", False, Reason.DENIED, said)
    return made.model_copy(update={"status": InstanceStatus(conditions=(told,))})


def test_one_asks_and_the_others_wait_until_it_may() -> None:
    cloud = Cloud()
    first, second, third = map(instance, range(3))
    assert [cloud.denials.waits(each, 0.0) for each in (first, second)] == ["", ""], "nothing is known"
    cloud.denials.denied(first, WORDS, 1.0)
    cloud.denials.denied(second, WORDS, 1.0)
    assert [cloud.denials.waits(each, 3.0) for each in (first, second, third)] == ["", WORDS + WAITS, WORDS + WAITS]
    assert cloud.denials.stands("g-1")
    cloud.denials.allowed(first)
    assert [each.name for each in cloud.woken] == ["shop-app-1", "shop-app-2"]
    assert not cloud.denials.stands("g-1")
    assert [cloud.denials.waits(each, 4.0) for each in (second, third)] == ["", ""]


def test_of_a_group_that_has_gone_nothing_is_remembered() -> None:
    cloud = Cloud()
    (first, second), other = map(instance, range(2)), instance(0, group="h")
    for each in (first, other):
        cloud.denials.denied(each, WORDS, 0.0)
    cloud.denials.forget_group("uid-of-g")
    assert not cloud.denials.stands("g-0")
    assert not cloud.denials.waits(second, 1.0)
    assert cloud.denials.waits(instance(1, group="h"), 1.0)


def test_another_asks_where_the_one_that_asked_does_so_no_more() -> None:
    cloud = Cloud()
    first, second, third = map(instance, range(3))
    cloud.denials.denied(first, WORDS, 0.0)
    assert cloud.denials.waits(second, ASKS_SECONDS)
    assert not cloud.denials.waits(second, ASKS_SECONDS + 1)
    assert cloud.denials.waits(third, ASKS_SECONDS + 2)
    assert cloud.denials.waits(first, ASKS_SECONDS + 2), "one at a time"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"group": "h"}, id="of another group"),
        pytest.param({"implementation": OTHER}, id="on another Cloud"),
    ],
)
def test_what_is_of_another_kind_does_not_wait(other: dict[str, Any]) -> None:
    cloud = Cloud()
    cloud.denials.denied(instance(0), WORDS, 0.0)
    assert not cloud.denials.waits(instance(1, **other), 1.0)


def test_other_credentials_are_asked_by_one_at_once() -> None:
    cloud = Cloud()
    first, second = instance(0, said=WORDS), instance(1, said=WORDS + WAITS)
    cloud.denials.denied(first, WORDS, 0.0)
    assert cloud.denials.waits(second, 1.0)
    cloud.driver = object()
    assert not cloud.denials.stands("g-1")
    assert not cloud.denials.waits(second, 2.0)
    assert cloud.denials.waits(first, 2.0) == WORDS + WAITS


def test_a_new_process_goes_by_what_is_said_until_it_was_allowed_once() -> None:
    cloud = Cloud()
    first, second = instance(0, said=WORDS + WAITS), instance(1, said=WORDS + WAITS)
    assert not cloud.denials.waits(first, 0.0)
    assert cloud.denials.waits(second, 0.0) == WORDS + WAITS
    cloud.denials.allowed(first)
    assert not cloud.denials.waits(second, 1.0)
    assert not cloud.denials.waits(instance(2, said=WORDS), 1.0)
