"""What a machine's fields name, at EC2: every name becomes an id, and the zone is named.

`controller.clouds.ec2.driver` calls it, and passes in how it asks. A name that matches none or several is refused with what was
found: guessing would launch the wrong image, or another one tomorrow. The zone is always in the result, because a client
token counts in the zone that the call names (https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from controller import errors
from controller.clouds.ec2.access import Clients
from controller.clouds.ec2.fields import Ec2Image, Ec2Machine, Ec2RootVolume, Ec2SecurityGroup, Ec2Subnet

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, ImageTypeDef, SubnetTypeDef

_SHOWN = 5
T = TypeVar("T")
#: Makes one read: the call, and the key of the answer that holds what was found. Raises CloudError.
Ask = Callable[[Callable[[Clients], Any], str], Sequence[Any]]


class Names:
    """One resolution, at most four reads. See the module."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def resolve(self, wanted: Ec2Machine) -> Ec2Machine:
        """The same machine by ids alone, its zone and subnet named. Raises Invalid."""
        image = self._image(wanted.image)
        subnet = self._subnet(wanted)
        groups = self._groups(wanted.security_groups, subnet.get("VpcId", ""))
        if wanted.key_name is not None:
            self._check_key(wanted.key_name)
        return wanted.model_copy(
            update={
                "image": Ec2Image(id=image.get("ImageId")),
                "subnet": Ec2Subnet(id=subnet.get("SubnetId")),
                "zone": subnet.get("AvailabilityZone"),
                "security_groups": tuple(Ec2SecurityGroup(id=each) for each in groups),
                "root_volume": _root_volume(wanted, image),
            }
        )

    def _image(self, wanted: Ec2Image) -> ImageTypeDef:
        if wanted.id is not None:
            what, ids = f"image {wanted.id}", [wanted.id]
            found: Sequence[ImageTypeDef] = self._ask(lambda each: each.ec2.describe_images(ImageIds=ids, IncludeDeprecated=True), "Images")
        elif wanted.name is not None:
            what, owners = f"image named {wanted.name} of {wanted.owner or 'self'}", [wanted.owner or "self"]
            named = _filters(("name", [wanted.name]))
            # The filter takes wildcards, our field does not. An image that its owner has deprecated is launched all the same.
            answer: Sequence[ImageTypeDef] = self._ask(
                lambda each: each.ec2.describe_images(Owners=owners, Filters=named, IncludeDeprecated=True), "Images"
            )
            found = [each for each in answer if each.get("Name") == wanted.name]
        else:
            raise errors.Invalid("image", "neither id nor name is set")
        image = _one("image", what, found, lambda each: each.get("ImageId", ""))
        if image.get("State") != "available":
            raise errors.Invalid("image", f"{image.get('ImageId')} is {image.get('State')}, not available")
        return image

    def _subnet(self, wanted: Ec2Machine) -> SubnetTypeDef:
        subnet, zone = wanted.subnet, wanted.zone
        if subnet is None:
            return self._default_subnet(zone)
        if subnet.id is not None:
            what, filters = f"subnet {subnet.id}", _filters(("subnet-id", [subnet.id]))
        elif subnet.name is not None:
            what, filters = f"subnet with the tag Name={subnet.name}", _filters(("tag:Name", [subnet.name]))
        else:
            raise errors.Invalid("subnet", "neither id nor name is set")
        found = [each for each in self._subnets(filters) if subnet.name is None or _tag_name(each) == subnet.name]
        one = _one("subnet", what, found, lambda each: f"{each.get('SubnetId')} in {each.get('AvailabilityZone')}")
        if zone is not None and one.get("AvailabilityZone") != zone:
            raise errors.Invalid("zone", f"{one.get('SubnetId')} is in {one.get('AvailabilityZone')}, not in {zone}")
        return one

    def _default_subnet(self, zone: str | None) -> SubnetTypeDef:
        """That of the zone, or of the first zone that has one; an account has them in its default VPC alone."""
        where = [] if zone is None else [("availability-zone", [zone])]
        found = self._subnets(_filters(("default-for-az", ["true"]), *where))
        if not found:
            field, place = ("zone", f"{zone} has") if zone is not None else ("subnet", "the region has")
            raise errors.Invalid(field, f"{place} no default subnet: name a subnet")
        return min(found, key=lambda each: (each.get("AvailabilityZone", ""), each.get("SubnetId", "")))

    def _subnets(self, filters: Sequence[FilterTypeDef]) -> Sequence[SubnetTypeDef]:
        return self._ask(lambda each: each.ec2.describe_subnets(Filters=filters), "Subnets")

    def _groups(self, wanted: Sequence[Ec2SecurityGroup], vpc: str) -> Sequence[str]:
        """The ids, in the order given, each once."""
        by_id = self._find_groups("group-id", [each.id for each in wanted if each.id is not None], vpc)
        by_name = self._find_groups("group-name", [each.name for each in wanted if each.name is not None], vpc)
        ids: list[str] = []
        for each in wanted:
            if each.id is None and each.name is None:
                raise errors.Invalid("securityGroups", "neither id nor name is set")
            what = f"security group {each.id or each.name} in {vpc}"
            found = [id for id, name in (*by_id, *by_name) if each.id in (None, id) and each.name in (None, name)]
            ids.append(_one("securityGroups", what, sorted(set(found)), str))
        return tuple(dict.fromkeys(ids))

    def _find_groups(self, by: str, values: Sequence[str], vpc: str) -> list[tuple[str, str]]:
        if not values:
            return []
        filters = _filters((by, values), ("vpc-id", [vpc]))
        found = self._ask(lambda each: each.ec2.describe_security_groups(Filters=filters), "SecurityGroups")
        return [(each.get("GroupId", ""), each.get("GroupName", "")) for each in found]

    def _check_key(self, name: str) -> None:
        filters = _filters(("key-name", [name]))
        found = self._ask(lambda each: each.ec2.describe_key_pairs(Filters=filters), "KeyPairs")
        _one("keyName", f"key pair {name}", [each for each in found if each.get("KeyName") == name], str)


