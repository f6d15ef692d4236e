"""Reads the files a user names: YAML documents, each with the place it came from for error messages."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, cast

import yaml

from controller import errors
from controller.ports import Obj

#: More is no description of an infrastructure; it is a mistake. The bounds of what YAML's aliases and brackets can make of it.
_FILE_BYTES = 8 * 1024 * 1024
_FILE_VALUES = 200_000
_DEPTH = 100


def load(paths: tuple[str, ...], *, any_namespace: bool = False) -> list[Obj]:
    """All documents of the files, in order; `-` is standard input, a directory stands for its *.yaml files.

    A document that stands there twice, word for word, is one. Other namespaces than `default` are for a cluster alone.
    Raises UsageError, naming file, line and column.
    """
    found: dict[tuple[str, str, str], tuple[str, Obj]] = {}
    for path in paths:
        for place, document in _file(path):
            kind, name = str(document["kind"]), str(document["metadata"]["name"])
            namespace = document["metadata"].get("namespace", "" if any_namespace else "default")
            if namespace != "default" and not any_namespace:
                raise errors.UsageError(f"{place}: metadata.namespace is {namespace!r}; a state file has the one namespace default")
            before, first = found.setdefault((kind, str(namespace), name), (place, document))
            if first != document:
                raise errors.UsageError(f"{place}: {kind} {name} is described in {before} too, and differently")
    if not found:
        raise errors.UsageError(f"no document in {', '.join(paths)}")
    return [document for _, document in found.values()]


def _file(path: str) -> Iterator[tuple[str, Obj]]:
    name = "standard input" if path == "-" else path
    try:
        place = Path(path)
        files = sorted([*place.glob("*.yaml"), *place.glob("*.yml")]) if path != "-" and place.is_dir() else None
        raw = b"" if files is not None else _read(place, path == "-")
        text = raw.decode()
    except OSError as error:
        raise errors.UsageError(f"cannot read {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise errors.UsageError(f"cannot read {name}: it is not UTF-8 text") from error
    if len(raw) > _FILE_BYTES:
        raise errors.UsageError(f"{name} has more than {_FILE_BYTES} bytes")
    for each in files or ():
        yield from _file(str(each))
    yield from _documents(name, text)


def _read(place: Path, standard_input: bool) -> bytes:
    """One byte more than a file may have tells that it has too many."""
    if standard_input:
        return sys.stdin.buffer.read(_FILE_BYTES + 1)
    with place.open("rb") as file:
        return file.read(_FILE_BYTES + 1)


class _Loader(yaml.SafeLoader):
    """YAML as JSON can hold it: dates stay the texts they are, and no key stands twice in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _documents(place: str, text: str) -> Iterator[tuple[str, Obj]]:
    try:
        loaded: list[Any] = list(yaml.load_all(text, _Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise errors.UsageError(f"{place}{where}: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number or a text of base64 that is none
        raise errors.UsageError(f"{place}: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise errors.UsageError(f"{place}: mappings and lists are nested too deep") from None
    values = _Values()
    for number, document in enumerate(loaded, start=1):
        if document is not None:
            here = f"{place}, document {number}"
            yield here, _checked(here, values.plain(here, document))


def _checked(place: str, obj: Any) -> Obj:
    """What a document must have before any rule can be asked."""
    if not isinstance(obj, dict):
        raise errors.UsageError(f"{place}: a document must be a mapping with apiVersion, kind, metadata and spec")
    document = cast(Obj, obj)
    for field in ("apiVersion", "kind", "metadata"):
        if field not in document:
            raise errors.UsageError(f"{place}: {field} is missing")
    metadata = cast(dict[str, Any], document["metadata"]) if isinstance(document["metadata"], dict) else {}
    if "name" not in metadata:
        raise errors.UsageError(f"{place}: metadata.name is missing")
    if not isinstance(metadata["name"], str):
        raise errors.UsageError(f"{place}: metadata.name is {metadata['name']!r}; put a name in quotes that is not text by itself")
    return document


class _Values:
    """Copies what YAML made into plain JSON values, and counts: an alias stands for all that it names."""

    def __init__(self) -> None:
        self._count = 0

    def plain(self, place: str, value: Any, depth: int = 0) -> Any:
        self._count += 1
        if self._count > _FILE_VALUES or depth > _DEPTH:
            what = "mappings and lists are nested too deep" if depth > _DEPTH else f"more than {_FILE_VALUES} values"
            raise errors.UsageError(f"{place}: {what}")
        if isinstance(value, dict):
            return {str(key): self.plain(place, each, depth + 1) for key, each in cast(dict[Any, Any], value).items()}
        if isinstance(value, list):
            return [self.plain(place, each, depth + 1) for each in cast(list[Any], value)]
        if isinstance(value, str | int | float | bool | None):
            return value
        raise errors.UsageError(f"{place}: a value has the YAML type {type(value).__name__}, which JSON has not: write it as text")
