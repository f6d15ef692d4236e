"""How machines are put together, and which batches are planned again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.instance import Batch, Instance, InstanceStatus
from controller.api.meta import Condition
from controller.api.reasons import Reason
from controller.reconcilers.instancegroup import batches
from tests.properties import build
from tests.properties.build import NOW, launched

FULL = InstanceStatus(
    conditions=(
        Condition(
            type="Ready", status="False", reason=Reason.LIMIT_REACHED.value, message="full", last_transition_time=NOW, observed_generation=1
        ),
    )
)


@given(st.integers(0, 500), st.integers(1, 100), st.integers(-5, 600))
def test_sizes(count: int, most: int, room: int) -> None:
    sizes = batches.sizes(count, most, room)
    assert sum(sizes) == count
    assert all(1 <= each <= most for each in sizes)
    together = sum(each for each in sizes if each > 1)
    assert together <= max(0, room), "what has no room waits singly"
    if most > 1 and room >= count:
        assert len(sizes) == -(-count // most), "as few calls as there can be"


def member(index: int, size: int = 3, status: InstanceStatus | None = None, *, deleting: bool = False) -> Instance:
    return build.instance(index, status=status, spec={"batch": Batch(id="batch-0", index=index, size=size)}, deleting=deleting)


WHOLE = tuple(member(index) for index in range(3))
ALL = {"shop-app-0", "shop-app-1", "shop-app-2"}


@pytest.mark.parametrize(
    ("instances", "seen", "room", "again"),
    [
        pytest.param(WHOLE, frozenset[str](), 10, set[str](), id="whole"),
        pytest.param(WHOLE[1:], frozenset[str](), 10, ALL - {"shop-app-0"}, id="its first is not there"),
        pytest.param((*WHOLE[:2], member(2, deleting=True)), frozenset[str](), 10, ALL - {"shop-app-2"}, id="one goes"),
        pytest.param((member(0, status=launched()), *WHOLE[1:2]), frozenset[str](), 10, set[str](), id="launched, one is gone"),
        pytest.param(WHOLE[1:], frozenset({"batch-0"}), 10, set[str](), id="its machines are listed: a restore"),
        pytest.param(tuple(member(index, status=FULL) for index in range(3)), frozenset[str](), 2, ALL, id="room for some"),
        pytest.param(tuple(member(index, status=FULL) for index in range(3)), frozenset[str](), 0, set[str](), id="room for none"),
        pytest.param(tuple(member(index, status=FULL) for index in range(3)), frozenset[str](), 3, set[str](), id="room for all"),
        pytest.param((member(0, size=1, deleting=True),), frozenset[str](), 10, set[str](), id="a single one"),
    ],
)
def test_what_is_planned_again(instances: tuple[Instance, ...], seen: frozenset[str], room: int, again: set[str]) -> None:
    assert {name for name, _ in batches.to_plan_again(instances, seen, room)} == again


def older(index: int = 0, size: int = 1, **more: Any) -> Instance:
    spec = {"batch": Batch(id="batch-0", index=index, size=size), "revision": more.pop("revision", "shop-app-0")}
    return build.instance(index, spec=spec, **more)


def denied(**more: Any) -> InstanceStatus:
    return launched(**more).model_copy(update={"conditions": (build.said("Launched", False, Reason.DENIED),)})


NOBODY = frozenset[str]()


@pytest.mark.parametrize(
    ("instances", "seen", "unlaunched", "refused"),
    [
        pytest.param((older(),), NOBODY, ["shop-app-0"], [], id="never launched"),
        pytest.param((older(revision="shop-app-1"),), NOBODY, [], [], id="of the newest revision"),
        pytest.param((older(revision=""),), NOBODY, [], [], id="claimed"),
        pytest.param((older(deleting=True),), NOBODY, [], [], id="going already"),
        pytest.param((older(),), frozenset({"batch-0"}), [], [], id="its machine is listed: a restore"),
        pytest.param((older(status=launched()),), NOBODY, [], [], id="launched"),
        pytest.param((older(status=launched(machine="m-0")),), NOBODY, [], [], id="has a machine"),
        pytest.param((older(status=denied()),), NOBODY, [], ["shop-app-0"], id="denied"),
        pytest.param((older(status=denied(machine="m-0")),), NOBODY, [], [], id="denied before it had a machine"),
        pytest.param((older(status=denied()),), frozenset({"batch-0"}), [], [], id="denied, and its machine is listed"),
        pytest.param((older(status=denied(), revision="shop-app-1"),), NOBODY, [], [], id="denied, of the newest revision"),
        pytest.param((older(1, 2), older(0, 2)), NOBODY, ["shop-app-0", "shop-app-1"], [], id="a batch, its first before"),
        pytest.param((older(1, 2), older(0, 2, status=launched())), NOBODY, [], [], id="a batch whose first was launched"),
        pytest.param((older(1, 2), older(0, 2, status=denied())), NOBODY, [], ["shop-app-0", "shop-app-1"], id="a batch that is denied"),
        pytest.param((older(1, 2, revision=""), older(0, 2)), NOBODY, [], [], id="a batch of which one was claimed"),
        pytest.param((older(1, 2, status=launched(machine="m-1")), older(0, 2, status=denied())), NOBODY, [], [], id="one has a machine"),
    ],
)
def test_what_the_newest_revision_may_take_the_place_of(
    instances: tuple[Instance, ...], seen: frozenset[str], unlaunched: list[str], refused: list[str]
) -> None:
    found = batches.outdated(instances, seen, "shop-app-1")
    assert tuple([each.metadata.name for each in some] for some in found) == (unlaunched, refused)
