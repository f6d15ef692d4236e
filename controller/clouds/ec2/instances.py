"""How a launch is put to EC2, and how an instance of EC2's reads. Pure: no call is made here.

`controller.clouds.ec2.driver` makes the calls. Equal requests give equal parameters, to the byte: EC2 holds a client token against
all of them (https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING, Any

from controller import errors
from controller.clouds.ec2 import fields
from controller.clouds.ec2.fields import Ec2Machine
from controller.ports import CONTROLLER_TAG, Identity, Launched, LaunchRequest, Machine, MachineId, MachineState

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

#: The design's (section 6); EC2 itself takes as many as there is room for.
MOST = 100
USER_DATA_LIMIT_BYTES = 16 * 1024
_BATCH_TAG, _NAME_TAG = "occopus.io/batch", "Name"
#: "Up to 64 ASCII characters" of a client token.
_BATCH_ID = re.compile(r"[!-~]{1,64}")
#: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceState.html
_STATES = {
    "pending": MachineState.PENDING,
    "running": MachineState.RUNNING,
    "stopping": MachineState.STOPPING,
    "stopped": MachineState.STOPPED,
    "shutting-down": MachineState.SHUTTING_DOWN,
    "terminated": MachineState.TERMINATED,
}
#: EC2's words for all the others. One that EC2 adds is in whole lists alone.
NOT_RUNNING = [word for word, state in _STATES.items() if state is not MachineState.RUNNING]
#: Without tags, whatever the account's defaults or the image say: an instance that shows its tags in its metadata may have none with a
#: "/" in their keys, as all of ours (https://github.com/aws/karpenter-provider-aws/pull/7012).
_METADATA = {"HttpEndpoint": "enabled", "InstanceMetadataTags": "disabled"}
_ENDING = (MachineState.SHUTTING_DOWN, MachineState.TERMINATED)
_UP = (MachineState.PENDING, MachineState.RUNNING)


# --- a launch -------------------------------------------------------------------------------------------------------
def parameters(request: LaunchRequest, controller_id: str) -> dict[str, Any]:
    """Of RunInstances. Raises Invalid."""
    wanted = _checked(request, controller_id)
    count = len(request.names)
    tags = {**wanted.tags, **request.tags, _BATCH_TAG: request.batch_id, _NAME_TAG: common_name(request.names)}
    listed = [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
    found: dict[str, Any] = {
        "ClientToken": request.batch_id,
        "MinCount": count,
        "MaxCount": count,
        "ImageId": wanted.image.id,
        "InstanceType": wanted.instance_type,
        "Placement": {"AvailabilityZone": wanted.zone},
        "MetadataOptions": _metadata(wanted),
        "TagSpecifications": [{"ResourceType": each, "Tags": listed} for each in ("instance", "volume")],
        **_network(wanted),
    }
    if request.user_data:
        found["UserData"] = request.user_data
    if wanted.key_name is not None:
        found["KeyName"] = wanted.key_name
    if volumes := list(_volumes(wanted)):
        found["BlockDeviceMappings"] = volumes
    if wanted.iam_instance_profile is not None:
        name, arn = wanted.iam_instance_profile.name, wanted.iam_instance_profile.arn
        found["IamInstanceProfile"] = {"Name": name} if name is not None else {"Arn": arn}
    if wanted.spot is not None:
        price = {} if wanted.spot.max_price is None else {"MaxPrice": wanted.spot.max_price}
        options = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate", **price}
        found["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": options}
    return found


def _checked(request: LaunchRequest, controller_id: str) -> Ec2Machine:
    """The machine wanted, by ids. Raises Invalid: nothing that is wrong in itself is sent."""
    if not _BATCH_ID.fullmatch(request.batch_id):
        raise errors.Invalid("batch", "must be 1 to 64 ASCII characters")
    if not 1 <= len(request.names) <= MOST:
        raise errors.Invalid("names", f"must be between 1 and {MOST}")
    if request.tags.get(CONTROLLER_TAG) != controller_id:
        raise errors.Invalid("tags", f"{CONTROLLER_TAG} must be this controller's id")
    if len(request.user_data) > USER_DATA_LIMIT_BYTES:
        raise errors.Invalid("userData", f"is {len(request.user_data)} bytes, more than {USER_DATA_LIMIT_BYTES}")
    wanted = fields.machine(request.spec)
    if wanted.image.id is None:
        raise errors.Invalid("image", "is not resolved to an id")
    if wanted.subnet is None or wanted.subnet.id is None or wanted.zone is None:
        raise errors.Invalid("subnet", "is not resolved to an id and a zone")
    if any(each.id is None for each in wanted.security_groups):
        raise errors.Invalid("securityGroups", "are not resolved to ids")
    if wanted.root_volume is not None and wanted.root_volume.device is None:
        raise errors.Invalid("rootVolume", "is not resolved to a device")
    return wanted


def _network(wanted: Ec2Machine) -> dict[str, Any]:
    subnet = wanted.subnet.id if wanted.subnet is not None else None
    groups = [each.id for each in wanted.security_groups]
    if wanted.public_address is None:
        return {"SubnetId": subnet, **({"SecurityGroupIds": groups} if groups else {})}
    # EC2 takes the wish for an address at an interface alone, and then subnet and groups there too.
    face = {"DeviceIndex": 0, "SubnetId": subnet, "AssociatePublicIpAddress": wanted.public_address, "DeleteOnTermination": True}
    return {"NetworkInterfaces": [{**face, **({"Groups": groups} if groups else {})}]}


def _metadata(wanted: Ec2Machine) -> dict[str, Any]:
    hops = {} if wanted.imds_hop_limit is None else {"HttpPutResponseHopLimit": wanted.imds_hop_limit}
    return {**_METADATA, "HttpTokens": wanted.imds.lower(), **hops}


def _volumes(wanted: Ec2Machine) -> Iterator[dict[str, Any]]:
    """All of them end with the machine: nothing else would."""
    for each in (*([wanted.root_volume] if wanted.root_volume is not None else []), *wanted.volumes):
        asked = {
            **{"VolumeSize": each.size_gib, "VolumeType": each.type, "Iops": each.iops, "Throughput": each.throughput_mibps},
            **{"Encrypted": each.encrypted, "KmsKeyId": each.kms_key_id},
        }
        set_ones = {name: value for name, value in asked.items() if value is not None}
        yield {"DeviceName": each.device, "Ebs": {**set_ones, "DeleteOnTermination": True}}


def common_name(names: Sequence[str]) -> str:
    """What machines that share their tags are called: the name of all, else the group of their `<group>-<index>`."""
    if len(set(names)) == 1:
        return names[0]
    groups = {each.rpartition("-")[0] for each in names}
    return groups.pop() if len(groups) == 1 and "" not in groups else names[0]


def launched(answer: Mapping[str, Any], request: LaunchRequest) -> Launched:
    """The machines of an answer, by index. Raises Transient where it is none, TokenSpent where they are not all there any more.

    MinCount is MaxCount, so a first answer has as many as were asked for; one to the same request later may lack those that
    ended. The token says which batch they are, whatever their tags show: those may come late, and be taken away.
    """
    shown = map(machine, answer.get("Instances") or ())
    found = sorted(
        (replace(each, identity=Identity(request.batch_id, each.identity.index)) for each in shown), key=lambda each: each.identity
    )
    if not found:
        raise errors.Transient("EC2 answered the launch without a machine")
    ended = [each.id for each in found if each.state in _ENDING]
    if ended:
        raise errors.TokenSpent(f"{', '.join(ended)} of this token has ended")
    if [each.identity.index for each in found] != list(range(len(request.names))):
        raise errors.TokenSpent(f"this token names {len(found)} machines, and not the {len(request.names)} of this launch")
    return tuple(found)


# --- an instance ----------------------------------------------------------------------------------------------------
def machine(instance: InstanceTypeDef | Mapping[str, Any]) -> Machine:
    """What EC2 shows of one. Raises Transient where that is no instance."""
    id, state_text, index = instance.get("InstanceId"), (instance.get("State") or {}).get("Name"), instance.get("AmiLaunchIndex")
    if not id or not state_text or index is None:
        raise errors.Transient("EC2 showed an instance without its id, state or launch index")
    tags = {each.get("Key", ""): each.get("Value", "") for each in instance.get("Tags") or ()}
    state = _STATES.get(state_text, MachineState.UNKNOWN)
    private, public = _addresses(instance)
    return Machine(
        id=MachineId(id),
        # Where somebody took the tag away the id stands in: no Instance has such a batch, so the machine belongs to none.
        identity=Identity(tags.get(_BATCH_TAG) or id, index),
        name=tags.get(_NAME_TAG, ""),
        state=state,
        state_text=state_text,
        private_addresses=private,
        public_addresses=public,
        tags=tags,
        created=created.astimezone(UTC) if (created := instance.get("LaunchTime")) else None,
        message="" if state in _UP else (instance.get("StateReason") or {}).get("Message", ""),
    )


def _addresses(instance: InstanceTypeDef | Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Private and public IPv4 addresses, the first interface's first, each once."""
    private, public = [instance.get("PrivateIpAddress")], [instance.get("PublicIpAddress")]
    faces: Sequence[Any] = instance.get("NetworkInterfaces") or ()
    for face in sorted(faces, key=lambda each: each.get("Attachment", {}).get("DeviceIndex", 0)):
        for each in face.get("PrivateIpAddresses") or (face,):
            private.append(each.get("PrivateIpAddress"))
            public.append(each.get("Association", {}).get("PublicIp"))
    return _each_once(private), _each_once(public)


def _each_once(addresses: Sequence[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for each in addresses if each))


__all__ = ["MOST", "NOT_RUNNING", "USER_DATA_LIMIT_BYTES", "common_name", "launched", "machine", "parameters"]
