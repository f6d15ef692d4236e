"""How an instance looks in XML. Kept while nothing of it changes: a list of 1,000 is then one join.

Elements and their order follow the API's data types, https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html.
"""

from __future__ import annotations

from controller.ports import MachineState
from tests.simulated.ec2.asked import Asked
from tests.simulated.ec2.catalogue import Catalogue, Image
from tests.simulated.ec2.launch import Launch
from tests.simulated.ec2.xml import collection, element, flag, tag_set
from tests.simulated.world import NEVER, SimulatedMachine

#: EC2's number and word of each state. It has none for a fault: such a machine is one whose power is off.
STATES = {
    MachineState.PENDING: (0, "pending"),
    MachineState.RUNNING: (16, "running"),
    MachineState.SHUTTING_DOWN: (32, "shutting-down"),
    MachineState.TERMINATED: (48, "terminated"),
    MachineState.STOPPING: (64, "stopping"),
    MachineState.STOPPED: (80, "stopped"),
    MachineState.ERROR: (80, "stopped"),
}
USER_SHUTDOWN = "Client.UserInitiatedShutdown: User initiated shutdown"
_GOING = (MachineState.SHUTTING_DOWN, MachineState.TERMINATED, MachineState.STOPPING, MachineState.STOPPED, MachineState.ERROR)


def launch_of(machine: SimulatedMachine, catalogue: Catalogue) -> Launch:
    """What the machine was launched as; of one that no call made, something likely."""
    known = machine.spec.get("launch")
    if isinstance(known, Launch):
        return known
    image = catalogue.images[0] if catalogue.images else Image("ami-0a000000000000001", "unknown")
    return Launch(f"r-{machine.id}", "", image, machine.spec.get("size", "t3.small"), catalogue.default_subnet(), (), True)


def state(machine: SimulatedMachine, at: float) -> tuple[int, str]:
    """The machine's state in EC2's words."""
    code, word = STATES[machine.state(at)]
    return (code, machine.strange_state) if machine.strange_state else (code, word)


def tags_at(machine: SimulatedMachine, at: float, asked: Asked) -> dict[str, str]:
    """Its tags, as far as they have not faded."""
    return {} if machine.ended + asked.desk.behaviour.tags_fade_seconds <= at else machine.tags


