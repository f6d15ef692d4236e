"""What an API server's refusals mean to us: one table from HTTP status and `Status` object to the errors of the store port.

Called by `controller.stores.requests`. It sends nothing and decides no retry. What it repeats of the server's words is short and
never an object's content: the server puts the whole object, a Secret's data too, into the message about a patch that does not
decode.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from controller import errors
from controller.ports import Obj
from controller.stores.resources import Resource

#: The longest words of the server that are repeated; the end of a sentence tells why, its middle is a value.
_HEAD, _TAIL = 160, 240


@dataclass(frozen=True, slots=True)
class Asked:
    """One request in words, for messages, and to tell whose a 404 is. A list names no object."""

    verb: str
    resource: Resource
    namespace: str | None
    name: str = ""
    subresource: str = ""

    @property
    def path(self) -> str:
        """A creation goes to the collection."""
        return self.resource.path(self.namespace, "" if self.verb == "create" else self.name, self.subresource)

    def __str__(self) -> str:
        """`patch instances.occopus.io/status shop/web-0`."""
        where = f"{self.namespace}/{self.name}" if self.namespace is not None and self.name else self.namespace or "in all namespaces"
        return f"{self.verb} {self.resource}{f'/{self.subresource}' if self.subresource else ''} {where}"


class Lost(errors.Unavailable):
    """The request may have reached the server, and no usable answer came: of a mutation the outcome is unknown."""


class Throttled(errors.Unavailable):
    """The server was too busy to look at the request; nothing was done. `after_seconds` is when it wants to be asked again."""

    def __init__(self, message: str, after_seconds: float) -> None:
        super().__init__(message)
        self.after_seconds = after_seconds


class NotServed(errors.Unavailable):
    """The server knows no such kind: its CRD is not applied, or has gone. Says nothing of any object."""


class Expired(errors.Unavailable):
    """The `continue` of a list has expired: the list begins anew."""


def refusal(asked: Asked, code: int, body: bytes, retry_after: str | None = None) -> errors.StoreError:
    """The error that an answer other than 2xx means."""
    status = _status(body)
    message = f"{asked}: {_short(_text(status.get('message'))) or f'HTTP {code} without a Status'}"
    if code == 429:
        return Throttled(message, _seconds(retry_after))
    if "request is too large" in _text(status.get("message")):  # etcd's limit comes as a 500, though trying again changes nothing
        return errors.Rejected(_subject(asked), (errors.Cause("", _short(_text(status["message"]))),))
    if code >= 500:
        return Lost(message)
    translate = _TABLE.get(code)
    return errors.Unavailable(message) if translate is None else translate(asked, status, message)


# --- the table ------------------------------------------------------------------------------------------------------
def _rejected(asked: Asked, status: Obj, message: str) -> errors.StoreError:
    del message
    return errors.Rejected(_subject(asked), tuple(dict.fromkeys(_causes(asked, status))))


def _forbidden(asked: Asked, status: Obj, message: str) -> errors.StoreError:
    """Where the namespace goes, so does the owner, any moment: read again and requeue silently; no right is missing."""
    if any(cause.get("reason") == "NamespaceTerminating" for cause in _given_causes(status)):
        return errors.Conflict(message)
    return errors.Forbidden(message)


def _missing(asked: Asked, status: Obj, message: str) -> errors.StoreError:
    """Only a 404 that names the very object says that it is gone. One of the resource (no CRD) says nothing of any object."""
    details = _dict(status.get("details"))
    if asked.verb == "create" and details.get("kind") == "namespaces":
        return errors.Rejected(_subject(asked), (errors.Cause("metadata.namespace", _short(_text(status.get("message")))),))
    if asked.verb != "create" and asked.name and details.get("name") == asked.name and details.get("kind") == asked.resource.plural:
        return errors.ObjectNotFound(message)
    return NotServed(f"{asked}: the API server does not serve {asked.resource} in {asked.resource.api_version} (is its CRD applied?)")


def _conflict(asked: Asked, status: Obj, message: str) -> errors.StoreError:
    return errors.AlreadyExists(message) if status.get("reason") == "AlreadyExists" else errors.Conflict(message)


def _unauthorized(asked: Asked, status: Obj, message: str) -> errors.StoreError:
    """No right is missing: who we are is not known, for a token that has expired or a server that cannot check it. Nothing is
    done on such ground, and nobody could be told by a condition."""
    return errors.Unavailable(f"{message} (the API server does not accept our credentials)")


def _expired(asked: Asked, status: Obj, message: str) -> errors.StoreError:
    return Expired(message)


_TABLE: dict[int, Callable[[Asked, Obj, str], errors.StoreError]] = {
    400: _rejected,
    401: _unauthorized,
    403: _forbidden,
    404: _missing,
    409: _conflict,
    410: _expired,
    413: _rejected,
    422: _rejected,
}


# --- causes of a refusal --------------------------------------------------------------------------------------------
_UNKNOWN = re.compile(r'(unknown|duplicate) field "([^"]+)"')
_GO_FIELD = re.compile(r"cannot unmarshal (\w+) into Go struct field (\w+)\.(\S+) of type (\S+)")
_GO_STRING = re.compile(r'Invalid value: "(?:[^"\\]|\\.)*": ', re.DOTALL)
#: What the server says a second time, of the whole object, where it has named a field already.
_ECHOES = ("some validation rules were not checked", "Checked value must be of type")


def _causes(asked: Asked, status: Obj) -> Iterator[errors.Cause]:
    given = [cause for cause in _given_causes(status) if not any(echo in _text(cause.get("message")) for echo in _ECHOES)]
    if not given:
        yield from _decoding(_text(status.get("message")))
    for cause in given:
        field, message = _text(cause.get("field")), _text(cause.get("message"))
        if field == "patch":
            found = _GO_STRING.match(message)
            yield from _decoding(message[found.end() :] if found else "the patch cannot be applied")
        elif asked.resource.kind == "Secret":
            yield errors.Cause(_field(field), _text(cause.get("reason")) or "Invalid value")
        else:
            yield errors.Cause(_field(field), _short(message))


def _decoding(text: str) -> Iterator[errors.Cause]:
    """What the server's decoder says, which names fields in words."""
    unknown = _UNKNOWN.findall(text)
    yield from (errors.Cause(field, f'{which} field "{field}"') for which, field in unknown)
    mistyped = _GO_FIELD.search(text)
    if mistyped:
        found, struct, field, wanted = mistyped.groups()
        place = f"metadata.{field}" if struct == "ObjectMeta" and not field.startswith("metadata.") else field
        yield errors.Cause(place, f"Invalid value: {found}: must be of type {wanted}")
    elif not unknown:
        yield errors.Cause("", _short(text) or "refused without a reason")


def _field(field: str) -> str:
    """The root is `<nil>` to CRDs' validation and `[]` to that of some built-in kinds; that of scale begins at a dot."""
    return "" if field in ("<nil>", "[]") else field.removeprefix(".")


# --- small things ---------------------------------------------------------------------------------------------------
def _subject(asked: Asked) -> str:
    return f'{asked.resource.kind} "{asked.name}"'


def _status(body: bytes) -> Obj:
    """The `Status` in a body; empty where it holds something else, such as a proxy's page."""
    try:
        return _dict(json.loads(body))
    except ValueError:
        return {}


def _given_causes(status: Obj) -> list[Obj]:
    causes: Any = _dict(status.get("details")).get("causes")
    return [_dict(each) for each in cast(list[Any], causes)] if isinstance(causes, list) else []


def _dict(value: Any) -> Obj:
    return cast(Obj, value) if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _short(text: str) -> str:
    """One line, its middle left out where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= _HEAD + _TAIL else f"{line[:_HEAD]} … {line[-_TAIL:]}"


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isdecimal() else 1.0


__all__ = ["Asked", "Expired", "Lost", "NotServed", "Throttled", "refusal"]
