"""Which kinds of cloud are installed. The shell asks once, at its start, and passes the plugins in as values."""

from __future__ import annotations

from importlib import metadata

from controller import errors
from controller.ports import CloudPlugin

GROUP = "occopus.clouds"


def installed() -> tuple[CloudPlugin, ...]:
    """The plugins of the entry point group `occopus.clouds`, by kind.

    Raises UsageError where one cannot be loaded, is no CloudPlugin, or has a kind or a name that another has: which of
    two drivers a Cloud gets must not depend on the order of installation.
    """
    found: dict[str, tuple[CloudPlugin, str]] = {}
    for point in metadata.entry_points(group=GROUP):
        plugin = _load(point)
        origin = f"{point.name} = {point.value}"
        if plugin.kind in found and found[plugin.kind][1] != origin:
            raise errors.UsageError(f"two plugins are of the kind {plugin.kind}: {found[plugin.kind][1]} and {origin}; uninstall one")
        found[plugin.kind] = (plugin, origin)
    return tuple(found[kind][0] for kind in sorted(found))


def _load(point: metadata.EntryPoint) -> CloudPlugin:
    try:
        plugin: object = point.load()
    except Exception as error:
        raise errors.UsageError(f"the cloud plugin {point.name} ({point.value}) cannot be loaded: {error}") from error
    if not isinstance(plugin, CloudPlugin):
        raise errors.UsageError(f"the cloud plugin {point.name} ({point.value}) is no CloudPlugin")
    if plugin.kind != point.name:
        raise errors.UsageError(f"the cloud plugin {point.name} ({point.value}) is of the kind {plugin.kind}; its name must say so")
    return plugin


__all__ = ["GROUP", "installed"]
