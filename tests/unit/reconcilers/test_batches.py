"""How machines are put together, and which batches are planned again."""

from __future__ import annotations

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
