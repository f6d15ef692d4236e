"""Reads the files a user names: YAML documents, each with the place it came from for error messages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import yaml

from controller import errors
from controller.ports import Obj

#: More is no description of an infrastructure; it is a mistake, and YAML aliases could make it grow without bounds.
_FILE_BYTES = 8 * 1024 * 1024


def load(paths: tuple[str, ...]) -> list[Obj]:
    """All documents of the files, in order; `-` is standard input, a directory stands for its *.yaml files.

    Raises UsageError, naming file, line and column.
    """
    found = [document for path in paths for document in _file(path)]
    if not found:
        raise errors.UsageError(f"no document in {', '.join(paths)}")
    return found


def _file(path: str) -> Iterator[Obj]:
    if path == "-":
        yield from _documents("standard input", sys.stdin.read())
        return
    place = Path(path)
    if place.is_dir():
        for each in sorted([*place.glob("*.yaml"), *place.glob("*.yml")]):
            yield from _file(str(each))
        return
    try:
        if place.stat().st_size > _FILE_BYTES:
            raise errors.UsageError(f"{path} has more than {_FILE_BYTES} bytes")
        text = place.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UsageError(
            f"cannot read {path}: {error.strerror if isinstance(error, OSError) else 'it is not UTF-8 text'}"
        ) from error
    yield from _documents(path, text)


def _documents(place: str, text: str) -> Iterator[Obj]:
    try:
        loaded: list[Any] = list(yaml.safe_load_all(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise errors.UsageError(f"{place}{where}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise errors.UsageError(f"{place}: {' '.join(str(error).split())}") from error
    for number, document in enumerate(loaded, start=1):
        if document is not None:
            yield _checked(f"{place}, document {number}", document)


def _checked(place: str, document: Any) -> Obj:
    """What a document must have before any rule can be asked."""
    if not isinstance(document, dict):
        raise errors.UsageError(f"{place}: a document must be a mapping with apiVersion, kind, metadata and spec")
    obj: Obj = {str(key): value for key, value in cast(dict[Any, Any], document).items()}
    for field in ("apiVersion", "kind", "metadata"):
        if field not in obj:
            raise errors.UsageError(f"{place}: {field} is missing")
    metadata = cast(dict[str, Any], obj["metadata"]) if isinstance(obj["metadata"], dict) else {}
    if not isinstance(metadata.get("name"), str):
        raise errors.UsageError(f"{place}: metadata.name is missing")
    namespace = metadata.get("namespace", "default")
    if namespace != "default":
        raise errors.UsageError(f"{place}: metadata.namespace is {namespace!r}; a state file has the one namespace default")
    return _plain(obj)


def _plain(value: Any) -> Any:
    """YAML's dates become the texts they were: JSON has none."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in cast(dict[Any, Any], value).items()}
    if isinstance(value, list):
        return [_plain(each) for each in cast(list[Any], value)]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
