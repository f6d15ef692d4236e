"""moto's EC2 and STS on a socket of this machine: one server a process, emptied for each test."""

from __future__ import annotations

import functools
import http.client
import json
from typing import Any

from botocore.session import get_session
from moto.server import ThreadedMotoServer


@functools.cache
def _server() -> str:
    """The address of the server. It ends with the process: its thread is a daemon's."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return f"{host}:{port}"


def fresh() -> str:
    """The endpoint's URL, with nothing left of earlier tests."""
    connection = http.client.HTTPConnection(_server())
    try:
        connection.request("POST", "/moto-api/reset")
        answer = json.load(connection.getresponse())
    finally:
        connection.close()
    assert answer == {"status": "ok"}
    return f"http://{_server()}"


@functools.cache
def image(endpoint: str) -> str:
    """The id of an image that it has."""
    client: Any = get_session().create_client(
        "ec2", region_name="eu-west-1", endpoint_url=endpoint, aws_access_key_id="AKIDMAIN", aws_secret_access_key="secret"
    )
    found = client.describe_images(Filters=[{"Name": "root-device-type", "Values": ["ebs"]}])["Images"]
    client.close()
    return min(each["ImageId"] for each in found)
