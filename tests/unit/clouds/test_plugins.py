"""Discovery of plugins, over distributions that are really on the import path."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from controller import errors
from controller.clouds import plugins
from controller.clouds.local import driver as local

LOCAL = local.PLUGIN


#: A group of the tests' own, so that what else is installed plays no part.
_GROUP = "occopus.clouds.tests"


class Installer:
    """Puts distributions with entry points onto the import path."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def install(self, name: str, *points: str) -> None:
        info = self._directory / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text("\n".join((f"[{_GROUP}]", *points)))


@pytest.fixture
def installer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installer:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(plugins, "GROUP", _GROUP)
    return Installer(tmp_path)


def test_the_local_cloud_is_declared() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert project["project"]["entry-points"][plugins.GROUP]["local"] == "controller.clouds.local.driver:PLUGIN"


def test_plugins_are_found_by_kind(installer: Installer) -> None:
    installer.install("two", "simulated = tests.simulated.plugin:PLUGIN")
    installer.install("one", "local = controller.clouds.local.driver:PLUGIN")
    assert [each.kind for each in plugins.installed()] == ["local", "simulated"]


def test_none_is_none(installer: Installer) -> None:
    assert plugins.installed() == ()


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("local = no_such_module:PLUGIN", id="no such module"),
        pytest.param("local = controller.clouds.local.driver:MISSING", id="no such name"),
        pytest.param("local = controller.clouds.local.driver:LocalCloud", id="not a plugin"),
        pytest.param("other = controller.clouds.local.driver:PLUGIN", id="another's name"),
        pytest.param("local = tests.unit.clouds.broken:PLUGIN", id="fails at import"),
    ],
)
def test_a_broken_plugin_is_named(installer: Installer, point: str) -> None:
    installer.install("one", point)
    with pytest.raises(errors.UsageError) as caught:
        plugins.installed()
    assert point.partition(" ")[0] in str(caught.value)


def test_two_of_a_kind_are_refused(installer: Installer) -> None:
    installer.install("one", "local = controller.clouds.local.driver:PLUGIN")
    installer.install("two", "local = tests.unit.clouds.test_plugins:LOCAL")
    with pytest.raises(errors.UsageError):
        plugins.installed()


def test_one_that_is_seen_twice_is_one(installer: Installer) -> None:
    """An editable installation beside another copy of its metadata names the same object."""
    for name in ("one", "two"):
        installer.install(name, "local = controller.clouds.local.driver:PLUGIN")
    assert len(plugins.installed()) == 1
