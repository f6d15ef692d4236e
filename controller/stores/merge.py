"""JSON merge patches (RFC 7396): apply one, and find the one that turns an object into another. Pure.

The file home applies what the Kubernetes API server would; the engine finds the difference between an object as last seen
and as wanted, which is the only thing it ever sends. Arguments are never changed; results share parts with them, so that
what is the same can be told by identity.
"""

from __future__ import annotations

import json
from typing import Any, cast

Json = Any


def apply(target: Json, patch: Json) -> Json:
    """RFC 7396, section 2: objects are merged, null removes, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    changes = cast(dict[str, Json], patch)
    merged = dict(cast(dict[str, Json], target)) if isinstance(target, dict) else {}
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = apply(merged.get(key), value)
    return merged


def difference(old: dict[str, Json], new: dict[str, Json]) -> dict[str, Json]:
    """The smallest merge patch with `apply(old, patch) == new`; `{}` where they are equal.

    A merge patch cannot store a null: `new` holds none outside of lists, else ValueError.
    """
    patch: dict[str, Json] = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            patch[key] = _whole(value, key)
        elif not same(old[key], value):
            patch[key] = _changed(old[key], value, key)
    return patch


def same(left: Json, right: Json) -> bool:
    """Equal as JSON: True is not 1 and False is not 0, as Python has it; 1 and 1.0 are one number."""
    if left is right:
        return True
    if left != right:
        return False
    # Equal to Python. Equal texts settle it a dozen times as fast as a walk; where key order or 1.0 differ, the walk does.
    if isinstance(left, dict | list) and json.dumps(left) == json.dumps(right):
        return True
    return _same_types(left, right)


def _same_types(left: Json, right: Json) -> bool:
    if isinstance(left, dict):
        one, other = cast(dict[str, Json], left), cast(dict[str, Json], right)
        return all(_same_types(value, other[key]) for key, value in one.items())
    if isinstance(left, list | tuple):
        return all(map(_same_types, cast(list[Json], left), cast(list[Json], right)))
    return isinstance(left, bool) is isinstance(right, bool)


def copied(value: Json) -> Json:
    """A deep copy of a JSON value; several times as fast as `copy.deepcopy`."""
    if isinstance(value, dict):
        return {key: copied(each) for key, each in cast(dict[str, Json], value).items()}
    if isinstance(value, list | tuple):
        return [copied(each) for each in cast(list[Json], value)]
    return value


def _changed(old: Json, new: Json, key: str) -> Json:
    if isinstance(old, dict) and isinstance(new, dict):
        return difference(cast(dict[str, Json], old), cast(dict[str, Json], new))
    return _whole(new, key)


def _whole(value: Json, key: str) -> Json:
    """A value that is put where there was none, or something else: as a patch it must hold no null."""
    if value is None:
        raise ValueError(f"a merge patch cannot store the null at {key!r}")
    if isinstance(value, dict):
        return {inner: _whole(each, inner) for inner, each in cast(dict[str, Json], value).items()}
    return value


__all__ = ["apply", "copied", "difference", "same"]
