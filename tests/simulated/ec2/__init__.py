"""A light EC2: the simulated cloud behind EC2's and STS's own HTTP protocol, for boto3 by `endpoint_url`."""

from __future__ import annotations

from tests.simulated.ec2.answering import Answering, Knock, answering
from tests.simulated.ec2.asked import Behaviour, Page
from tests.simulated.ec2.catalogue import Catalogue, Group, Image, KeyPair, Subnet
from tests.simulated.ec2.face import LightEc2
from tests.simulated.ec2.query import Request
from tests.simulated.ec2.refusals import Garbage, Hang, Refusal
from tests.simulated.ec2.reply import Dropped, Held, Reply, Response
from tests.simulated.ec2.server import serve
from tests.simulated.ec2.wire import ec2_client, sts_client, wire

__all__ = [
    "Answering",
    "Behaviour",
    "Catalogue",
    "Dropped",
    "Garbage",
    "Group",
    "Hang",
    "Held",
    "Image",
    "KeyPair",
    "Knock",
    "LightEc2",
    "Page",
    "Refusal",
    "Reply",
    "Request",
    "Response",
    "Subnet",
    "answering",
    "ec2_client",
    "serve",
    "sts_client",
    "wire",
]
