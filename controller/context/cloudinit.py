"""User data for cloud-init from a template: rendered, checked, and small enough for the cloud.

Called in the renderer's child process; pure. User data may be what cloud-init knows by its beginning (the table `_KINDS`), or
nothing at all. Blank lines before it are dropped: a template may begin with `{% set … %}`, and a `#!` has to come first. Refused
is `## template: jinja`: the machine would render the text a second time, and a variable's value would become a template there.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from controller import errors
from controller.context import environment

if TYPE_CHECKING:
    # For its type alone: `ports` loads pydantic, and the child that calls this has to start quickly.
    from controller.ports import RenderRequest

#: How user data may begin, in lower case as cloud-init compares it, longest first, and what YAML it has to be.
#: https://docs.cloud-init.io/en/latest/explanation/format/
_KINDS: tuple[tuple[str, type | None], ...] = (
    ("#cloud-config-archive", list),
    ("#cloud-config-jsonp", None),
    ("#cloud-config", dict),
    ("#cloud-boothook", None),
    ("#part-handler", None),
    ("#include", None),
    ("#!", None),
    ("content-type:", None),
    ("mime-version:", None),
)

#: libyaml's parser where PyYAML has it (all wheels): 64 KiB take 20 ms instead of 400.
_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: What PyYAML's constructors raise beside YAMLError, for `!!int x`, `!!bool x`, `!!timestamp x`, `!!int ''`, 2001-99-99.
_BAD_VALUE = (ValueError, KeyError, AttributeError, IndexError, TypeError, OverflowError)
#: What no YAML stream may contain; PyYAML's own set.
_NOT_YAML = yaml.reader.Reader.NON_PRINTABLE


def make(request: RenderRequest) -> bytes:
    """User data for one request. Raises TemplateError, TooLarge; MemoryError."""
    return user_data(request.template, request.name, request.values, request.limit_bytes)


def user_data(template: str, name: str, values: Mapping[str, Any], limit_bytes: int) -> bytes:
    """As `make`. No message holds anything of the rendered text: it may contain Secrets."""
    text = environment.render(template, name, values)
    _check(text, name)
    try:
        data = text.lstrip().encode()
    except UnicodeEncodeError:
        raise errors.TemplateError(name, 0, 0, "the rendered text has half a surrogate pair, which is no character") from None
    return _fitted(data, limit_bytes)


def _fitted(data: bytes, limit_bytes: int) -> bytes:
    """The data, or gzip of it (which cloud-init unpacks) where only that is within the limit; without a time, so the same each time."""
    if len(data) <= limit_bytes:
        return data
    compressed = gzip.compress(data, compresslevel=9, mtime=0)
    if len(compressed) <= limit_bytes:
        return compressed
    raise errors.TooLarge(len(data), len(compressed), limit_bytes)


def _check(text: str, name: str) -> None:
    beginning = text.lstrip()[:64].lower()
    if not beginning:
        return
    if beginning.startswith("## template:"):
        raise errors.TemplateError(name, 0, 0, "'## template: jinja' is refused: user data is rendered here, and not again by the machine")
    known = sorted(prefix for prefix, _ in _KINDS)
    for prefix, wanted in _KINDS:
        if beginning.startswith(prefix):
            if wanted is not None:
                _check_yaml(text, name, wanted)
            return
    raise errors.TemplateError(name, 0, 0, f"the rendered text is no user data: it has to begin with {', '.join(known)}")


def _check_yaml(text: str, name: str, wanted: type) -> None:
    """Raises TemplateError with a place in the rendered text. PyYAML's marks quote the text: only their numbers are used."""
    try:
        found = yaml.load(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _not_yaml(name, _words(error), (mark.line + 1, mark.column + 1) if mark else (0, 0)) from None
    except yaml.YAMLError:
        raise _not_yaml(name, "it contains a character that YAML does not allow", _strange(text)) from None
    except RecursionError:
        raise _not_yaml(name, "it is nested too deeply", (0, 0)) from None
    except _BAD_VALUE:
        raise _not_yaml(name, "a value does not fit its tag or is no date", (0, 0)) from None
    if found is not None and not isinstance(found, wanted):
        raise _not_yaml(name, f"after its first line it has to be a {'mapping' if wanted is dict else 'list'}", (0, 0))


def _not_yaml(name: str, why: str, place: tuple[int, int]) -> errors.TemplateError:
    counted = " (line and column of the rendered text)" if place[0] else ""
    return errors.TemplateError(name, *place, f"the rendered text is not valid YAML{counted}: {why}")


def _words(error: yaml.MarkedYAMLError) -> str:
    """PyYAML's sentence up to what it quotes, which is part of the text."""
    return re.split(r"""['"\\]""", error.problem or error.context or "syntax error", maxsplit=1)[0].rstrip(" ,:")


def _strange(text: str) -> tuple[int, int]:
    found = _NOT_YAML.search(text)
    if found is None:
        return 0, 0
    before = text[: found.start()]
    return before.count("\n") + 1, found.start() - (before.rfind("\n") + 1) + 1


__all__ = ["make", "user_data"]
