"""A small API server that lies when it is told to: it hangs, forgets to answer, breaks connections before or after the deed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from controller.ports import Key, Obj
from controller.stores import access, merge
from controller.stores.kubernetes import KubernetesStore
from tests.api import samples
from tests.contract.stores import Clock

#: What a test does with a store over such a server.
Test = Callable[["Lying", KubernetesStore], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Lie:
    """One answer that is not the true one. `deed`: whether what was asked is done all the same."""

    deed: bool = False
    drop: bool = False
    hang: bool = False
    code: int = 0
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    after: Callable[[], object] = lambda: None


TRUE = Lie()
DROPPED_BEFORE = Lie(drop=True)
DROPPED_AFTER = Lie(drop=True, deed=True)


def status(code: int, reason: str, message: str = "", **details: Any) -> Lie:
    body = {"kind": "Status", "status": "Failure", "reason": reason, "message": message or reason, "details": details, "code": code}
    return Lie(code=code, body=body)


class Lying:
    """Objects by path. `lies` are told one a request, in order; then the truth.

    `asked` (`METHOD path?query`), `bodies` and `accepted` are what came.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Obj] = {}
        self.version = 100
        self.lies: list[Lie] = []
        self.asked: list[str] = []
        self.bodies: list[Any] = []
        self.accepted: list[str] = []
        self.page = 500
        self.port = 0

    @property
    def access(self) -> access.Access:
        return access.Access(f"http://127.0.0.1:{self.port}", None, lambda: "token")

    def put(self, path: str, obj: Obj) -> Obj:
        """As somebody else would write it."""
        self.version += 1
        self.objects[path] = merge.apply(obj, {"metadata": {"resourceVersion": str(self.version)}})
        return self.objects[path]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path_qs}")
        lie = self.lies.pop(0) if self.lies else TRUE
        body: Any = json.loads(await request.read() or b"null")
        if lie.hang:
            await asyncio.sleep(3600)
        if lie is TRUE or lie.deed:
            code, answer = self._do(request, body)
        else:
            code, answer = lie.code, lie.body
        self.bodies.append(body)
        self.accepted.append(request.headers["Accept"])
        lie.after()
        if lie.drop and request.transport is not None:
            request.transport.abort()
        code, answer = (lie.code, lie.body) if lie.code else (code, answer)
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return web.Response(status=code or 200, text=text, headers=lie.headers)

    def _do(self, request: web.BaseRequest, body: Any) -> tuple[int, Any]:
        path = request.path.removesuffix("/status")
        match request.method:
            case "POST":
                return self._create(f"{path}/{body['metadata']['name']}", body)
            case "GET" if path.endswith("s"):
                return 200, self._list(path, request)
            case method:
                name = path.rpartition("/")[2]
                if path not in self.objects:
                    return _refused(404, "NotFound", name=name, kind=path.split("/")[-2])
                return self._change(method, path, name, body)

    def _create(self, path: str, body: Obj) -> tuple[int, Any]:
        if path in self.objects:
            return _refused(409, "AlreadyExists")
        uid = f"uid-{self.version}"
        return 201, self.put(path, {**body, "metadata": {**body["metadata"], "uid": uid, "managedFields": [{"large": "thing"}]}})

    def _change(self, method: str, path: str, name: str, body: Any) -> tuple[int, Any]:
        seen = self.objects[path]
        if method == "GET":
            return 200, seen
        wanted = body["preconditions"] if method == "DELETE" else {"resourceVersion": body.get("metadata", {}).get("resourceVersion")}
        if any(value is not None and seen["metadata"][name] != value for name, value in wanted.items()):
            return _refused(409, "Conflict", name=name)
        if method == "PATCH":
            new = merge.apply(seen, body)
            return 200, seen if merge.same(new, seen) else self.put(path, new)
        if seen["metadata"].get("finalizers"):
            marked = seen["metadata"].get("deletionTimestamp")
            return 200, seen if marked else self.put(path, merge.apply(seen, {"metadata": {"deletionTimestamp": samples.TIME}}))
        return 200, self.objects.pop(path)

    def _list(self, path: str, request: web.BaseRequest) -> Obj:
        found = [obj for place, obj in sorted(self.objects.items()) if place.startswith(f"{path}/")]
        begin = int(request.query.get("continue", 0))
        more = str(begin + self.page) if len(found) > begin + self.page else ""
        items = [{name: value for name, value in obj.items() if name not in ("kind", "apiVersion")} for obj in found]
        return {"kind": "List", "metadata": {"resourceVersion": str(self.version), "continue": more}, "items": items[begin:][: self.page]}


def _refused(code: int, reason: str, **details: Any) -> tuple[int, Any]:
    return code, status(code, reason, **details).body


CLOUD = Key("Cloud", "default", "acme-north")


def path(key: Key = CLOUD) -> str:
    plural = {"Cloud": "apis/occopus.io/v1alpha1/namespaces/{}/clouds", "Secret": "api/v1/namespaces/{}/secrets"}[key.kind]
    return f"/{plural.format(key.namespace)}/{key.name}"


def run(test: Test, *, namespaces: tuple[str, ...] = ("default",), clock: Clock | None = None) -> None:
    """The test, with a store over a server of its own."""

    async def opened() -> None:
        async with serving() as server, access.session(server.access) as session:
            store = KubernetesStore(server.access, session, namespaces=namespaces, now=clock or Clock())
            await asyncio.wait_for(test(server, store), 30)

    asyncio.run(opened())


@asynccontextmanager
async def serving() -> AsyncGenerator[Lying]:
    server = Lying()
    runner = web.ServerRunner(web.Server(server.handle), shutdown_timeout=0.05)  # 0 would be for ever
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()
