"""Renders user data once with stand-ins for what only a running infrastructure knows: `validate` calls it, nothing is made.

It decides what stands in: an address of the range for documentation (RFC 5737) for each machine, the word that the group's own
trial takes for a Secret's value. A template that reads a ConfigMap which nobody described is left to the running controller, and
so is the cloud's limit of size.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from controller import errors
from controller.api.infrastructure import Infrastructure, InfrastructureSpec, Service
from controller.api.reasons import Reason
from controller.api.template import InstanceTemplate
from controller.context.renderer import ChildRenderer
from controller.engine import request
from controller.ports import RenderRequest
from controller.reconcilers.graph import Problem
from controller.reconcilers.infrastructure.plan import merged

#: No cloud takes so much; which limit counts is known to the cloud's driver alone.
_LIMIT_BYTES = 1024 * 1024
_ADDRESS = "192.0.2.{}"
#: The addresses that stand in are a network of 24 bits.
_MOST = 250


@dataclass(frozen=True, slots=True)
class Described:
    """What there is beside the Infrastructure: templates with their texts, and the data of ConfigMaps, by name."""

    templates: Mapping[str, tuple[InstanceTemplate, str]]
    config: Mapping[str, Mapping[str, str]]


class Trial:
    """Renders in a process that `opened` ends."""

    def __init__(self, renderer: ChildRenderer) -> None:
        self._renderer = renderer

    async def problems(self, infrastructure: Infrastructure, described: Described) -> list[Problem]:
        """What keeps its templates from being rendered, each once."""
        found: list[Problem] = []
        for service in infrastructure.spec.services:
            template, text = described.templates.get(service.template_ref.name, (None, ""))
            variables = _variables(template, service, infrastructure.spec, described) if template is not None else None
            if text and variables is not None:
                found += await self._problem(infrastructure, service, text, variables)
        return list(dict.fromkeys(found))

    async def _problem(self, infrastructure: Infrastructure, service: Service, text: str, variables: dict[str, str]) -> list[Problem]:
        name = infrastructure.metadata.name
        replicas = {each.name: each.initial_replicas() for each in infrastructure.spec.services}
        services = {each.service: _told(name, each.service, replicas.get(each.service, 1)) for each in service.depends_on}
        names = {"infrastructure": name, "service": service.name, "name": f"{name}-{service.name}-0", "index": "0"}
        values = request.values(
            {"variables": variables, "services": services}, {**names, "id": "00000000-0000-0000-0000-000000000000-0"}, {}
        )
        try:
            await self._renderer.render(RenderRequest(text, f"InstanceTemplate {service.template_ref.name}", values, _LIMIT_BYTES))
        except errors.TemplateError as error:
            return [Problem(Reason.TEMPLATE_INVALID, str(error))]
        except errors.TooLarge as error:
            return [Problem(Reason.USER_DATA_TOO_LARGE, str(error))]
        return []


@contextlib.asynccontextmanager
async def opened() -> AsyncGenerator[Trial]:
    renderer = ChildRenderer()
    try:
        yield Trial(renderer)
    finally:
        await renderer.close()


def _variables(template: InstanceTemplate, service: Service, spec: InfrastructureSpec, described: Described) -> dict[str, str] | None:
    """Their values; None where one stands in a ConfigMap that is not described."""
    found: dict[str, str] = {}
    for each in merged(template.spec.variables, merged(service.variables, spec.variables)):
        source = each.value_from
        config = source.config_map_key_ref if source is not None else None
        if config is not None:
            data = described.config.get(config.name, {})
            if config.key not in data:
                return None
            found[each.name] = data[config.key]
        else:
            found[each.name] = each.value or "" if source is None else "secret"
    return found


def _told(infrastructure: str, service: str, replicas: int) -> dict[str, Any]:
    """A service as templates see it (`inputs.addresses`)."""
    numbers = range(min(max(replicas, 1), _MOST))
    each_one = [{"name": f"{infrastructure}-{service}-{number}", "index": number, **_addresses(number)} for number in numbers]
    return {**_addresses(0), "addresses": [each["address"] for each in each_one], "instances": each_one}


def _addresses(number: int) -> dict[str, str]:
    return dict.fromkeys(("address", "private_address", "public_address"), _ADDRESS.format(number + 1))


__all__ = ["Described", "Trial", "opened"]
