"""What an Instance is told: only what its template reads, whole or not at all, and when it is out of date."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.api.instance import Instance, InstanceStatus, MachineStatus
from controller.api.meta import ConfigMapKeyRef, SecretKeyRef, ValueSource, Variable
from controller.api.reasons import Reason
from controller.reconcilers.instancegroup import inputs
from controller.reconcilers.instancegroup.inputs import Reads, Sources, addresses, compute, stale
from controller.reconcilers.instancegroup.observed import Hold
from tests.properties import build


def up(index: int, *, private: tuple[str, ...] = ("10.0.0.1",), public: tuple[str, ...] = (), ready: bool = True, **more: Any) -> Instance:
    address = next(iter((*private, *public)), "")
    status = InstanceStatus(
        address=address,
        machine=MachineStatus(id="m", state="running", private_addresses=private, public_addresses=public),
        conditions=(build.said("Ready", ready, Reason.READY if ready else Reason.BOOTING),),
    )
    return build.instance(index, status=status, **more)


def secret(name: str) -> Variable:
    return Variable(name=name, value_from=ValueSource(secret_key_ref=SecretKeyRef(name="keys", key="k")))


def config(name: str) -> Variable:
    return Variable(name=name, value_from=ValueSource(config_map_key_ref=ConfigMapKeyRef(name="texts", key="t")))


def reads(*variables: str, services: tuple[str, ...] = (), all: bool = False) -> Reads:
    return Reads(frozenset(variables), frozenset(services), all)


def sources(*group: Variable, template: tuple[Variable, ...] = (), services: dict[str, tuple[Instance, ...]] | None = None) -> Sources:
    return Sources(template, group, {("texts", "t"): "from a ConfigMap"}, services or {})


@pytest.mark.parametrize(
    ("read", "given", "expected"),
    [
        pytest.param(reads(), sources(Variable(name="a", value="1")), {}, id="reads nothing"),
        pytest.param(reads("a"), sources(Variable(name="a", value="1"), Variable(name="b", value="2")), {"a": "1"}, id="what it reads"),
        pytest.param(
            reads(all=True), sources(Variable(name="a", value="1"), Variable(name="b", value="2")), {"a": "1", "b": "2"}, id="all"
        ),
        pytest.param(
            reads("a"), sources(Variable(name="a", value="over"), template=(Variable(name="a", value="under"),)), {"a": "over"}, id="layers"
        ),
        pytest.param(reads("a"), sources(template=(Variable(name="a", value="under"),)), {"a": "under"}, id="from the template"),
        pytest.param(reads("a"), sources(config("a")), {"a": "from a ConfigMap"}, id="from a ConfigMap"),
        pytest.param(reads("a"), sources(Variable(name="a", value="")), {"a": ""}, id="empty is a value"),
    ],
)
def test_variables(read: Reads, given: Sources, expected: dict[str, str]) -> None:
    found = compute(read, given)
    assert isinstance(found, dict)
    assert found["variables"] == expected


def test_of_a_secret_only_where_it_is() -> None:
    found = compute(reads("a"), sources(secret("a"), secret("b")))
    assert found == {"variables": {}, "secrets": {"a": {"name": "keys", "key": "k"}}, "services": {}}


def test_services_are_those_it_reads_and_depends_on() -> None:
    given = sources(services={"db": (up(0),), "cache": (up(0, private=("10.0.0.7",)),)})
    found = compute(reads(services=("db",)), given)
    assert isinstance(found, dict)
    assert list(found["services"]) == ["db"]
    everything = compute(reads(all=True), given)
    assert isinstance(everything, dict)
    assert list(everything["services"]) == ["cache", "db"]


@pytest.mark.parametrize(
    ("read", "given", "reason"),
    [
        pytest.param(reads(services=("db",)), sources(services={"db": ()}), Reason.NO_ADDRESS, id="no machine"),
        pytest.param(reads(services=("db",)), sources(services={"db": (up(0, ready=False),)}), Reason.NO_ADDRESS, id="none Ready"),
        pytest.param(reads(services=("db",)), sources(services={"db": (up(0, private=()),)}), Reason.NO_ADDRESS, id="no address"),
        pytest.param(reads("a"), Sources((), (config("a"),), {}, {}), Reason.CONFIG_MAP_NOT_FOUND, id="no ConfigMap"),
        pytest.param(
            reads(*(f"v{n}" for n in range(5))),
            sources(*(Variable(name=f"v{n}", value="x" * 4096) for n in range(5))),
            Reason.INPUTS_TOO_LARGE,
            id="over 16 KiB",
        ),
    ],
)
def test_why_there_are_none(read: Reads, given: Sources, reason: Reason) -> None:
    found = compute(read, given)
    assert isinstance(found, Hold)
    assert found.reason is reason


def test_what_nobody_reads_may_be_missing() -> None:
    assert isinstance(compute(reads(), Sources((), (config("a"),), {}, {"db": ()})), dict)


def test_the_limit_is_16_kib_to_the_byte() -> None:
    def sized(size: int) -> Sources:
        four = tuple(Variable(name=f"v{n}", value="x" * 4096) for n in range(3))
        return sources(*four, Variable(name="v3", value="y" * size))

    read = reads("v0", "v1", "v2", "v3")
    lengths = [size for size in range(3900, 4097) if isinstance(compute(read, sized(size)), dict)]
    assert lengths == list(range(3900, max(lengths) + 1))
    assert len(json.dumps(compute(read, sized(max(lengths))))) == inputs.LIMIT_BYTES


def test_a_service_is_seen_in_the_order_of_its_indexes() -> None:
    one = up(3, private=("10.0.0.3",), public=("198.18.0.3",))
    two = up(1, private=(), public=("198.18.0.1",))
    told = addresses((one, up(0, ready=False), two, up(2, deleting=True)))
    assert (told["address"], told["private_address"], told["public_address"]) == ("198.18.0.1", "", "198.18.0.1")
    assert told["addresses"] == ["198.18.0.1", "10.0.0.3"]
    assert [each["name"] for each in told["instances"]] == ["shop-app-1", "shop-app-3"]


NO_VALUES: dict[str, str] = {}
NOW_TOLD: dict[str, Any] = {"variables": {"a": "1"}, "secrets": {}, "services": {"db": {"addresses": ["10.0.0.1"], "instances": ["x"]}}}


@pytest.mark.parametrize(
    ("told", "more", "expected"),
    [
        pytest.param(NOW_TOLD, {}, False, id="the same"),
        pytest.param(NOW_TOLD | {"variables": {"a": "2"}}, {}, True, id="another variable"),
        pytest.param(NOW_TOLD | {"secrets": {"s": {"name": "n", "key": "k"}}}, {}, True, id="another Secret"),
        pytest.param(NOW_TOLD | {"services": {"db": {"addresses": ["10.0.0.2"]}}}, {}, True, id="another address"),
        pytest.param(
            NOW_TOLD | {"services": {"db": {"addresses": ["10.0.0.1"], "instances": ["y"]}}}, {}, False, id="another machine there"
        ),
        pytest.param({}, {}, False, id="claimed: told nothing"),
        pytest.param(NOW_TOLD | {"variables": NO_VALUES}, {"spec": {"revision": "older"}}, False, id="variables of an older revision"),
        pytest.param(
            NOW_TOLD | {"services": {"db": {"addresses": ["10.0.0.2"]}}},
            {"spec": {"revision": "older"}},
            True,
            id="an address of an older revision",
        ),
        pytest.param(
            NOW_TOLD | {"services": {"mail": {"addresses": ["10.0.0.2"]}}},
            {"spec": {"revision": "older"}},
            False,
            id="a service that is told no more",
        ),
        pytest.param(NOW_TOLD | {"variables": NO_VALUES}, {"deleting": True}, False, id="on its way out"),
    ],
)
def test_stale(told: dict[str, Any], more: dict[str, Any], expected: bool) -> None:
    others = {name: value for name, value in more.items() if name != "spec"}
    each = build.instance(0, spec={"inputs": told, **more.get("spec", {})}, **others)
    assert bool(stale((each,), "shop-app-1", NOW_TOLD)) is expected
