"""The light EC2 on a real socket and as a real process: connections kept, cut, held, and ended with the server."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError

from controller import errors
from tests.simulated.ec2 import Hang, LightEc2, ec2_client, serve, sts_client
from tests.simulated.ec2.trial import asked, code, instances
from tests.simulated.loop import Clock
from tests.simulated.world import World

_HEADERS = {"Authorization": "AWS4-HMAC-SHA256 Credential=AKIDMAIN/20300101/eu-west-1/ec2/aws4_request"}


def _ec2() -> LightEc2:
    return LightEc2(World(Clock()))


def test_boto3_speaks_to_it_by_its_endpoint() -> None:
    with serve(_ec2()) as url:
        assert sts_client(url).get_caller_identity()["Account"] == "111111111111"
        client = ec2_client(url)
        first, again = (client.run_instances(**asked(2, "batch"))["Instances"] for _ in range(2))
        assert [each.get("InstanceId") for each in again] == [each.get("InstanceId") for each in first]
        assert code(lambda: client.describe_instances(InstanceIds=["i-1"])) == "InvalidInstanceID.Malformed"


def test_a_connection_is_kept() -> None:
    with serve(_ec2()) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        connection.connect()
        kept = connection.sock
        for _ in range(3):
            connection.request("POST", "/", "Action=DescribeInstances", _HEADERS)
            assert b"reservationSet" in connection.getresponse().read()
        assert connection.sock is kept
        connection.close()


@pytest.mark.parametrize(("after", "machines"), [pytest.param(False, 0, id="not-done"), pytest.param(True, 1, id="lost-reply")])
def test_a_connection_is_cut_and_the_next_one_is_good(after: bool, machines: int) -> None:
    ec2 = _ec2()
    with serve(ec2) as url:
        client = ec2_client(url)
        client.describe_instances()
        ec2.world.fail("RunInstances", errors.Transient("cut"), after=after)
        with pytest.raises(ConnectionClosedError):
            client.run_instances(**asked(1, "batch"))
        assert len(ec2.world.machines) == machines
        client.run_instances(**asked(1, "batch"))
        assert len(ec2.world.machines) == 1


def test_a_call_that_hangs_holds_up_no_other() -> None:
    ec2, hang = _ec2(), Hang()
    ec2.world.fail("RunInstances", hang)
    with serve(ec2) as url, ThreadPoolExecutor() as threads:
        held = threads.submit(ec2_client(url).run_instances, **asked())
        assert hang.reached.wait(10)
        assert ec2_client(url).describe_instances()["Reservations"] == []
        hang.release()
        assert held.result(10)["Instances"]


def test_a_client_that_gave_up_is_still_served_late() -> None:
    ec2, hang = _ec2(), Hang()
    ec2.world.fail("RunInstances", hang)
    with serve(ec2) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        connection.request("POST", "/", "Action=RunInstances&ImageId=ami-0a000000000000001&MinCount=1&MaxCount=1", _HEADERS)
        assert hang.reached.wait(10)
        connection.close()
        assert ec2.world.machines == {}
        hang.release()
        _wait(lambda: len(ec2.world.machines) == 1)


def test_many_callers_at_once_make_each_batch_once() -> None:
    ec2 = _ec2()
    with serve(ec2) as url:
        client = ec2_client(url)
        with ThreadPoolExecutor(8) as threads:
            calls = [threads.submit(client.run_instances, **asked(2, f"batch-{number % 4}")) for number in range(16)]
        assert all(each.result()["Instances"] for each in calls)
    assert len(ec2.world.machines) == 8
    assert ec2.world.duplicates() == []


def test_at_its_end_connections_end_and_no_thread_is_left() -> None:
    before = set(threading.enumerate())
    with serve(_ec2()) as url:
        client = ec2_client(url)
        client.describe_instances()
    with pytest.raises((EndpointConnectionError, ConnectionClosedError)):
        client.describe_instances()
    _wait(lambda: not set(threading.enumerate()) - before)


def test_as_a_process_it_writes_where_it_serves_and_what_it_was_asked(tmp_path: Path) -> None:
    place, ledger = tmp_path / "port", tmp_path / "ledger"
    command = [sys.executable, "-m", "tests.simulated.ec2", "--port-file", str(place), "--ledger", str(ledger), "--boot-seconds", "0", "0"]
    with subprocess.Popen(command) as process:
        try:
            _wait(lambda: place.exists() or process.poll() is not None)
            client = ec2_client(place.read_text().strip())
            client.run_instances(**asked(2, "batch"))
            assert [each["State"]["Name"] for each in instances(client.describe_instances())] == ["running", "running"]
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    calls = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [(each["action"], each["token"], each["outcome"]) for each in calls] == [
        ("RunInstances", "batch", "ok"),
        ("DescribeInstances", "", "ok"),
    ]


def _wait(holds: Callable[[], bool]) -> None:
    """What is waited for is another thread's or process's doing, which tells nobody: look again and again."""
    until, pause = time.monotonic() + 20, threading.Event()
    while not holds():
        assert time.monotonic() < until
        pause.wait(0.01)
