"""The CRDs of this repository on a real API server: taken without a warning, served, structural."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml

from controller.api import meta
from controller.stores import access
from tests.cluster.fixtures import Cluster, conditions

_FILES = sorted((Path(__file__).parents[2] / "crds").glob("*.yaml"))
#: The tests' own CRDs, with the samples' drivers, have our group on that server.
_GROUP = "crds.example.org"


def test_there_are_crds() -> None:
    assert len(_FILES) == 5


@pytest.mark.parametrize("file", [pytest.param(file, id=file.stem) for file in _FILES])
def test_a_crd_is_taken_without_a_warning_and_served(cluster: Cluster, file: Path) -> None:
    document = yaml.safe_load(file.read_text())
    name = document["metadata"]["name"]
    assert name == f"{file.stem}.{meta.GROUP}"
    document["metadata"]["name"] = name.replace(meta.GROUP, _GROUP)
    document["spec"]["group"] = _GROUP

    async def applied() -> None:
        async with access.session(cluster.access) as session:
            answer = await cluster.apply(session, document)
        assert answer.warnings == ()
        found = conditions(answer.body)
        assert (found["Established"], found["NamesAccepted"]) == ("True", "True")
        assert found.get("NonStructuralSchema", "False") == "False"

    asyncio.run(applied())
