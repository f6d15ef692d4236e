"""The whole system on the light EC2: the `ec2` driver by boto3 over HTTP, in virtual time.

The server's threads read the virtual clock, and the driver's calls are made in the loop's own thread, so that a call takes no
virtual time. `documents` turns descriptions for the simulated cloud into the same on EC2.
"""

from __future__ import annotations

import functools
from typing import Any

from controller.clouds.ec2 import driver as ec2
from controller.engine.engine import Options
from controller.stores.rules import Rules
from tests.simulated.ec2 import LightEc2
from tests.simulated.harness import CONTROLLER, System

REGION = "eu-west-1"
#: The default keys of the light EC2, and whose they are.
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDMAIN", "AWS_SECRET_ACCESS_KEY": "c4n4ry-53cr37"}
ACCOUNT = ("111111111111", REGION)
MACHINE = {"image": {"id": "ami-0a000000000000001"}, "instanceType": "t3.small"}

Document = dict[str, Any]


def on_ec2(system: System, light: LightEc2, endpoint: str) -> None:
    """Let a system stand on the light EC2 that is served there, before it is started."""
    system.world = light.world
    system.documents = lambda described: documents(described, endpoint)
    system.plugin = ec2.PLUGIN
    system.options = Options(CONTROLLER, "", allow_local=True, workers=16)
    system.rules = rules()


@functools.cache
def rules() -> Rules:
    """Emitted once: a second of work."""
    return Rules((ec2.PLUGIN,))


def documents(described: list[Document], endpoint: str, keys: dict[str, str] = KEYS) -> list[Document]:
    """The same on EC2; accounts of the simulated cloud become Secrets of that name."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "aws", "namespace": "default"}, "stringData": keys}
    return [secret, *(_on_ec2(each, endpoint) for each in described)]


def _on_ec2(document: Document, endpoint: str) -> Document:
    spec = document.get("spec", {})
    match document["kind"]:
        case "Cloud":
            arm = {"region": REGION, "endpoint": endpoint, "credentials": {"secretRef": {"name": "aws"}}}
            return {**document, "spec": {**_without(spec), "ec2": arm}}
        case "InstanceTemplate":
            return {**document, "spec": {**spec, "implementations": [_implementation(each) for each in spec["implementations"]]}}
        case _:
            return document


def _implementation(each: Document) -> Document:
    size = each["simulated"].get("size", "small")
    return {**_without(each), "ec2": {**MACHINE, "instanceType": f"t3.{size}"}}


def _without(fields: Document) -> Document:
    return {name: value for name, value in fields.items() if name != "simulated"}


__all__ = ["ACCOUNT", "KEYS", "MACHINE", "REGION", "documents", "on_ec2", "rules"]
