"""boto3 clients for the light EC2: by its endpoint, or without any socket, so that a test in virtual time waits for none."""

from __future__ import annotations

import functools
import io
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError
from botocore.session import Session, get_session

from tests.simulated.ec2.face import LightEc2
from tests.simulated.ec2.query import Request
from tests.simulated.ec2.reply import Dropped, Held

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_sts import STSClient

REGION = "eu-west-1"
NOWHERE = "http://light-ec2.invalid"


@functools.cache
def _session() -> Session:
    """One session, whose loader keeps the API's description: reading it anew for each client takes half a second.

    Of botocore, which is what boto3's own makes its clients by.
    """
    return get_session()


def _options(key: str, region: str, endpoint: str) -> dict[str, Any]:
    # One attempt: what a test commanded to fail once must reach the caller.
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=10)
    return {
        "region_name": region,
        "endpoint_url": endpoint,
        "aws_access_key_id": key,
        "aws_secret_access_key": "secret",
        "config": config,
    }


def ec2_client(of: LightEc2 | str, *, key: str = "AKIDMAIN", region: str = REGION) -> EC2Client:
    """A client of the face itself, or of an endpoint."""
    return _client("ec2", of, key, region)


def sts_client(of: LightEc2 | str, *, key: str = "AKIDMAIN", region: str = REGION) -> STSClient:
    """As `ec2_client`."""
    return _client("sts", of, key, region)


def _client(service: str, of: LightEc2 | str, key: str, region: str) -> Any:
    made: Any = _session().create_client(service, **_options(key, region, of if isinstance(of, str) else NOWHERE))
    if isinstance(of, LightEc2):
        wire(made, of)
    return made


def wire(client: EC2Client | STSClient, ec2: LightEc2) -> None:
    """Let the client's requests go to the face, in the thread that asks, in place of its endpoint."""

    def send(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        return _send(request, ec2)

    events: Any = client.meta.events  # What a handler of this event returns is the response, whatever the stubs say.
    events.register("before-send", send)


class _Raw(io.BytesIO):
    def stream(self, **_: Any) -> Generator[bytes]:
        yield self.read()


def _send(request: AWSPreparedRequest, ec2: LightEc2) -> AWSResponse:
    headers = {name.lower(): _text(value) for name, value in request.headers.items()}
    body = request.body if isinstance(request.body, bytes) else str(request.body or "").encode()
    reply = ec2.handle(Request(str(request.method), str(request.url), headers, body))
    while isinstance(reply, Held):
        reply.event.wait()
        reply = reply.then()
    if isinstance(reply, Dropped):
        raise ConnectionClosedError(endpoint_url=str(request.url))
    answered = HTTPHeaders()
    answered["content-type"] = reply.content_type
    return AWSResponse(str(request.url), reply.status, answered, _Raw(reply.body))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
