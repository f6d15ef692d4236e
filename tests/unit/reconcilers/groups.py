"""What is known of a group, and what its plan is, for the tests of that."""

from __future__ import annotations

from typing import Any

from controller.api.instance import Instance
from controller.api.reasons import Reason
from controller.reconcilers.instancegroup.observed import Observed
from controller.reconcilers.instancegroup.plan import Create, Delete, Plan
from tests.properties.build import NOW, group, stands


def observed(*instances: Instance, **more: Any) -> Observed:
    fields: dict[str, Any] = {"group": group(replicas=len(instances)), "instances": instances, "now": NOW, "revision": "shop-app-1"}
    return Observed(**(fields | more))


def up(number: int) -> tuple[Instance, ...]:
    return tuple(stands(index, True) for index in range(number))


def gone(todo: Plan) -> list[str]:
    return [each.name for each in todo.actions if isinstance(each, Delete)]


def created(todo: Plan) -> int:
    return sum(each.count for each in todo.actions if isinstance(each, Create))


def held(todo: Plan) -> Reason | None:
    return None if todo.progress is None else todo.progress.reason
