"""The request that launches a machine: the same bytes for the same Instance, and secrets nowhere but in user data."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from controller.api.instance import Instance
from controller.api.reasons import Reason
from controller.engine import request
from controller.ports import CONTROLLER_TAG, Key, LaunchRequest
from tests.simulated.harness import CONTROLLER
from tests.simulated.renderer import InlineRenderer
from tests.unit.engine.rig import Rig, run

SECRET = "s3cr3t-of-all"


async def build(rig: Rig, instance: Instance) -> request.Built:
    return await request.build(rig.objects, InlineRenderer(), CONTROLLER, 16384, instance)


async def built(rig: Rig, instance: Instance) -> LaunchRequest:
    return (await build(rig, instance)).request


async def secretive(rig: Rig) -> Instance:
    await rig.secret("keys", word=base64.b64encode(SECRET.encode()).decode())
    return await rig.world_of_one(variables={}, secrets={"word": {"name": "keys", "key": "word"}})


def test_the_same_instance_gives_the_same_digest_in_every_process(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        instance = await secretive(rig)
        assert await build(rig, instance) == await build(rig, instance)

    run(tmp_path, scenario)


def test_no_guess_of_a_secret_can_be_tried_on_the_digest(tmp_path: Path) -> None:
    """Whoever may read Instances and no Secrets knows the whole request save the guessed password, and not the Secret's UID."""

    async def scenario(rig: Rig) -> None:
        instance = await secretive(rig)
        guessed = await build(rig, instance)
        assert request.digest(guessed.request, "").rpartition(":")[2] not in guessed.digest
        seen = await rig.store.get(Key("Secret", "default", "keys"))
        uid = seen["metadata"]["uid"]
        assert request.digest(guessed.request, uid) == guessed.digest
        for kind in ("Cloud", "Infrastructure", "InstanceGroup", "Instance", "ControllerRevision", "Event"):
            assert uid not in repr(await rig.store.list(kind))

    run(tmp_path, scenario)


def test_a_secret_is_in_the_user_data_and_nowhere_else(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        instance = await secretive(rig)
        made = await built(rig, instance)
        assert SECRET.encode() in made.user_data
        assert SECRET not in repr((made.batch_id, made.names, made.tags, made.spec, made.fence))
        assert rig.objects.get(Key("Secret", "default", "keys")) is None or SECRET not in repr(rig.objects.list("Instance"))

    run(tmp_path, scenario)


def test_the_tags_name_all_that_a_restore_needs(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        instance = await rig.world_of_one()
        tags = (await built(rig, instance)).tags
        assert tags == {
            CONTROLLER_TAG: CONTROLLER,
            "occopus.io/namespace": "default",
            "occopus.io/infrastructure": "shop",
            "occopus.io/infrastructure-id": "uid-shop",
            "occopus.io/service": "app",
            "occopus.io/implementation": "one",
            "occopus.io/revision": "shop-app-1",
            "occopus.io/batch": "batch-0",
            "occopus.io/batch-size": "1",
        }

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"batch_id": "another"}, id="batch"),
        pytest.param({"names": ("another",)}, id="names"),
        pytest.param({"tags": {"a": "b"}}, id="tags"),
        pytest.param({"spec": {"image": "another"}}, id="spec"),
        pytest.param({"user_data": b"another"}, id="user data"),
    ],
)
def test_the_digest_covers_all_that_is_sent(change: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"batch_id": "b", "names": ("n",), "tags": {}, "spec": {}, "user_data": b"u"}
    assert request.digest(LaunchRequest(**fields), "key") != request.digest(LaunchRequest(**(fields | change)), "key")


def test_the_digest_knows_neither_the_fence_nor_the_order_of_keys() -> None:
    one = LaunchRequest("b", ("n",), {"a": "1", "b": "2"}, {"x": 1, "y": {"p": 1, "q": 2}}, b"u", fence="f1")
    two = LaunchRequest("b", ("n",), {"b": "2", "a": "1"}, {"y": {"q": 2, "p": 1}, "x": 1}, b"u", fence="f2")
    assert request.digest(one, "key") == request.digest(two, "key")


@pytest.mark.parametrize(
    ("inputs", "spec", "reason"),
    [
        pytest.param({"variables": {}, "secrets": {"word": {"name": "no", "key": "k"}}}, {}, Reason.SECRET_NOT_FOUND, id="no Secret"),
        pytest.param({"variables": {}, "secrets": {"word": {"name": "keys", "key": "no"}}}, {}, Reason.SECRET_NOT_FOUND, id="no key"),
        pytest.param({"variables": {}, "secrets": {"word": {"name": "keys", "key": "bad"}}}, {}, Reason.SECRET_NOT_FOUND, id="not UTF-8"),
        pytest.param({"variables": {}}, {}, Reason.TEMPLATE_INVALID, id="missing variable"),
        pytest.param({"variables": {"word": "x" * 40000}}, {}, None, id="long but compresses"),
        pytest.param({}, {"revision": "gone"}, Reason.TEMPLATE_NOT_FOUND, id="no revision"),
        pytest.param({}, {"revision": ""}, Reason.TEMPLATE_NOT_FOUND, id="claimed"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, inputs: dict[str, Any], spec: dict[str, Any], reason: Reason | None) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.secret("keys", word=base64.b64encode(SECRET.encode()).decode(), bad="/w==")
        instance = await rig.world_of_one(**inputs)
        instance = instance.model_copy(update={"spec": instance.spec.model_copy(update=spec)})
        if reason is None:
            assert (await built(rig, instance)).user_data[:2] == b"\x1f\x8b"
            return
        with pytest.raises(request.NotNow) as caught:
            await built(rig, instance)
        assert caught.value.reason is reason
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None or SECRET not in repr(caught.value.__cause__)

    run(tmp_path, scenario)
