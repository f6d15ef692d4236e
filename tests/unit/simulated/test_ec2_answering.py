"""Machines of the light EC2 that answer themselves: when they listen, what they say, who knocked, and nothing left at the end."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from random import Random

import pytest

from controller.ports import Identity, MachineId
from tests.simulated.ec2 import Answering, LightEc2, Page, answering, ec2_client
from tests.simulated.ec2.trial import asked, code, instances, tagged
from tests.simulated.loop import Clock
from tests.simulated.world import Settings, SimulatedMachine, World
from tools.control_plane import ports

BOOT_SECONDS, HEALTH_SECONDS = 30.0, 10.0
SILENCE_SECONDS = 0.3


def _boot(_: Random) -> float:
    return BOOT_SECONDS


def _health(_: Random) -> float:
    return HEALTH_SECONDS


def _at_once() -> LightEc2:
    """Machines are up and healthy when they are made."""
    return LightEc2(World(Clock(), settings=Settings(boot_seconds=lambda _: 0, health_seconds=lambda _: 0)))


@dataclass(frozen=True, slots=True)
class Street:
    """A light EC2 in virtual time whose machines answer."""

    ec2: LightEc2
    clock: Clock
    answering: Answering

    def build(self, count: int = 1, boots: bool = True) -> list[SimulatedMachine]:
        """Machines of one call, by default up and healthy."""
        made = ec2_client(self.ec2).run_instances(**asked(count))["Instances"]
        self.clock.seconds += BOOT_SECONDS + HEALTH_SECONDS if boots else 0
        return [self.ec2.world.machines[MachineId(each.get("InstanceId", ""))] for each in made]

    def knock(self, machine: SimulatedMachine) -> str:
        return _knock(machine.private_address, self.answering.port)

    def until(self, machine: SimulatedMachine, answer: str) -> None:
        _wait(lambda: self.knock(machine) == answer)


@pytest.fixture
def street() -> Iterator[Street]:
    clock = Clock()
    ec2 = LightEc2(World(clock, settings=Settings(boot_seconds=_boot, health_seconds=_health)))
    with answering(ec2) as served:
        yield Street(ec2, clock, served)


def test_it_answers_from_when_it_is_healthy(street: Street) -> None:
    (machine,) = street.build(boots=False)
    said: list[Page] = []
    for seconds in (0.0, BOOT_SECONDS, HEALTH_SECONDS - 1, 1.0):
        street.clock.seconds += seconds
        said.append(street.answering.page(machine))
    assert said == [Page.REFUSES, Page.REFUSES, Page.REFUSES, Page.SERVES]
    street.until(machine, "200 up")
    street.ec2.world.make_unhealthy(machine.id)
    street.until(machine, "500 down")
    street.ec2.world.make_healthy(machine.id)
    street.until(machine, "200 up")


def _terminate(street: Street, id: str) -> None:
    ec2_client(street.ec2).terminate_instances(InstanceIds=[id])


def _kill(street: Street, id: str) -> None:
    street.ec2.world.kill(id)


def _stop(street: Street, id: str) -> None:
    street.ec2.world.stop(id)


@pytest.mark.parametrize("end", [pytest.param(each, id=each.__name__.strip("_")) for each in (_terminate, _kill, _stop)])
def test_at_its_end_it_refuses_and_cuts_off_who_is_connected(street: Street, end: Callable[[Street, str], None]) -> None:
    machine, other = street.build(2)
    street.until(machine, "200 up")
    with socket.create_connection((machine.private_address, street.answering.port), timeout=10) as connected:
        # Whoever is connected was accepted when the next one is answered.
        street.until(machine, "200 up")
        street.ec2.behaviour.pages[machine.id] = Page.SERVES
        end(street, machine.id)
        with contextlib.suppress(ConnectionResetError):
            assert connected.recv(1) == b""
    street.until(machine, "refused")
    assert not street.answering.listens(machine.id)
    assert street.knock(other) == "200 up"


@pytest.mark.parametrize(
    ("page", "answer"),
    [
        pytest.param(Page.FAILS, "500 down", id="fails"),
        pytest.param(Page.HANGS, "silent", id="hangs"),
        pytest.param(Page.REFUSES, "refused", id="refuses"),
    ],
)
def test_one_machine_answers_as_it_is_told(street: Street, page: Page, answer: str) -> None:
    machine, other = street.build(2)
    street.until(machine, "200 up")
    street.ec2.behaviour.pages[machine.id] = page
    street.until(machine, answer)
    street.until(other, "200 up")
    assert page is Page.REFUSES or street.answering.of(machine.id)[-1] is page
    del street.ec2.behaviour.pages[machine.id]
    street.until(machine, "200 up")


def test_what_it_is_told_over_the_line_is_no_tag(street: Street) -> None:
    (machine,) = street.build()
    client = ec2_client(street.ec2)
    client.create_tags(Resources=[machine.id], Tags=[{"Key": "light-ec2/page", "Value": "Fails"}, {"Key": "team", "Value": "a"}])
    street.until(machine, "500 down")
    assert machine.tags == {"team": "a"}
    assert (
        code(lambda: client.create_tags(Resources=[machine.id], Tags=[{"Key": "light-ec2/page", "Value": "Sleeps"}]))
        == "InvalidParameterValue"
    )
    assert street.ec2.behaviour.pages == {machine.id: Page.FAILS}


def test_hundreds_have_each_an_address_of_their_own(street: Street) -> None:
    before = threading.active_count()
    machines = street.build(300)
    street.until(machines[-1], "200 up")
    assert {street.knock(each) for each in machines} == {"200 up"}
    assert len({each.private_address for each in machines}) == 300
    assert all(IPv4Address(each.private_address) in ip_network("127.32.0.0/11") for each in machines)
    assert {each.machine for each in street.answering.knocks} == {each.id for each in machines}
    assert threading.active_count() == before


def test_a_connection_without_a_word_is_noted_as_well(street: Street) -> None:
    (machine,) = street.build()
    _wait(lambda: street.answering.listens(machine.id))
    socket.create_connection((machine.private_address, street.answering.port)).close()
    _wait(lambda: street.answering.of(machine.id) == [Page.SERVES])
    assert street.answering.knocks[0].time == street.clock()


def test_at_the_end_nothing_listens_and_no_thread_is_left() -> None:
    before = set(threading.enumerate())
    ec2 = _at_once()
    with answering(ec2) as served:
        street = Street(ec2, Clock(), served)
        (machine,) = street.build()
        street.until(machine, "200 up")
    assert street.knock(machine) == "refused"
    assert set(threading.enumerate()) == before


def test_who_connects_as_it_ends_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10):
        ec2 = _at_once()
        with ThreadPoolExecutor(1) as threads, answering(ec2) as served:
            street = Street(ec2, Clock(), served)
            (machine,) = street.build()
            street.until(machine, "200 up")
            connecting = threads.submit(_connect_until_refused, (machine.private_address, served.port))
            _wait(lambda served=served: len(served.knocks) > 20)
        assert connecting.result() > 20
    assert not caplog.records


def _connect_until_refused(address: tuple[str, int]) -> int:
    """How many connections were accepted, and ended when the machines did."""
    with contextlib.ExitStack() as stack:
        connected: list[socket.socket] = []
        with contextlib.suppress(ConnectionError):
            while True:
                connected.append(stack.enter_context(socket.create_connection(address, timeout=10)))
        for each in connected:
            with contextlib.suppress(ConnectionResetError):
                assert each.recv(1) == b""
        return len(connected)


def test_a_port_that_is_taken_is_no_secret() -> None:
    with pytest.raises(OSError, match=r"127\.32\.0\.2.*in use"):
        _build_where_somebody_listens(ports.one())


def _build_where_somebody_listens(port: int) -> None:
    ec2 = _at_once()
    with socket.create_server(("127.32.0.2", port)), answering(ec2, port):
        for index, said in enumerate(("200 up", "refused")):
            ec2.world.insert(("1", "here"), Identity("batch", index), {})
            _wait(lambda said=said: _knock("127.32.0.1", port) == said)


def test_as_a_process(tmp_path: Path) -> None:
    place, port = tmp_path / "port", ports.one()
    command = [sys.executable, "-m", "tests.simulated.ec2", "--port-file", str(place), "--machines-port", str(port)]
    with subprocess.Popen([*command, "--boot-seconds", "0", "0", "--health-seconds", "0", "0"]) as process:
        try:
            _wait(lambda: place.exists() or process.poll() is not None)
            client = ec2_client(place.read_text().strip())
            (shown,) = client.run_instances(**asked(TagSpecifications=tagged(Name="one")))["Instances"]
            address, id = shown.get("PrivateIpAddress", ""), shown.get("InstanceId", "")
            _wait(lambda: _knock(address, port) == "200 up")
            client.create_tags(Resources=[id], Tags=[{"Key": "light-ec2/page", "Value": "Fails"}])
            _wait(lambda: _knock(address, port) == "500 down")
            assert [each["Tags"] for each in instances(client.describe_instances())] == [[{"Key": "Name", "Value": "one"}]]
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert _knock(address, port) == "refused"


def _knock(address: str, port: int) -> str:
    """The answer's status and body, or what came in its place."""
    try:
        with socket.create_connection((address, port), timeout=SILENCE_SECONDS) as connected:
            connected.sendall(b"GET / HTTP/1.1\r\nHost: one\r\n\r\n")
            said = b"".join(iter(lambda: connected.recv(4096), b""))
    except ConnectionRefusedError:
        return "refused"
    except (TimeoutError, ConnectionResetError):
        return "silent"
    head, _, body = said.partition(b"\r\n\r\n")
    return f"{head.split()[1].decode()} {body.decode().strip()}" if head else "silent"


def _wait(holds: Callable[[], bool]) -> None:
    """What is waited for is another thread's or process's doing, which tells nobody: look again and again."""
    until, pause = time.monotonic() + 20, threading.Event()
    while not holds():
        assert time.monotonic() < until
        pause.wait(0.01)
