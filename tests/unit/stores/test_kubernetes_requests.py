"""What the Kubernetes home makes of an API server that is busy, broken, slow, or not the one it should be."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from controller import errors
from controller.ports import Key, Obj
from controller.stores import access, requests, resources
from controller.stores.kubernetes import KubernetesStore
from tests.api import samples
from tests.contract.stores import patched
from tests.unit.stores import lying
from tests.unit.stores.lying import CLOUD, DROPPED_BEFORE, TRUE, Lie, Lying, status

BUSY = Lie(code=429, body={"message": "storage is (re)initializing"}, headers={"Retry-After": "0"})
BROKEN = Lie(code=500, body={"message": "boom"})
SECRET = Key("Secret", "default", "acme")
Call = Callable[[KubernetesStore], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "get": lambda store: store.get(CLOUD),
    "list": lambda store: store.list("Cloud"),
    "create": lambda store: store.create(samples.cloud()),
    "patch": lambda store: store.patch(CLOUD, {"spec": {"maxInstances": 7}}, version="1"),
    "delete": lambda store: store.delete(CLOUD, uid="u"),
}
EVERY_CALL = pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, call in CALLS.items()])


def refused(call: Call, *lies: Lie) -> tuple[Exception, list[str]]:
    """What the call raises, and what the server was asked."""
    seen: list[Exception] = []
    asked: list[str] = []

    async def test(server: Lying, store: KubernetesStore) -> None:
        server.lies = list(lies)
        with pytest.raises(errors.StoreError) as raised:
            await call(store)
        seen.append(raised.value)
        asked.extend(server.asked)

    lying.run(test)
    return seen[0], asked


# --- again, or not ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("lie", [pytest.param(BROKEN, id="500"), pytest.param(DROPPED_BEFORE, id="dropped"), pytest.param(BUSY, id="429")])
def test_a_read_is_sent_again(lie: Lie) -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        made = await store.create(samples.cloud())
        server.lies = [lie, lie]
        assert await store.get(CLOUD) == made
        server.lies = [lie, lie]
        assert await store.list("Cloud") == [made]

    lying.run(test)


@pytest.mark.parametrize("lie", [pytest.param(BROKEN, id="500"), pytest.param(BUSY, id="429")])
def test_a_read_is_not_sent_for_ever(lie: Lie) -> None:
    error, asked = refused(CALLS["get"], *[lie] * 10)
    assert isinstance(error, errors.Unavailable)
    assert len(asked) == requests.TRIES


def test_a_busy_server_is_asked_again_for_a_mutation_too_since_it_did_nothing() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        server.lies = [BUSY, BUSY]
        made = await store.create(samples.cloud())
        server.lies = [BUSY]
        await patched(store, made, {"spec": {"maxInstances": 7}})
        server.lies = [BUSY]
        await store.delete(CLOUD, uid=made["metadata"]["uid"])
        assert [each.partition(" ")[0] for each in server.asked] == ["POST"] * 3 + ["PATCH"] * 2 + ["DELETE"] * 2

    lying.run(test)


@pytest.mark.parametrize(
    "retry_after", [pytest.param("1", id="asked-for"), pytest.param("86400", id="bounded"), pytest.param("", id="none")]
)
def test_a_busy_server_is_given_the_time_it_wants_within_bounds(retry_after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "_RETRY_AFTER_LIMIT_SECONDS", 1.0)

    async def test(server: Lying, store: KubernetesStore) -> None:
        server.lies = [Lie(code=429, body={}, headers={"Retry-After": retry_after} if retry_after else {})]
        begin = time.monotonic()
        await store.list("Cloud")
        assert 1.0 <= time.monotonic() - begin < 5.0

    lying.run(test)


@EVERY_CALL
def test_a_server_that_hangs_is_waited_for_once(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "REQUEST_SECONDS", 0.2)
    error, asked = refused(call, *[Lie(hang=True)] * 10)
    assert isinstance(error, errors.Unavailable)
    assert len(asked) <= 2  # after a mutation one live read, or the same deletion, is tried


@EVERY_CALL
def test_a_server_that_is_not_there(call: Call) -> None:
    async def asked() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        nobody = access.Access(f"http://127.0.0.1:{port}", None, lambda: "")
        async with access.session(nobody) as session:
            with pytest.raises(errors.Unavailable):
                await call(KubernetesStore(nobody, session))

    asyncio.run(asked())


def test_a_token_that_cannot_be_read_is_no_answer() -> None:
    def token() -> str:
        raise FileNotFoundError("token")

    async def asked() -> None:
        async with lying.serving() as server:
            lost = access.Access(server.access.server, None, token)
            async with access.session(lost) as session:
                with pytest.raises(errors.Unavailable):
                    await KubernetesStore(lost, session).get(CLOUD)
            assert server.asked == []

    asyncio.run(asked())


# --- what answers mean ------------------------------------------------------------------------------------------------
GONE = status(404, "NotFound", name="acme-north", kind="clouds")


@pytest.mark.parametrize("name", ["get", "patch", "delete"])
def test_a_404_that_names_the_object_says_that_it_is_gone(name: str) -> None:
    assert type(refused(CALLS[name], GONE)[0]) is errors.ObjectNotFound


@EVERY_CALL
@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(Lie(code=404, body="404 page not found\n"), id="no-such-path"),
        pytest.param(status(404, "NotFound", "the server could not find the requested resource"), id="no-such-resource"),
        pytest.param(status(404, "NotFound", name="other", kind="clouds"), id="another-object"),
        pytest.param(status(404, "NotFound", name="acme-north", kind="instances"), id="another-kind"),
        pytest.param(status(405, "MethodNotAllowed", "the CRD is terminating"), id="crd-going"),
        pytest.param(status(401, "Unauthorized"), id="unauthorized"),
        pytest.param(Lie(code=502, body="<html>bad gateway</html>"), id="proxy"),
        pytest.param(Lie(code=200, body="<html>log in here</html>"), id="portal"),
        pytest.param(Lie(code=200, body="[]"), id="no-object"),
        pytest.param(Lie(code=418, body="teapot"), id="strange"),
    ],
)
def test_no_usable_answer_says_nothing_of_any_object(call: Call, lie: Lie) -> None:
    assert isinstance(refused(call, *[lie] * 10)[0], errors.Unavailable)


@EVERY_CALL
def test_a_right_that_is_missing_is_named(call: Call) -> None:
    words = 'clouds.occopus.io is forbidden: User "operator" cannot do this to resource "clouds" in API group "occopus.io"'
    error, asked = refused(call, status(403, "Forbidden", words))
    assert type(error) is errors.Forbidden
    assert "clouds.occopus.io" in str(error)
    assert words in str(error)
    assert len(asked) == 1


def test_a_creation_in_a_namespace_that_goes_is_a_conflict_and_in_none_a_fault() -> None:
    terminating = status(403, "Forbidden", causes=[{"reason": "NamespaceTerminating", "field": "metadata.namespace"}])
    assert type(refused(CALLS["create"], terminating)[0]) is errors.Conflict
    error, _ = refused(CALLS["create"], status(404, "NotFound", 'namespaces "default" not found', name="default", kind="namespaces"))
    assert isinstance(error, errors.Rejected)
    assert [cause.field for cause in error.causes] == ["metadata.namespace"]


def _causes(error: Exception) -> list[tuple[str, str]]:
    assert isinstance(error, errors.Rejected)
    return [(cause.field, cause.message) for cause in error.causes]


def test_what_a_patch_would_have_made_is_not_repeated() -> None:
    whole = r"{\"apiVersion\":\"v1\",\"data\":{\"key\":\"aHVudGVyMg==\"},\"x\":\"a\\\": b\"}"
    why = 'strict decoding error: unknown field "spec.strange", unknown field "x"'
    cause = {"reason": "FieldValueInvalid", "message": f'Invalid value: "{whole}": {why}', "field": "patch"}
    lie = status(422, "Invalid", f' "" is invalid: patch: Invalid value: "{whole}": {why}', causes=[cause])
    error, _ = refused(lambda store: store.patch(SECRET, {"x": 1}, version="1"), lie)
    assert [field for field, _ in _causes(error)] == ["spec.strange", "x"]
    assert "aHVudGVyMg" not in f"{error} {error!r} {_causes(error)}"


@pytest.mark.parametrize(
    "message",
    [
        pytest.param('Invalid value: "{\\"data\\":{\\"key\\":\\"aHVudGVyMg==\\"}": no end', id="unbalanced"),
        pytest.param("aHVudGVyMg==", id="other-form"),
    ],
)
def test_words_about_a_secret_that_are_not_understood_are_not_repeated(message: str) -> None:
    for field in ("patch", "data"):
        lie = status(422, "Invalid", message, causes=[{"reason": "FieldValueInvalid", "message": message, "field": field}])
        error, _ = refused(lambda store: store.patch(SECRET, {}, version="1"), lie)
        assert "aHVudGVyMg" not in f"{error} {_causes(error)}"


@pytest.mark.parametrize(
    ("lie", "fields"),
    [
        pytest.param(
            status(400, "BadRequest", 'strict decoding error: unknown field "spec.a", duplicate field "b"'), ["spec.a", "b"], id="strict"
        ),
        pytest.param(
            status(400, "BadRequest", "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string"),
            ["metadata.labels"],
            id="type",
        ),
        pytest.param(status(400, "BadRequest", "the name of the object does not match"), [""], id="words"),
        pytest.param(status(413, "RequestEntityTooLarge", "limit is 3145728"), [""], id="too-large"),
        pytest.param(Lie(code=500, body={"message": "etcdserver: request is too large"}), [""], id="too-large-for-etcd"),
        pytest.param(Lie(code=422, body="words"), [""], id="no-status"),
        pytest.param(
            status(422, "Invalid", causes=[{"field": "<nil>", "message": "rule"}, {"field": "spec.a", "message": "x"}] * 2),
            ["", "spec.a"],
            id="causes",
        ),
    ],
)
def test_a_refusal_names_its_fields_and_is_final(lie: Lie, fields: list[str]) -> None:
    error, asked = refused(CALLS["create"], lie)
    assert [field for field, _ in _causes(error)] == fields
    assert len(asked) == 1


def test_long_words_keep_their_end() -> None:
    lie = status(422, "Invalid", causes=[{"field": "data", "message": f"Invalid value: {'x' * 9000}: field is immutable"}])
    (cause,) = _causes(refused(CALLS["create"], lie)[0])
    assert len(cause[1]) < 500
    assert cause[1].endswith("field is immutable")


# --- lists ------------------------------------------------------------------------------------------------------------
def _clouds(server: Lying, count: int) -> list[str]:
    names = [f"cloud-{number:02}" for number in range(count)]
    for name in names:
        server.put(lying.path(Key("Cloud", "default", name)), {"metadata": {"name": name, "namespace": "default", "uid": name}})
    return names


def _names(objects: list[Obj]) -> list[str]:
    return [each["metadata"]["name"] for each in objects]


def test_a_list_is_read_by_pages() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        server.page, names = 3, _clouds(server, 10)
        found = await store.list("Cloud", labels={"a": "b", "c": "d"})
        assert _names(found) == names
        assert {(each["apiVersion"], each["kind"]) for each in found} == {("occopus.io/v1alpha1", "Cloud")}
        assert len(server.asked) == 4
        assert all("limit=500" in each and "labelSelector=a%3Db%2Cc%3Dd" in each for each in server.asked)

    lying.run(test)


def test_a_list_whose_continue_expired_begins_anew_and_has_no_part_twice() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        server.page, names = 3, _clouds(server, 7)
        expired = status(410, "Expired", "the provided continue parameter is too old")
        server.lies = [TRUE, TRUE, expired]
        assert _names(await store.list("Cloud")) == names
        assert ["continue" in each for each in server.asked] == [False, True, True, False, True, True]
        server.lies = [TRUE, expired] * 5
        with pytest.raises(errors.Unavailable):
            await store.list("Cloud")

    lying.run(test)


def test_a_list_is_whole_or_not_at_all() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        server.page = 3
        _clouds(server, 7)
        server.lies = [TRUE, *[BROKEN] * requests.TRIES]
        with pytest.raises(errors.Unavailable):
            await store.list("Cloud")
        server.lies = [Lie(code=200, body={"kind": "Status"})]
        with pytest.raises(errors.Unavailable):
            await store.list("Cloud")

    lying.run(test)


def test_all_namespaces_are_those_that_we_were_given() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        for namespace in ("one", "two", "three"):
            key = Key("Cloud", namespace, "a")
            server.put(lying.path(key), {"metadata": {"name": "a", "namespace": namespace, "uid": namespace}})
        assert [each["metadata"]["namespace"] for each in await store.list("Cloud")] == ["one", "two"]
        server.lies = [TRUE, status(403, "Forbidden")]
        with pytest.raises(errors.Forbidden):
            await store.list("Cloud")

    lying.run(test, namespaces=("one", "two"))


def test_without_namespaces_the_whole_cluster_is_listed() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        await store.list("Cloud")
        assert server.asked == ["GET /apis/occopus.io/v1alpha1/clouds?limit=500"]

    lying.run(test, namespaces=())


def test_namespaces_that_may_not_be_listed_are_told_with_why() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        assert await store.forbidden() == {}
        assert {each.split("?")[1] for each in server.asked} == {"limit=1"}
        assert len(server.asked) == 2 * len(resources.WATCHED)
        # The last kind of the first namespace.
        server.lies = [*[TRUE] * (len(resources.WATCHED) - 1), status(403, "Forbidden", "not in one")]
        (found,) = (await store.forbidden()).items()
        assert found == ("one", "list controllerrevisions.apps one: not in one")
        server.lies = [status(404, "NotFound")] * 2 * len(resources.WATCHED)
        assert await store.forbidden() == {}
        server.lies = [status(403, "Forbidden"), *[BROKEN] * requests.TRIES]
        with pytest.raises(errors.Unavailable):
            await store.forbidden()

    lying.run(test, namespaces=("one", "two"))


def test_of_the_whole_cluster_no_namespace_is_forbidden() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        assert await store.forbidden() == {}
        assert server.asked == []

    lying.run(test, namespaces=())


def test_secrets_are_not_listed() -> None:
    error, asked = refused(lambda store: store.list("Secret"))
    assert isinstance(error, errors.Forbidden)
    assert asked == []


# --- what is sent and shown -------------------------------------------------------------------------------------------
def test_nobody_is_shown_who_wrote_what() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        made = await store.create(samples.cloud())
        changed = await patched(store, made, {"spec": {"maxInstances": 7}})
        for obj in (made, changed, await store.get(CLOUD), *await store.list("Cloud")):
            assert "managedFields" not in obj["metadata"]

    lying.run(test)


def test_writes_say_who_writes_and_take_no_unknown_field() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        made = await store.create(samples.cloud())
        await patched(store, made, {"status": {"machines": 1}}, subresource="status")
        query = "fieldManager=occopus&fieldValidation=Strict"
        assert server.asked[0] == f"POST {lying.path().rpartition('/')[0]}?{query}"
        assert server.asked[1] == f"PATCH {lying.path()}/status?{query}"

    lying.run(test)


def test_a_name_leads_to_no_other_path() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        with pytest.raises(errors.StoreError):
            await store.get(Key("ConfigMap", "default", "../secrets/acme?x#"))
        assert server.asked == ["GET /api/v1/namespaces/default/configmaps/..%2Fsecrets%2Facme%3Fx%23"]

    lying.run(test)


def test_of_a_secret_that_is_patched_only_metadata_is_asked_for() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        made = await store.create(samples.secret())
        await patched(store, made, {"metadata": {"finalizers": None}})
        await patched(store, await store.create(samples.cloud()), {"spec": {"maxInstances": 7}})
        assert ["PartialObjectMetadata" in each for each in server.accepted] == [False, True, False, False]
        # Where its answer was lost the Secret is read, and its data not returned all the same.
        server.lies = [Lie(drop=True, deed=True)]
        found = await patched(store, await store.get(SECRET), {"metadata": {"labels": {"a": "b"}}})
        assert found.keys() == {"apiVersion", "kind", "metadata"}

    lying.run(test)