class Fragments:
    """Instances in XML, each with what it was made of."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[object, str]] = {}

    def of(self, machine: SimulatedMachine, at: float, asked: Asked) -> str:
        """The machine as it was at that moment."""
        tags = tags_at(machine, at, asked)
        looks = (machine.state(at), machine.strange_state, machine.message, tuple(tags.items()))
        kept = self._kept.get(machine.id)
        if kept is None or kept[0] != looks:
            kept = self._kept[machine.id] = (looks, _instance(machine, at, asked, tags))
        return kept[1]


def _instance(machine: SimulatedMachine, at: float, asked: Asked, tags: dict[str, str]) -> str:
    launch = launch_of(machine, asked.desk.catalogue)
    stage = machine.state(at)
    code, word = state(machine, at)
    ended = stage is MachineState.TERMINATED
    private = "" if ended else machine.private_address
    public = machine.public_address if launch.public and not ended and stage in (MachineState.PENDING, MachineState.RUNNING) else ""
    parts = [
        element("instanceId", machine.id),
        element("imageId", launch.image.id),
        f"<instanceState>{element('code', code)}{element('name', word)}</instanceState>",
        element("privateDnsName", f"ip-{private.replace('.', '-')}.{asked.account[1]}.compute.internal" if private else ""),
        element("dnsName", f"ec2-{public.replace('.', '-')}.{asked.account[1]}.compute.amazonaws.com" if public else ""),
        *_reason(machine, stage, asked),
        element("keyName", launch.key_name) if launch.key_name else "",
        # Of spot machines no document says more than that there is one.
        element("amiLaunchIndex", 0 if launch.spot else machine.identity.index),
        "<productCodes/>",
        element("instanceType", launch.type),
        element("launchTime", asked.time(machine.created).strftime("%Y-%m-%dT%H:%M:%S.000Z")),
        f"<placement>{element('availabilityZone', asked.zone(launch.subnet.letter))}<groupName/><tenancy>default</tenancy></placement>",
        "<monitoring><state>disabled</state></monitoring>",
        _network(machine, launch, private, public, asked) if not ended else "",
        "<architecture>x86_64</architecture><rootDeviceType>ebs</rootDeviceType>",
        element("rootDeviceName", launch.image.root_device),
        _volumes(machine, launch) if not ended else "<blockDeviceMapping/>",
        "<virtualizationType>hvm</virtualizationType>",
        _spot(machine) if launch.spot else "",
        element("clientToken", launch.token),
        tag_set(tags),
        "<hypervisor>xen</hypervisor>",
        _profile(launch, asked),
        "<ebsOptimized>false</ebsOptimized><enaSupport>true</enaSupport>",
        f"<metadataOptions><state>applied</state>{element('httpTokens', launch.http_tokens)}"
        f"{element('httpPutResponseHopLimit', launch.hop_limit)}{element('httpEndpoint', launch.endpoint)}"
        f"{element('instanceMetadataTags', launch.metadata_tags)}</metadataOptions>",
    ]
    return "".join(parts)


def _reason(machine: SimulatedMachine, stage: MachineState, asked: Asked) -> list[str]:
    """Why it changed its state: in words of EC2's, or the message's own where it begins with such a code."""
    if stage not in _GOING:
        return ["<reason/>"]
    since = min(each for each in (machine.ending, machine.stopping, machine.stopped, machine.failed) if each != NEVER)
    told = machine.message if machine.message.startswith(("Server.", "Client.")) else ""
    told = told or (f"Server.InternalError: {machine.message}" if machine.message else USER_SHUTDOWN)
    code, _, _ = told.partition(":")
    said = f"User initiated ({asked.time(since):%Y-%m-%d %H:%M:%S} GMT)" if code.startswith("Client.User") else told
    return [element("reason", said), f"<stateReason>{element('code', code)}{element('message', told)}</stateReason>"]


def _network(machine: SimulatedMachine, launch: Launch, private: str, public: str, asked: Asked) -> str:
    groups = collection("groupSet", [element("groupId", each.id) + element("groupName", each.name) for each in launch.groups])
    association = f"<association>{element('publicIp', public)}<ipOwnerId>amazon</ipOwnerId></association>" if public else ""
    number = machine.id.removeprefix("i-")
    place = element("subnetId", launch.subnet.id) + element("vpcId", launch.subnet.vpc)
    face = (
        f"{element('networkInterfaceId', f'eni-{number}')}{place}{element('ownerId', asked.account[0])}<status>in-use</status>"
        f"{element('privateIpAddress', private)}<sourceDestCheck>true</sourceDestCheck>{groups}"
        f"<attachment>{element('attachmentId', f'eni-attach-{number}')}<deviceIndex>0</deviceIndex><status>attached</status>"
        f"<deleteOnTermination>true</deleteOnTermination></attachment>{association}"
    )
    addresses = element("privateIpAddress", private) + (element("ipAddress", public) if public else "")
    return f"{place}{addresses}<sourceDestCheck>true</sourceDestCheck>{groups}{collection('networkInterfaceSet', [face])}"


def _volumes(machine: SimulatedMachine, launch: Launch) -> str:
    number = machine.id.removeprefix("i-")
    return collection(
        "blockDeviceMapping",
        [
            f"{element('deviceName', each.device)}<ebs>{element('volumeId', f'vol-{number[2:]}{place:02x}')}<status>attached</status>"
            f"{flag('deleteOnTermination', each.delete)}</ebs>"
            for place, each in enumerate(launch.volumes)
        ],
    )


def _profile(launch: Launch, asked: Asked) -> str:
    if not launch.profile:
        return ""
    arn = launch.profile if launch.profile.startswith("arn:") else f"arn:aws:iam::{asked.account[0]}:instance-profile/{launch.profile}"
    return f"<iamInstanceProfile>{element('arn', arn)}<id>AIPA0000000000000001</id></iamInstanceProfile>"


def _spot(machine: SimulatedMachine) -> str:
    request = element("spotInstanceRequestId", f"sir-{machine.id[-8:]}")
    return f"<instanceLifecycle>spot</instanceLifecycle>{request}"
