"""Ports are free, each once, and none that the kernel gives to outgoing connections: one of those would be taken in between."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tools.control_plane import ports


def test_they_lie_below_those_of_outgoing_connections() -> None:
    least = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    chosen = [*dataclasses.asdict(ports.choose()).values(), *(ports.one() for _ in range(50))]
    assert all(10_000 <= each < least for each in chosen)
    assert len(set(dataclasses.asdict(ports.choose()).values())) == 5


def test_where_the_kernel_does_not_say_it_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ports, "_OUTGOING", tmp_path / "none")
    assert ports.free(ports.one())
