"""The cut description of EC2's API: a machine reads the same by it as by the whole one, and nothing else is kept."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest
from botocore import model, parsers

from controller.clouds.ec2 import access, description, instances
from controller.clouds.ec2.access import Access

#: All that EC2 shows of an instance with two interfaces, as its reference has it, shortened where nobody reads it.
ANSWER = b"""<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId><reservationSet><item>
<reservationId>r-1</reservationId><ownerId>111122223333</ownerId><groupSet/><instancesSet><item>
<instanceId>i-0123456789abcdef0</instanceId><imageId>ami-1</imageId><instanceState><code>48</code><name>terminated</name></instanceState>
<privateDnsName>ip-10-0-0-4</privateDnsName><amiLaunchIndex>7</amiLaunchIndex><productCodes/><instanceType>t3.small</instanceType>
<launchTime>2026-11-24T10:00:00.000Z</launchTime><placement><availabilityZone>eu-west-1a</availabilityZone></placement>
<stateReason><code>Server.SpotInstanceTermination</code><message>Server.SpotInstanceTermination: taken back</message></stateReason>
<privateIpAddress>10.0.0.4</privateIpAddress><ipAddress>203.0.113.4</ipAddress>
<tagSet><item><key>occopus.io/batch</key><value>batch-1</value></item><item><key>Name</key><value>web-7</value></item></tagSet>
<networkInterfaceSet><item><networkInterfaceId>eni-2</networkInterfaceId><privateIpAddress>10.0.1.9</privateIpAddress>
<attachment><attachmentId>a-2</attachmentId><deviceIndex>1</deviceIndex></attachment><privateIpAddressesSet/>
<association><publicIp>203.0.113.9</publicIp></association></item>
<item><networkInterfaceId>eni-1</networkInterfaceId><attachment><deviceIndex>0</deviceIndex></attachment><privateIpAddressesSet>
<item><privateIpAddress>10.0.0.4</privateIpAddress><primary>true</primary><association><publicIp>203.0.113.4</publicIp></association></item>
<item><privateIpAddress>10.0.0.5</privateIpAddress><association><publicIp>203.0.113.5</publicIp></association></item>
</privateIpAddressesSet></item></networkInterfaceSet>
</item></instancesSet></item></reservationSet></DescribeInstancesResponse>"""


def _whole() -> model.ServiceModel:
    loader: Any = botocore.session.get_session().get_component("data_loader")
    return model.ServiceModel(loader.load_service_model("ec2", "service-2"), "ec2")


def _cut() -> model.ServiceModel:
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    return access.clients(Access("eu-west-1", "http://127.0.0.1:9", keys)).ec2.meta.service_model


def _instance(service: model.ServiceModel) -> dict[str, Any]:
    response: Any = {"status_code": 200, "headers": {}, "body": ANSWER}
    parser = parsers.create_parser("ec2")
    shape: Any = service.operation_model("DescribeInstances").output_shape
    answer: dict[str, Any] = parser.parse(response, shape)
    return answer["Reservations"][0]["Instances"][0]


def test_a_machine_reads_the_same_by_the_cut_description() -> None:
    whole, cut = _instance(_whole()), _instance(_cut())
    machine = instances.machine(cut)
    assert machine == instances.machine(whole)
    assert (machine.identity.index, machine.private_addresses, machine.public_addresses, machine.message) == (
        7,
        ("10.0.0.4", "10.0.0.5", "10.0.1.9"),
        ("203.0.113.4", "203.0.113.5", "203.0.113.9"),
        "Server.SpotInstanceTermination: taken back",
    )
    assert set(cut) == set(description.READ["Instance"]), "the answer above shows all that is read, and the rest is not parsed"
    assert set(cut) < set(whole)


def test_the_drivers_clients_alone_have_the_cut_one() -> None:
    assert sorted(_cut().operation_names) == sorted(description.CALLS)
    assert len(_whole().operation_names) > 100


def test_a_description_that_lacks_what_is_read_is_refused() -> None:
    loader: Any = botocore.session.get_session().get_component("data_loader")
    whole = loader.load_service_model("ec2", "service-2")
    del whole["shapes"]["Instance"]["members"]["AmiLaunchIndex"]
    with pytest.raises(KeyError):
        description.cut(whole)
