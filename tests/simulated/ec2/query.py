"""How EC2 and STS are asked: form-encoded fields whose dotted names hold lists and structures, signed by an access key.

`LightEc2.handle` calls it first. It knows nothing of any action. Signatures are not checked: whoever names an access
key has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/(\d{8})/([^/,\s]+)/([^/,\s]+)/aws4_request")


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. The names of headers are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who asks, of which service in which region, as the signature's credential scope says."""

    access_key: str
    region: str
    service: str


def signer(request: Request) -> Signer | None:
    """None of a request that is not signed (AWS Signature Version 4)."""
    found = _CREDENTIAL.search(request.headers.get("authorization", ""))
    return Signer(found[1], found[3], found[4]) if found else None


class Fields:
    """The fields of a request below one prefix: `InstanceId.1`, `Filter.2.Value.1`, `Placement.AvailabilityZone`."""

    def __init__(self, flat: Mapping[str, str], prefix: str = "") -> None:
        self.flat = flat
        self.prefix = prefix

    def text(self, name: str, default: str = "") -> str:
        return self.flat.get(self.prefix + name, default)

    def yes(self, name: str) -> bool:
        return self.text(name).lower() == "true"

    def under(self, name: str) -> Fields:
        """A structure's fields."""
        return Fields(self.flat, f"{self.prefix}{name}.")

    def values(self, name: str) -> list[str]:
        """A list of texts, in the order of its numbers."""
        return [
            self.flat[f"{self.prefix}{name}.{number}"] for number in self._numbers(name) if f"{self.prefix}{name}.{number}" in self.flat
        ]

    def items(self, name: str) -> list[Fields]:
        """A list of structures, in the order of its numbers."""
        return [self.under(f"{name}.{number}") for number in self._numbers(name)]

    def has(self, name: str) -> bool:
        """Whether the field is there, as a text, a list or a structure."""
        whole = self.prefix + name
        return whole in self.flat or any(key.startswith(f"{whole}.") for key in self.flat)

    def names(self) -> frozenset[str]:
        """The first parts of the fields' names."""
        return frozenset(key[len(self.prefix) :].split(".", 1)[0] for key in self.flat if key.startswith(self.prefix))

    def _numbers(self, name: str) -> list[int]:
        start = f"{self.prefix}{name}."
        words = {key[len(start) :].split(".", 1)[0] for key in self.flat if key.startswith(start)}
        return sorted(int(word) for word in words if word.isdecimal())


def fields(request: Request) -> Fields:
    """The fields of the body, or of the query string of a GET."""
    text = request.body.decode("utf-8", "replace") if request.method == "POST" else request.path.partition("?")[2]
    return Fields(dict(parse_qsl(text, keep_blank_values=True)))
