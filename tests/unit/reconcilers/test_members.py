"""The first member of a batch stays while others do not know what became of its launch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controller.api.instance import Batch
from controller.ports import Key
from controller.reconcilers.instance import members
from tests.properties import build
from tests.unit.engine.rig import Rig, run

BURNT = {"conditions": [{"type": "Launched", "status": "False", "reason": "NoCapacity", "message": "full"}]}


async def _make(rig: Rig, index: int, batch: str = "batch-0", **status: Any) -> None:
    made = build.instance(index, spec={"batch": Batch(id=batch, index=index, size=3)})
    await rig.put("Instance", made)
    if status:
        key = Key("Instance", "default", made.metadata.name)
        seen = await rig.store.get(key)
        stamped = [{**each, "lastTransitionTime": "2030-01-01T00:00:00Z", "observedGeneration": 1} for each in status.pop("conditions", ())]
        wanted = {**status, **({"conditions": stamped} if stamped else {})}
        await rig.store.patch(key, {"status": wanted}, version=seen["metadata"]["resourceVersion"], subresource="status")


@pytest.mark.parametrize(
    ("status", "needed"),
    [
        pytest.param({}, True, id="it knows nothing"),
        pytest.param({"machine": {"id": "m-1", "state": "running"}}, False, id="it knows its machine"),
        pytest.param(BURNT, False, id="it knows the refusal"),
    ],
)
def test_who_does_not_know_needs_it(tmp_path: Path, status: dict[str, Any], needed: bool) -> None:
    async def scenario(rig: Rig) -> None:
        await _make(rig, 0)
        await _make(rig, 1, **status)
        await _make(rig, 2, batch="batch-1")
        first = rig.instance()
        assert await members.needed(rig, first) is needed  # pyright: ignore[reportArgumentType] -- all that is asked of an engine
        assert members.gather(rig, first).first is members.First.OWN  # pyright: ignore[reportArgumentType] -- as above

    run(tmp_path, scenario)
