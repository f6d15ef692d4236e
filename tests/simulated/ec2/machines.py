"""The actions on instances, except how one is launched: which are seen, in what pages, and how they end.

Documents: DescribeInstances, TerminateInstances and GetConsoleOutput in the API reference
(https://docs.aws.amazon.com/AWSEC2/latest/APIReference/); "Eventual consistency in the Amazon EC2 API"
(https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from controller.ports import MachineId
from tests.simulated.ec2 import launch, pages
from tests.simulated.ec2.asked import Action, Asked, Done, Page, action
from tests.simulated.ec2.filters import Properties, passing
from tests.simulated.ec2.fragments import Fragments, launch_of, state, tags_at
from tests.simulated.ec2.launch import Launch
from tests.simulated.ec2.refusals import Refusal, invalid
from tests.simulated.ec2.xml import collection, element
from tests.simulated.world import SimulatedMachine

_ID = re.compile(r"i-[0-9a-f]{8}([0-9a-f]{9})?")
#: "Up to 1000 instance IDs."
TERMINATE_MOST = 1000
#: CreateTags with this tag is no tag of the machine's but says what it answers at its own port: a word of `Page`.
PAGE_TAG = "light-ec2/page"


@dataclass(frozen=True, slots=True)
class Seen:
    """A machine as a read shows it: as it was at a moment, and what it was launched as."""

    machine: SimulatedMachine
    launch: Launch
    at: float
    asked: Asked

    def tags(self) -> dict[str, str]:
        return tags_at(self.machine, self.at, self.asked)


FILTERS: Properties[Seen] = {
    "instance-id": lambda seen: [seen.machine.id],
    "instance-state-name": lambda seen: [state(seen.machine, seen.at)[1]],
    "instance-state-code": lambda seen: [str(state(seen.machine, seen.at)[0])],
    "client-token": lambda seen: [seen.launch.token],
    "subnet-id": lambda seen: [seen.launch.subnet.id],
    "vpc-id": lambda seen: [seen.launch.subnet.vpc],
    "availability-zone": lambda seen: [seen.asked.zone(seen.launch.subnet.letter)],
    "image-id": lambda seen: [seen.launch.image.id],
    "instance-type": lambda seen: [seen.launch.type],
    "instance-lifecycle": lambda seen: ["spot"] if seen.launch.spot else [],
    "key-name": lambda seen: [seen.launch.key_name] if seen.launch.key_name else [],
    "launch-index": lambda seen: [str(seen.machine.identity.index)],
    "reservation-id": lambda seen: [seen.launch.reservation],
    "owner-id": lambda seen: [seen.asked.account[0]],
    "private-ip-address": lambda seen: [seen.machine.private_address],
    "instance.group-id": lambda seen: [each.id for each in seen.launch.groups],
    "instance.group-name": lambda seen: [each.name for each in seen.launch.groups],
}


def actions() -> dict[str, Action]:
    """The actions on instances, by name."""
    fragments = Fragments()
    return {
        "RunInstances": action(lambda asked: _run(asked, fragments), *launch.KNOWN),
        "DescribeInstances": action(lambda asked: _describe(asked, fragments), "InstanceId", "Filter", "MaxResults", "NextToken"),
        "TerminateInstances": action(_terminate, "InstanceId"),
        "GetConsoleOutput": action(_console, "InstanceId", "Latest"),
        "CreateTags": action(_create_tags, "ResourceId", "Tag"),
    }


def _run(asked: Asked, fragments: Fragments) -> Done:
    machines = launch.run_instances(asked)
    now = asked.world.clock()
    (reservation,) = _reservations(machines, asked, lambda each: fragments.of(each, now, asked))
    return Done(reservation, tuple(each.id for each in machines))


# --- reading --------------------------------------------------------------------------------------------------------
def _is_visible(machine: SimulatedMachine, asked: Asked) -> bool:
    settings, now = asked.world.settings, asked.world.clock()
    return machine.visible <= now and now - settings.lag_seconds < min(machine.ended + settings.shown_seconds, machine.forgotten)


def _describe(asked: Asked, fragments: Fragments) -> Done:
    named = asked.fields.values("InstanceId")
    if named and asked.fields.has("MaxResults"):
        raise Refusal("InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults")
    asked.refuse_dry_run()
    at = asked.world.clock() - asked.world.settings.lag_seconds
    ids, more = pages.cut(asked, lambda: [each.id for each in _found(asked, named, at)])
    machines = [asked.world.machines[MachineId(each)] for each in ids]
    reservations = _reservations(machines, asked, lambda each: fragments.of(each, at, asked))
    return Done(collection("reservationSet", reservations) + more, tuple(named))


def _found(asked: Asked, named: list[str], at: float) -> list[SimulatedMachine]:
    """The machines that the call is about."""
    among = _own(asked, named) if named else [each for each in asked.world.machines.values() if _is_visible(each, asked)]
    mine = [each for each in among if each.account == asked.account]
    if asked.fields.has("Filter"):
        passes = passing(asked.fields, FILTERS, Seen.tags)
        mine = [each for each in mine if passes(Seen(each, launch_of(each, asked.desk.catalogue), at, asked))]
    return mine if named else _falsified(asked, mine)


def _own(asked: Asked, ids: list[str]) -> list[SimulatedMachine]:
    """Those of the machines of these ids that the account owns: "an instance that you do not own … is not included"."""
    region = asked.account[1]
    return _named(asked, ids, lambda each: each.account[1] == region and _is_visible(each, asked))


def _falsified(asked: Asked, machines: list[SimulatedMachine]) -> list[SimulatedMachine]:
    """What a test commanded in place of the truth; machines that the World does not have cannot be shown."""
    world = asked.world
    if not world.answers:
        return machines
    shown = world.answers.pop(0)([each.shown(world.clock(), world.epoch) for each in machines])
    return [world.machines[each.id] for each in shown]


def _reservations(machines: list[SimulatedMachine], asked: Asked, fragment: Callable[[SimulatedMachine], str]) -> Iterable[str]:
    """The machines by the call that launched them. Of one call some may be on another page."""
    groups: dict[str, list[str]] = {}
    for each in machines:
        groups.setdefault(launch_of(each, asked.desk.catalogue).reservation, []).append(fragment(each))
    for reservation, items in groups.items():
        head = element("reservationId", reservation) + element("ownerId", asked.account[0])
        yield f"{head}<groupSet/>{collection('instancesSet', items)}"


def _named(asked: Asked, ids: list[str], known: Callable[[SimulatedMachine], bool]) -> list[SimulatedMachine]:
    """The machines of these ids. Raises Refusal for one that is malformed or unknown."""
    for id in ids:
        if not _ID.fullmatch(id):
            raise Refusal("InvalidInstanceID.Malformed", f'Invalid id: "{id}"')
    found = {id: asked.world.machines.get(MachineId(id)) for id in ids}
    machines = [each for each in found.values() if each is not None and known(each)]
    if len(machines) < len(found):
        missing = sorted(set(ids) - {each.id for each in machines})
        said = f"ID '{missing[0]}' does" if len(missing) == 1 else f"IDs '{', '.join(missing)}' do"
        raise Refusal("InvalidInstanceID.NotFound", f"The instance {said} not exist")
    return machines


def _console(asked: Asked) -> Done:
    (machine,) = _named(asked, [asked.fields.text("InstanceId")], lambda each: each.account == asked.account and _is_visible(each, asked))
    asked.refuse_dry_run()
    now = asked.world.clock()
    text = f"{machine.name} booted with {len(machine.user_data)} bytes of user data\n" if machine.running <= now else ""
    output = base64.b64encode(text.encode()).decode()
    stamp = asked.time(now).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return Done(element("instanceId", machine.id) + element("timestamp", stamp) + element("output", output), (machine.id,))


# --- changing -------------------------------------------------------------------------------------------------------
def _terminate(asked: Asked) -> Done:
    """All or none: "If you specify multiple instances and the request fails …, none of the instances are terminated"."""
    ids = asked.fields.values("InstanceId")
    if not ids:
        raise Refusal("InvalidParameterCombination", "No instances specified")
    if len(ids) > TERMINATE_MOST:
        raise invalid(f"At most {TERMINATE_MOST} instances can be terminated by one request")
    machines = _named(asked, ids, lambda each: _is_known(each, asked))
    asked.refuse_dry_run()
    asked.take_instances("TerminateInstances", len(machines))
    items: list[str] = []
    for each in machines:
        before = state(each, asked.world.clock())
        asked.world.terminate(each.id)
        after = state(each, asked.world.clock())
        items.append(element("instanceId", each.id) + _change("currentState", after) + _change("previousState", before))
    return Done(collection("instancesSet", items), tuple(each.id for each in machines))


def _is_known(machine: SimulatedMachine, asked: Asked) -> bool:
    """Whether a change may name it."""
    now = asked.world.clock()
    unseen = asked.desk.behaviour.mutations_lag and machine.visible > now
    return (
        machine.account == asked.account and not unseen and now < min(machine.ended + asked.world.settings.shown_seconds, machine.forgotten)
    )


def _change(name: str, stage: tuple[int, str]) -> str:
    return f"<{name}>{element('code', stage[0])}{element('name', stage[1])}</{name}>"


def _create_tags(asked: Asked) -> Done:
    machines = _named(asked, asked.fields.values("ResourceId"), lambda each: _is_known(each, asked))
    tags = {tag.text("Key"): tag.text("Value") for tag in asked.fields.items("Tag")}
    page = _page(tags.pop(PAGE_TAG)) if PAGE_TAG in tags else None
    asked.refuse_dry_run()
    for each in machines:
        each.tags |= tags
        if page is not None:
            asked.desk.behaviour.pages[each.id] = page
    return Done("<return>true</return>", tuple(each.id for each in machines))


def _page(word: str) -> Page:
    try:
        return Page(word)
    except ValueError:
        raise invalid(f"{PAGE_TAG} is none of {', '.join(each.value for each in Page)}") from None