def _root_volume(wanted: Ec2Machine, image: ImageTypeDef) -> Ec2RootVolume | None:
    """With the device that the image boots from: a launch names a volume by it.

    Also where nothing is wanted of it: a launch that does not name it leaves it to the image whether it ends with the machine.
    """
    device = image.get("RootDeviceName", "")
    for each in wanted.volumes:
        if each.device == device:
            raise errors.Invalid("volumes", f"{device} is the image's root volume: see rootVolume")
    own = [each["Ebs"] for each in image.get("BlockDeviceMappings") or () if each.get("DeviceName") == device and "Ebs" in each]
    if wanted.root_volume is None and not own:
        return None  # It boots from no volume.
    root = wanted.root_volume or Ec2RootVolume()
    if not device or root.device not in (None, device):
        raise errors.Invalid("rootVolume", f"the image boots from {device or 'no volume of its own'}, not from {root.device}")
    least = next((each.get("VolumeSize") for each in own), None)
    if root.size_gib is not None and least is not None and root.size_gib < least:
        raise errors.Invalid("rootVolume", f"the image needs {least} GiB, more than {root.size_gib}")
    size = root.size_gib or least
    return root.model_copy(update={"device": device, "size_gib": size})


def _filters(*each: tuple[str, Sequence[str]]) -> list[FilterTypeDef]:
    return [{"Name": name, "Values": values} for name, values in each]


def _tag_name(subnet: SubnetTypeDef) -> str:
    return next((each.get("Value", "") for each in subnet.get("Tags", ()) if each.get("Key") == "Name"), "")


def _one(field: str, what: str, found: Sequence[T], shown: Callable[[T], str]) -> T:
    """The only one. Raises Invalid with what was found."""
    if not found:
        raise errors.Invalid(field, f"there is no {what}")
    if len(found) > 1:
        raise errors.Invalid(field, f"there are {len(found)} of {what}: {_some(map(shown, found))}; name one by id")
    return found[0]


def _some(found: Iterable[str]) -> str:
    every = sorted(found)
    return ", ".join(every[:_SHOWN]) + (f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else "")


__all__ = ["Ask", "Names"]
