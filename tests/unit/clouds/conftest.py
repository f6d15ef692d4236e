"""A local cloud for each test, of which nothing may be left running."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from controller.clouds.local import directories
from tests.unit.clouds.machines import Cloud


@pytest.fixture
def cloud(tmp_path: Path) -> Generator[Cloud]:
    each = Cloud(tmp_path / "cloud")
    yield each
    each.driver.delete([machine.id for machine in each.driver.list()])
    assert not any(map(each.processes, directories.machines(directories.Home(each.directory))))
