"""How names become ids, and which are refused; on the light EC2's catalogue."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from controller import errors
from tests.simulated.ec2 import Garbage, Group, Image, Refusal, Subnet
from tests.unit.clouds.ec2 import ACCOUNT, SPEC, Cloud, served

_OWNER = "099720109477"
_BARE = {"image": {"id": "ami-0a000000000000001"}, "instanceType": "t3.small", "imds": "Required"}
#: The image's own, of which nothing was asked.
_ROOT = {"rootVolume": {"device": "/dev/xvda", "sizeGiB": 8}}
_FIRST = {"subnet": {"id": "subnet-0a000000000000001"}, "zone": "eu-west-1a"}


@pytest.fixture
def cloud() -> Generator[Cloud]:
    with served() as each:
        catalogue = each.light.catalogue
        catalogue.images.append(Image("ami-0a000000000000009", "twin"))
        catalogue.images.append(Image("ami-0a00000000000000a", "twin"))
        catalogue.images.append(Image("ami-0a00000000000000c", "own", owner=ACCOUNT[0]))
        catalogue.images.append(Image("ami-0a00000000000000d", "own"))
        catalogue.images.append(Image("ami-0a00000000000000e", "old", deprecated=True))
        catalogue.images.append(Image("ami-0a00000000000000b", "going", state="deregistered"))
        catalogue.subnets.append(Subnet("subnet-0a00000000000000c", "b", "10.1.0.0/20", vpc="vpc-other", tags={"Name": "two"}))
        catalogue.groups.append(Group("sg-0a000000000000003", "web", vpc="vpc-other"))
        catalogue.groups.append(Group("sg-0a000000000000004", "web*"))
        yield each


@pytest.mark.parametrize(
    ("spec", "resolved"),
    [
        pytest.param({}, {**_FIRST, **_ROOT}, id="nothing but image and type"),
        pytest.param({"image": {"name": "debian-12-amd64-20290101", "owner": _OWNER}}, _FIRST, id="image by name"),
        pytest.param(
            {"image": {"name": "al2023-ami-2029.0-x86_64", "owner": "amazon"}}, {"image": {"id": "ami-0a000000000000003"}}, id="alias"
        ),
        pytest.param({"image": {"name": "old", "owner": _OWNER}}, {"image": {"id": "ami-0a00000000000000e"}}, id="deprecated, by name"),
        pytest.param({"image": {"id": "ami-0a00000000000000e"}}, {"image": {"id": "ami-0a00000000000000e"}}, id="deprecated, by id"),
        pytest.param({"image": {"name": "own"}}, {"image": {"id": "ami-0a00000000000000c"}}, id="image of one's own"),
        pytest.param({"subnet": {"id": "subnet-0a000000000000003"}}, {"zone": "eu-west-1c"}, id="subnet by id"),
        pytest.param(
            {"subnet": {"name": "three"}, "zone": "eu-west-1c"},
            {"subnet": {"id": "subnet-0a000000000000003"}, "zone": "eu-west-1c"},
            id="subnet by name, and its zone",
        ),
        pytest.param({"zone": "eu-west-1b"}, {"subnet": {"id": "subnet-0a000000000000002"}, "zone": "eu-west-1b"}, id="a zone"),
        pytest.param(
            {"securityGroups": [{"name": "web"}, {"id": "sg-0a000000000000001"}, {"id": "sg-0a000000000000002"}]},
            {"securityGroups": [{"id": "sg-0a000000000000002"}, {"id": "sg-0a000000000000001"}]},
            id="groups, in order and once",
        ),
        pytest.param({"securityGroups": [{"name": "web*"}]}, {"securityGroups": [{"id": "sg-0a000000000000004"}]}, id="no wildcard"),
        pytest.param({"rootVolume": {"sizeGiB": 20}}, {"rootVolume": {"device": "/dev/xvda", "sizeGiB": 20}}, id="root volume"),
        pytest.param(
            {"rootVolume": {"encrypted": True}},
            {"rootVolume": {"device": "/dev/xvda", "sizeGiB": 8, "encrypted": True}},
            id="root volume of the image's size",
        ),
        pytest.param(
            {"volumes": [{"device": "/dev/sdf", "sizeGiB": 1}]},
            {"volumes": [{"device": "/dev/sdf", "sizeGiB": 1, "type": "gp3"}]},
            id="defaults are written out",
        ),
        pytest.param({"keyName": "admin"}, {"keyName": "admin"}, id="key"),
        pytest.param({"spot": {}, "tags": {}, "publicAddress": False}, {"spot": {}, "publicAddress": False}, id="empty and false"),
    ],
)
def test_a_spec_that_resolves(cloud: Cloud, spec: dict[str, Any], resolved: dict[str, Any]) -> None:
    driver = cloud.open()
    found = driver.resolve({**SPEC, **spec})
    assert {name: found[name] for name in resolved} == resolved
    assert set(found) == {*_BARE, *_FIRST, *_ROOT, *spec, *resolved} - {"tags"}
    assert driver.resolve(found) == found


@pytest.mark.parametrize(
    ("spec", "field", "told"),
    [
        pytest.param({"image": {"id": "ami-0123"}}, "image", "ami-0123", id="image"),
        pytest.param({"image": {"id": "ami-0a00000000000000b"}}, "image", "deregistered", id="image that is going"),
        pytest.param({"image": {"name": "debian", "owner": _OWNER}}, "image", "debian", id="no image of that name"),
        pytest.param({"image": {"name": "al2023*", "owner": "amazon"}}, "image", "al2023*", id="no wildcards"),
        pytest.param({"image": {"name": "debian-12-amd64-20290101"}}, "image", "self", id="another's image"),
        pytest.param(
            {"image": {"name": "twin", "owner": _OWNER}}, "image", "ami-0a000000000000009, ami-0a00000000000000a", id="two images"
        ),
        pytest.param({"image": {}}, "image", "", id="no image"),
        pytest.param({"subnet": {"id": "subnet-0123"}}, "subnet", "subnet-0123", id="subnet"),
        pytest.param({"subnet": {"name": "thr*"}}, "subnet", "thr*", id="no subnet of that name"),
        pytest.param({"subnet": {"name": "two"}}, "subnet", "subnet-0a00000000000000c in eu-west-1b", id="two subnets"),
        pytest.param({"subnet": {"name": "one"}, "zone": "eu-west-1b"}, "zone", "eu-west-1a", id="another zone"),
        pytest.param({"zone": "eu-west-1c"}, "zone", "eu-west-1c", id="a zone without default subnet"),
        pytest.param({"securityGroups": [{"name": "nix"}]}, "securityGroups", "nix", id="group"),
        pytest.param({"securityGroups": [{"id": "sg-0a000000000000003"}]}, "securityGroups", "sg-0a0", id="group of another VPC"),
        pytest.param({"securityGroups": [{"name": "web"}, {"id": None}]}, "securityGroups", "", id="no group"),
        pytest.param({"keyName": "nix"}, "keyName", "nix", id="key"),
        pytest.param({"image": {"name": "debian", "owner": "canonical"}}, "image", "canonical", id="no such owner"),
        pytest.param({"rootVolume": {"sizeGiB": 7}}, "rootVolume", "8 GiB", id="smaller than the image"),
        pytest.param({"rootVolume": {"device": "/dev/sda1"}}, "rootVolume", "/dev/xvda", id="another root device"),
        pytest.param({"volumes": [{"device": "/dev/xvda", "sizeGiB": 1}]}, "volumes", "/dev/xvda", id="the root device twice"),
        pytest.param({"instanceType": None}, "instanceType", "", id="a field that is wrong in itself"),
    ],
)
def test_a_spec_that_does_not(cloud: Cloud, spec: dict[str, Any], field: str, told: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        cloud.open().resolve({**SPEC, **spec})
    assert caught.value.field == field
    assert told in caught.value.why


def test_without_a_default_vpc_a_subnet_must_be_named(cloud: Cloud) -> None:
    for each in cloud.light.catalogue.subnets:
        each.default = False
    with pytest.raises(errors.Invalid) as caught:
        cloud.open().resolve(SPEC)
    assert caught.value.field == "subnet"


def test_a_name_that_comes_to_match_elsewhere_moves_nothing(cloud: Cloud) -> None:
    driver = cloud.open()
    found = driver.resolve({**SPEC, "subnet": {"name": "three"}})
    for each in cloud.light.catalogue.subnets:
        each.tags["Name"] = "three" if each.letter == "a" else "else"
    assert driver.resolve(found) == found
    assert driver.resolve({**SPEC, "subnet": {"name": "three"}}) != found


def test_an_image_without_a_volume_of_its_own_is_launched_as_it_is(cloud: Cloud) -> None:
    cloud.light.catalogue.image(SPEC["image"]["id"]).root_device = ""
    assert "rootVolume" not in cloud.open().resolve(SPEC)


def test_a_resolution_is_four_reads_at_most(cloud: Cloud) -> None:
    cloud.open().resolve({**SPEC, "keyName": "admin", "securityGroups": [{"name": "web"}]})
    assert len(cloud.world.ledger) == 4


@pytest.mark.parametrize(
    "action", [pytest.param(f"Describe{each}", id=each) for each in ("Images", "Subnets", "SecurityGroups", "KeyPairs")]
)
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(Garbage(), errors.Transient, id="a page of a web server"),
        pytest.param(Refusal("UnauthorizedOperation", status=403), errors.Denied, id="denied"),
        pytest.param(Refusal("RequestLimitExceeded", status=503), errors.Throttled, id="throttled"),
    ],
)
def test_what_could_not_be_asked_is_not_invalid(
    cloud: Cloud, action: str, answer: errors.CloudError, kind: type[errors.CloudError]
) -> None:
    cloud.world.fail(action, answer, times=2)
    with pytest.raises(errors.CloudError) as caught:
        cloud.open().resolve({**SPEC, "keyName": "admin", "securityGroups": [{"name": "web"}]})
    assert type(caught.value) is kind
