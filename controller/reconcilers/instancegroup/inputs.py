"""What an Instance is told: variables and the addresses of the services depended on, only what its template reads. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.api.instance import Instance
from controller.api.meta import Variable
from controller.api.reasons import Reason
from controller.reconcilers.infrastructure.plan import merged
from controller.reconcilers.instancegroup.observed import Hold, ready

#: An Instance's inputs are one value in its spec; etcd and the API server pay for each copy (design section 4).
LIMIT_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Reads:
    """What the template reads; `all` where that cannot be told from its text."""

    variables: frozenset[str]
    services: frozenset[str]
    all: bool = False


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the values come from: variables of each layer, texts of ConfigMap keys, Instances of the services depended on."""

    template: tuple[Variable, ...]
    group: tuple[Variable, ...]
    config: Mapping[tuple[str, str], str]
    services: Mapping[str, tuple[Instance, ...]]


def compute(reads: Reads, sources: Sources) -> dict[str, Any] | Hold:
    """The inputs, or why there are none yet."""
    variables = _variables(reads, sources)
    if isinstance(variables, Hold):
        return variables
    services: dict[str, Any] = {}
    lacking = sorted(reads.services - sources.services.keys())
    if lacking:
        return Hold(Reason.WAITING_FOR_DEPENDENCIES, f"the template reads {lacking[0]}, which it does not depend on yet")
    for service in sorted(sources.services):
        if not reads.all and service not in reads.services:
            continue
        told = addresses(sources.services[service])
        if not told["address"]:
            return Hold(Reason.NO_ADDRESS, f"the template reads the address of {service}, which has none")
        services[service] = told
    found = {**variables, "services": services}
    size = len(json.dumps(found))
    if size > LIMIT_BYTES:
        return Hold(Reason.INPUTS_TOO_LARGE, f"what the template reads takes {size} bytes, at most {LIMIT_BYTES} are kept")
    return found


def _variables(reads: Reads, sources: Sources) -> dict[str, Any] | Hold:
    """The values, and of secrets only where they are."""
    variables: dict[str, str] = {}
    secrets: dict[str, dict[str, str]] = {}
    for each in merged(sources.template, sources.group):
        source = each.value_from
        if not reads.all and each.name not in reads.variables:
            continue
        if source is None:
            variables[each.name] = each.value or ""
        elif source.secret_key_ref is not None:
            secrets[each.name] = {"name": source.secret_key_ref.name, "key": source.secret_key_ref.key}
        elif source.config_map_key_ref is not None:
            place = (source.config_map_key_ref.name, source.config_map_key_ref.key)
            if place not in sources.config:
                return Hold(Reason.CONFIG_MAP_NOT_FOUND, f"variable {each.name}: there is no ConfigMap {place[0]} with a key {place[1]}")
            variables[each.name] = sources.config[place]
    return {"variables": variables, "secrets": secrets}


def addresses(instances: tuple[Instance, ...]) -> dict[str, Any]:
    """A service as templates see it: its Ready machines in the order of their index; `address` is the first one's."""
    each_one = [_told(each) for each in sorted(instances, key=lambda each: each.spec.index) if ready(each) and each.status.address]
    first: dict[str, Any] = each_one[0] if each_one else {"address": "", "private_address": "", "public_address": ""}
    return {
        "address": first["address"],
        "private_address": first["private_address"],
        "public_address": first["public_address"],
        "addresses": [each["address"] for each in each_one],
        "instances": each_one,
    }


def _told(instance: Instance) -> dict[str, Any]:
    machine = instance.status.machine
    private = next(iter(machine.private_addresses), "") if machine is not None else ""
    public = next(iter(machine.public_addresses), "") if machine is not None else ""
    return {
        "name": instance.metadata.name,
        "index": instance.spec.index,
        "address": instance.status.address,
        "private_address": private,
        "public_address": public,
    }


def stale(instances: tuple[Instance, ...], revision: str, now: dict[str, Any] | None) -> frozenset[str] | None:
    """Names of the running Instances that were told something else; None where it is not known what they would be told now.

    Claimed ones were told nothing. Of an older revision the addresses alone count: its variables belong to that revision's text.
    """
    running = [each for each in instances if each.spec.inputs and not each.metadata.deleting]
    if now is None:
        return None if running else frozenset()
    return frozenset(
        each.metadata.name
        for each in running
        if (_kept(each.spec.inputs) != _kept(now) if each.spec.revision == revision else _moved(each.spec.inputs, now))
    )


def overtaken(instances: tuple[Instance, ...], revision: str, now: dict[str, Any] | None) -> frozenset[str]:
    """Names of those of the newest revision that were told other variables or Secrets than they would be now. Addresses come and go."""
    if now is None:
        return frozenset()
    newest = _variables_of(now)
    told = (each for each in instances if each.spec.inputs and each.spec.revision == revision)
    return frozenset(each.metadata.name for each in told if _variables_of(each.spec.inputs) != newest)


def _variables_of(inputs: Mapping[str, Any]) -> tuple[Any, ...]:
    return (inputs.get("variables"), inputs.get("secrets"))


def _kept(inputs: Mapping[str, Any]) -> tuple[Any, ...]:
    """What counts as told: variables, which Secret keys, and each service's addresses."""
    return (*_variables_of(inputs), _addresses(inputs))


def _moved(told: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a service that is still told has other addresses."""
    before, after = _addresses(told), _addresses(now)
    return any(before[each] != after[each] for each in before.keys() & after.keys())


def _addresses(inputs: Mapping[str, Any]) -> dict[str, Any]:
    services: Mapping[str, Mapping[str, Any]] = inputs.get("services", {})
    return {name: each.get("addresses") for name, each in services.items()}
