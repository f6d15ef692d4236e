"""Which machines may be probed on loopback: those of a cloud whose endpoint is there, and only where the flag allows such clouds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.ports import Account, CloudDriver
from tests.simulated.checker import SimulatedChecker
from tests.system import ec2
from tests.system.documents import alone
from tests.system.rig import Rig, play


class _At:
    """A driver whose cloud is at that endpoint."""

    def __init__(self, driver: CloudDriver, endpoint: str) -> None:
        self._driver = driver
        self._endpoint = endpoint

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    def identity(self) -> Account:
        return replace(self._driver.identity(), endpoint=self._endpoint)


def _at(endpoint: str) -> Callable[[CloudDriver], CloudDriver]:
    def wrapped(driver: CloudDriver) -> Any:
        return _At(driver, endpoint)

    return wrapped


def _allowed(rig: Rig) -> Sequence[bool]:
    checker = rig.engine.ports.checker
    assert isinstance(checker, SimulatedChecker)
    return sorted(allowed for _, allowed in checker.loopback)


@pytest.mark.parametrize(
    ("endpoint", "flag", "allowed"),
    [
        pytest.param("http://127.0.0.1:4566", True, True, id="loopback"),
        pytest.param("http://[::1]:4566", True, True, id="loopback-6"),
        pytest.param("http://localhost:4566", True, True, id="localhost"),
        pytest.param("http://127.0.0.1:4566", False, False, id="no-flag"),
        pytest.param("", True, False, id="no-endpoint"),
        pytest.param("https://10.0.0.9", True, False, id="elsewhere"),
        pytest.param("https://127.0.0.1.example.org", True, False, id="a-name"),
        pytest.param("https://example.org/@127.0.0.1", True, False, id="a-path"),
        pytest.param("https://[127.0.0.1", True, False, id="no-url"),
    ],
)
def test_by_the_endpoint_and_the_flag(tmp_path: Path, endpoint: str, flag: bool, allowed: bool) -> None:
    async def main(rig: Rig) -> None:
        await rig.crash()
        rig.wrap_driver = _at(endpoint)
        rig.options = replace(rig.options, allow_local=flag)
        rig.start()
        await rig.up(*alone())
        assert _allowed(rig) == [allowed]

    play(tmp_path, main)


def test_on_the_light_ec2(tmp_path: Path) -> None:
    async def main(rig: ec2.Ec2Rig) -> None:
        await rig.up(*alone())
        assert _allowed(rig) == [True]

    ec2.play(tmp_path, main)
