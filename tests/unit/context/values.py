"""What templates of these tests can read: an infrastructure with a database and two application machines, and a Secret."""

from __future__ import annotations

from typing import Any

from controller import errors
from controller.context import cloudinit

#: A value that no error may contain, nor any part of it of this length.
CANARY = "c4n4ry-Pa55phrase"


def service(*addresses: str) -> dict[str, Any]:
    return {
        "address": addresses[0],
        "addresses": list(addresses),
        "private_address": addresses[0],
        "public_address": "",
        "instances": [{"name": f"i{index}", "address": address} for index, address in enumerate(addresses)],
    }


VALUES: dict[str, Any] = {
    "variables": {"domain": "example.org", "password": CANARY, "items": "three", "copies": 3},
    "services": {"db": service("10.0.0.5"), "app-server": service("10.0.0.6", "10.0.0.7")},
    "infrastructure": "shop",
    "service": "web",
    "instance": {"name": "shop-web-0", "index": 0, "id": "abc-0"},
}


def render(template: str, limit_bytes: int = 65536) -> str:
    """The text of a script's body: what comes after its first line."""
    return cloudinit.user_data(f"#!\n{template}", "web", VALUES, limit_bytes).decode().removeprefix("#!\n")


def mistake(template: str, first_line: str = "#!") -> errors.TemplateError:
    """The error that a template gives; its message is looked through for the canary by who asks."""
    try:
        cloudinit.user_data(f"{first_line}\n{template}", "web", VALUES, 65536)
    except errors.TemplateError as error:
        return error
    raise AssertionError("the template was rendered")


def leaks(text: str) -> bool:
    """Whether a text has any five characters of the canary in a row."""
    return any(CANARY[start : start + 5].lower() in text.lower() for start in range(len(CANARY) - 4))
