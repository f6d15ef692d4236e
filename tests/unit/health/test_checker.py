"""The checker: dispatch, guard, times, numbers; and the tcp check."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from typing import Any

import pytest

from controller.health import connection
from controller.health.checker import SOCKETS, NetworkChecker, sockets
from controller.ports import Checker, ProbeResult
from tests.unit.health.servers import serving


def _check(probe: dict[str, Any], address: str = "127.0.0.1", *, loopback: bool = True) -> ProbeResult:
    checker: Checker = NetworkChecker()
    return asyncio.run(checker.check({"name": "p", "timeoutSeconds": 1, **probe}, address, loopback=loopback))


def _closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def test_tcp_connects() -> None:
    async def run() -> None:
        async with serving(b"") as server:
            result = await NetworkChecker().check({"name": "p", "tcp": {"port": server.port}}, "127.0.0.1", loopback=True)
            assert result == ProbeResult(True, f"tcp 127.0.0.1:{server.port} from 127.0.0.1: connected")

    asyncio.run(run())


@pytest.mark.parametrize(("kind", "subject"), [pytest.param("tcp", "tcp {}", id="tcp"), pytest.param("http", "http http://{}/", id="http")])
def test_refused(kind: str, subject: str) -> None:
    port = _closed_port()
    result = _check({kind: {"port": port}})
    assert result == ProbeResult(False, f"{subject.format(f'127.0.0.1:{port}')} from 127.0.0.1: connection refused")


def test_the_message_is_the_same_each_time() -> None:
    port = _closed_port()
    assert len({_check({"tcp": {"port": port}}).message for _ in range(5)}) == 1


def test_no_answer_in_time() -> None:
    """A listener whose queue is full answers no further connection."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for queued in (first, second):
            queued.setblocking(False)
            queued.connect_ex(full.getsockname())
        result = _check({"tcp": {"port": full.getsockname()[1]}})
    assert not result.passed
    assert result.message.endswith("no answer within 1 s")


@pytest.mark.parametrize(
    "arm",
    [pytest.param({"tcp": {"port": 80}}, id="tcp"), pytest.param({"http": {"port": 80}}, id="http"), pytest.param({"icmp": {}}, id="icmp")],
)
@pytest.mark.parametrize(
    "address", [pytest.param(each, id=each) for each in ("127.0.0.1", "169.254.169.254", "localhost", "::ffff:127.0.0.1")]
)
def test_addresses_that_are_not_probed(arm: dict[str, Any], address: str) -> None:
    async def nothing_is_connected() -> ProbeResult:
        def fail(*_: object, **__: object) -> None:
            raise AssertionError("a socket was made")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, "socket", fail)
            return await NetworkChecker().check({"name": "p", **arm}, address, loopback=False)

    result = asyncio.run(nothing_is_connected())
    assert not result.passed
    assert address in result.message


@pytest.mark.parametrize(
    "probe",
    [
        pytest.param({}, id="no-arm"),
        pytest.param({"tcp": {}}, id="no-port"),
        pytest.param({"tcp": {"port": 0}}, id="port-0"),
        pytest.param({"tcp": {"port": "x"}}, id="port-text"),
        pytest.param({"tcp": {"port": 80}, "timeoutSeconds": 99}, id="timeout"),
        pytest.param({"http": {"port": 80, "path": "no-slash"}}, id="path"),
        pytest.param({"smtp": {"port": 25}}, id="unknown-arm"),
    ],
)
def test_probes_that_are_not_valid_fail(probe: dict[str, Any]) -> None:
    assert not _check(probe).passed


def test_the_peer_is_checked() -> None:
    """Linux leads 0.0.0.0 to 127.0.0.1: an address that is not its peer's."""

    async def run() -> None:
        async with serving(b"") as server:
            with pytest.raises(connection.Failed):
                await connection.connect("0.0.0.0", server.port, loopback=True)
            with pytest.raises(connection.Failed):
                await connection.connect("127.0.0.1", server.port, loopback=False)
            (await connection.connect("127.0.0.1", server.port, loopback=True)).close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(1024, 512, id="what most systems allow"),
        pytest.param(20_000, SOCKETS, id="many"),
        pytest.param(resource.RLIM_INFINITY, SOCKETS, id="no limit"),
        pytest.param(1, 1, id="one"),
    ],
)
def test_at_most_half_of_the_files_that_may_be_open_are_sockets_of_checks(files: int, expected: int) -> None:
    assert sockets(files) == expected


def test_close_ends_what_runs() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def run() -> None:
        async with serving(hang) as server:
            checker = NetworkChecker()
            probe = {"name": "p", "http": {"port": server.port}, "timeoutSeconds": 5}
            checks = [asyncio.create_task(checker.check(probe, "127.0.0.1", loopback=True)) for _ in range(5)]
            await asyncio.sleep(0.1)
            async with asyncio.timeout(1):
                await checker.close()
                results = await asyncio.gather(*checks)
            assert {result.passed for result in results} == {None}
            assert (await checker.check(probe, "127.0.0.1", loopback=True)).passed is None
            await checker.close()

    asyncio.run(run())


@pytest.mark.parametrize("scheme", [pytest.param("HTTP", id="http"), pytest.param("HTTPS", id="in-the-handshake")])
def test_cancelled_check_holds_nothing(scheme: str) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        begun.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        ended.set()

    async def run() -> None:
        async with serving(hang) as server:
            probe = {"name": "p", "http": {"port": server.port, "scheme": scheme}, "timeoutSeconds": 5}
            task = asyncio.create_task(NetworkChecker().check(probe, "127.0.0.1", loopback=True))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(1):
                await ended.wait()

    asyncio.run(run())


@pytest.mark.parametrize(
    "arm",
    [pytest.param({"tcp": {"port": 80}}, id="tcp"), pytest.param({"http": {"port": 80}}, id="http"), pytest.param({"icmp": {}}, id="icmp")],
)
@pytest.mark.parametrize("lacking", [pytest.param(each, id=errno.errorcode[each]) for each in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS)])
def test_what_the_controller_lacks_is_no_fault_of_the_machine(arm: dict[str, Any], lacking: int) -> None:
    async def run() -> ProbeResult:
        def lack(*_: object, **__: object) -> None:
            raise OSError(lacking, "lacking")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, "socket", lack)
            return await NetworkChecker().check({"name": "p", **arm}, "10.0.0.1", loopback=False)

    result = asyncio.run(run())
    assert result.passed is None
    assert os.strerror(lacking).lower() in result.message


def test_no_route() -> None:
    """Where there is no IPv6 route the message says so; where there is one, nobody lives at this address."""
    assert _check({"tcp": {"port": 9}}, "2001:db8::1").passed is False
