"""Requests to a Kubernetes API server: sent once, bounded in time, repeated only where that can do no harm.

Called by the Kubernetes home's parts. What a refusal means is `controller.stores.answers`' matter; what is done about a mutation
whose answer was lost is the store's.
"""

from __future__ import annotations

import asyncio
import io
import json
import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from controller import errors
from controller.ports import Obj
from controller.stores.access import REQUEST_SECONDS, Access
from controller.stores.answers import Asked, Expired, Lost, Throttled, refusal
from controller.stores.resources import Resource, shown

#: How often is sent in all: a read that met no usable answer, and whatever met a busy server or none.
TRIES = 3
#: The first pause before a read is sent again; it doubles, and is jittered down to half.
_PAUSE_SECONDS = 0.1
#: The longest that a busy server's Retry-After is waited for.
_RETRY_AFTER_LIMIT_SECONDS = 5.0
#: Objects of one page of a list (the size that client-go's pager takes).
PAGE = 500
#: How often a list whose `continue` expired begins anew.
_LISTS = 3

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_METHODS = {"get": "GET", "list": "GET", "create": "POST", "patch": "PATCH", "delete": "DELETE"}


class _TimedOut(Lost):
    """Not asked again even of a read: its caller has waited long enough."""


class _NotConnected(errors.Unavailable):
    """Nothing was sent, so that anything can be sent again."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A whole collection, and the version it stood at: no change up to that one is news."""

    objects: tuple[Obj, ...]
    version: str


class Requests:
    """One API server over one session, which belongs to its opener."""

    def __init__(self, access: Access, session: aiohttp.ClientSession) -> None:
        self._server = access.server
        self._session = session

    async def send(self, asked: Asked, body: Obj | None = None, *, query: Mapping[str, str] | None = None, accept: str = JSON) -> Obj:
        """The server's answer. Raises what a refusal means, Lost where the outcome is unknown, Unavailable where nothing was done."""
        for tried in range(1, TRIES + 1):
            try:
                return await self._once(asked, body, query or {}, accept)
            except Throttled as busy:
                if tried == TRIES:
                    raise
                pause = min(busy.after_seconds, _RETRY_AFTER_LIMIT_SECONDS) * random.uniform(1.0, 1.2)
            except (_NotConnected, Lost) as failed:
                repeatable = isinstance(failed, _NotConnected) or _METHODS[asked.verb] == "GET"
                if tried == TRIES or not repeatable or isinstance(failed, _TimedOut):
                    raise
                pause = _PAUSE_SECONDS * 2.0 ** (tried - 1) * random.uniform(0.5, 1.0)
            await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def all(self, resource: Resource, namespace: str | None, selector: str = "", *, metadata_only: bool = False) -> Listed:
        """The whole collection, by pages, or an error. Objects have their kind, as single ones do."""
        accept = METADATA_LIST if metadata_only else JSON
        for _ in range(_LISTS - 1):
            with suppress(Expired):
                return await self._pages(resource, namespace, selector, accept)
        return await self._pages(resource, namespace, selector, accept)

    async def _pages(self, resource: Resource, namespace: str | None, selector: str, accept: str) -> Listed:
        asked = Asked("list", resource, namespace)
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        objects: list[Obj] = []
        version = ""
        while True:
            page = await self.send(asked, query=query, accept=accept)
            items, about = page.get("items"), page.get("metadata")
            if not isinstance(items, list) or not isinstance(about, dict):
                raise errors.Unavailable(f"{asked}: the answer is no list")
            objects += (shown(each, resource) for each in cast(list[Obj], items))
            version = version or str(cast(Obj, about).get("resourceVersion") or "")
            token = cast(Obj, about).get("continue")
            if not token:
                return Listed(tuple(objects), version)
            query["continue"] = str(token)

    async def _once(self, asked: Asked, body: Obj | None, query: Mapping[str, str], accept: str) -> Obj:
        url = URL(f"{self._server}{asked.path}{f'?{urlencode(query)}' if query else ''}", encoded=True)
        headers = {"Accept": accept} | ({} if body is None else {"Content-Type": MERGE_PATCH if asked.verb == "patch" else JSON})
        # A file, since aiohttp warns of bytes above 1 MiB, and the largest object is larger.
        data = None if body is None else io.BytesIO(json.dumps(body, separators=(",", ":")).encode())
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        try:
            async with self._session.request(_METHODS[asked.verb], url, data=data, headers=headers, timeout=timeout) as response:
                code, answer, after = response.status, await response.read(), response.headers.get("Retry-After")
        except aiohttp.ClientConnectorError as error:
            raise _NotConnected(f"{asked}: no connection to {self._server}: {error.strerror or type(error).__name__}") from error
        except TimeoutError as error:
            raise _TimedOut(f"{asked}: {self._server} did not answer within {REQUEST_SECONDS:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Lost(f"{asked}: the connection to {self._server} broke: {type(error).__name__}") from error
        if not 200 <= code < 300:
            raise refusal(asked, code, answer, after)
        return _parsed(asked, answer)


def _parsed(asked: Asked, answer: bytes) -> Obj:
    try:
        parsed: Any = json.loads(answer)
    except ValueError as error:
        raise Lost(f"{asked}: the answer is not JSON") from error
    if not isinstance(parsed, dict):
        raise Lost(f"{asked}: the answer is no object")
    return cast(Obj, parsed)


__all__ = ["METADATA", "PAGE", "TRIES", "Listed", "Requests"]
