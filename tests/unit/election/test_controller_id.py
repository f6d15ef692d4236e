"""The controller id: made once, whoever else makes one at the same time, and never made anew over what is there."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from controller import controller_id, errors
from controller.stores import access
from controller.stores.kubernetes import KubernetesStore
from tests.unit.election.objects import refused
from tests.unit.election.server import Server, serving

CONFIG_MAP = "/api/v1/namespaces/occopus/configmaps/occopus-controller"
Story = Callable[[Server, KubernetesStore], Awaitable[None]]


def told(story: Story) -> None:
    async def run() -> None:
        async with serving() as server, access.session(server.access) as session:
            await story(server, KubernetesStore(server.access, session))

    asyncio.run(run())


def put(server: Server, data: dict[str, str] | None) -> None:
    server.objects.put(CONFIG_MAP, {} if data is None else {"data": data})


def test_the_first_one_makes_it_and_all_later_ones_read_it() -> None:
    async def story(server: Server, store: KubernetesStore) -> None:
        first = await controller_id.controller_id(store, "occopus")
        assert str(uuid.UUID(first)) == first
        assert [await controller_id.controller_id(store, "occopus") for _ in range(2)] == [first, first]
        assert server.objects.stored[CONFIG_MAP]["data"] == {"controllerId": first}
        assert server.objects.stored[CONFIG_MAP]["immutable"] is True

    told(story)


def test_of_several_at_once_all_take_the_winners() -> None:
    async def story(server: Server, store: KubernetesStore) -> None:
        found = await asyncio.gather(*(controller_id.controller_id(store, "occopus") for _ in range(5)))
        assert len(set(found)) == 1
        assert [each.split()[2] for each in server.objects.log if each.startswith("POST")].count("201") == 1

    told(story)


@pytest.mark.parametrize("data", [pytest.param(None, id="empty"), pytest.param({"note": "ours"}, id="with another key")])
def test_a_config_map_without_the_key_gets_it(data: dict[str, str] | None) -> None:
    async def story(server: Server, store: KubernetesStore) -> None:
        put(server, data)
        found = await asyncio.gather(*(controller_id.controller_id(store, "occopus") for _ in range(3)))
        assert len(set(found)) == 1
        assert server.objects.stored[CONFIG_MAP]["data"] == {**(data or {}), "controllerId": found[0]}

    told(story)


@pytest.mark.parametrize("kept", [pytest.param("", id="empty"), pytest.param("a b", id="a space"), pytest.param("x" * 64, id="too long")])
def test_what_cannot_be_an_id_is_refused_and_left_alone(kept: str) -> None:
    async def story(server: Server, store: KubernetesStore) -> None:
        put(server, {"controllerId": kept})
        with pytest.raises(errors.UsageError, match="ConfigMap occopus/occopus-controller"):
            await controller_id.controller_id(store, "occopus")
        assert server.objects.stored[CONFIG_MAP]["data"] == {"controllerId": kept}

    told(story)


def test_a_creation_whose_answer_is_lost_makes_no_second_id() -> None:
    async def story(server: Server, store: KubernetesStore) -> None:
        server.fates["POST"] = ["break"]
        found = await controller_id.controller_id(store, "occopus")
        assert server.objects.stored[CONFIG_MAP]["data"] == {"controllerId": found}

    told(story)


@pytest.mark.parametrize("method", [pytest.param("GET", id="to read"), pytest.param("POST", id="to make")])
def test_a_missing_right_names_the_verb(method: str) -> None:
    async def story(server: Server, store: KubernetesStore) -> None:
        server.objects.refuse = lambda asked, path: refused(403, "Forbidden", path) if asked == method else None
        with pytest.raises(errors.Forbidden, match=f"^{'get' if method == 'GET' else 'create'} configmaps"):
            await controller_id.controller_id(store, "occopus")

    told(story)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        pytest.param("a", True, id="one letter"),
        pytest.param("Team-1.prod", True, id="all that is allowed"),
        pytest.param("x" * 63, True, id="the longest"),
        pytest.param("x" * 64, False, id="too long"),
        pytest.param("", False, id="nothing"),
        pytest.param("-a", False, id="a dash first"),
        pytest.param("a.", False, id="a dot last"),
        pytest.param("a/b", False, id="a slash"),
        pytest.param("a_b", False, id="an underscore"),
        pytest.param("a\n", False, id="a line's end"),
        pytest.param("é", False, id="a letter beyond ASCII"),
    ],
)
def test_a_given_id_is_checked(text: str, good: bool) -> None:
    def checked() -> Any:
        try:
            return controller_id.check(text)
        except errors.UsageError:
            return None

    assert checked() == (text if good else None)
