"""What an image or an account says by itself, and a launch must not leave to them; on the light EC2."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.simulated.ec2 import ec2_client
from tests.unit.clouds.ec2 import SPEC, Cloud, launch, served


@pytest.fixture
def cloud() -> Generator[Cloud]:
    with served() as each:
        yield each


def test_the_root_volume_ends_with_the_machine_though_the_image_keeps_it(cloud: Cloud) -> None:
    cloud.light.catalogue.image(SPEC["image"]["id"]).keeps_root = True
    launch(cloud.open(), count=2)
    (reservation,) = ec2_client(cloud.light).describe_instances()["Reservations"]
    volumes = [each for instance in reservation.get("Instances", ()) for each in instance.get("BlockDeviceMappings", ())]
    assert [(each.get("DeviceName"), each.get("Ebs", {}).get("DeleteOnTermination")) for each in volumes] == [("/dev/xvda", True)] * 2


def test_an_account_whose_machines_show_their_tags_in_their_metadata_launches(cloud: Cloud) -> None:
    cloud.light.behaviour.metadata_tags = "enabled"
    launch(cloud.open())
    (reservation,) = ec2_client(cloud.light).describe_instances()["Reservations"]
    options = [each.get("MetadataOptions", {}) for each in reservation.get("Instances", ())]
    assert [each.get("InstanceMetadataTags") for each in options] == ["disabled"]
