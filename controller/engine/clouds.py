"""Which Clouds are bound to which account, and what is seen there: drivers, shared inventories, machines without an Instance.

The reconciler of Clouds binds and unbinds; all others ask. Whether a binding may be used is decided in the Cloud's plan.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from controller import errors
from controller.api.instance import Instance
from controller.engine.accounts import Accounts, cloud_of
from controller.engine.inventory import Inventory, Surroundings
from controller.engine.objects import Objects, key_of
from controller.ports import (
    Account,
    CloudDriver,
    CloudPlugin,
    Identity,
    Key,
    Machine,
    MachineId,
    MachineState,
    Now,
    Obj,
    Threads,
)
from controller.reconcilers.cloud.plan import Contact
from controller.reconcilers.instance.observed import BURNT

#: How many of those that wait for room look again when there is some: more than one, for it may be held back otherwise.
_WOKEN_FOR_ROOM = 10

TAG = "occopus.io/"
NAMESPACE_TAG = f"{TAG}namespace"
INFRASTRUCTURE_TAG = f"{TAG}infrastructure"
INFRASTRUCTURE_ID_TAG = f"{TAG}infrastructure-id"
SERVICE_TAG = f"{TAG}service"
IMPLEMENTATION_TAG = f"{TAG}implementation"
REVISION_TAG = f"{TAG}revision"
BATCH_TAG = f"{TAG}batch"
BATCH_SIZE_TAG = f"{TAG}batch-size"


def identity_of(instance: Instance) -> Identity:
    return Identity(instance.spec.batch.id, instance.spec.batch.index)


def cloud_key(instance: Instance) -> Key:
    return Key("Cloud", instance.metadata.namespace, instance.spec.implementation.cloud_ref.name)


@dataclass(frozen=True, slots=True)
class Binding:
    """One Cloud, opened: its driver and the inventory of its account."""

    plugin: CloudPlugin
    driver: CloudDriver
    inventory: Inventory

    @property
    def on_this_computer(self) -> bool:
        """Whether the cloud's endpoint is on loopback, as that of a test cloud is: its machines may be there too."""
        try:
            host = urlsplit(self.inventory.account.endpoint).hostname or ""
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


class Clouds:
    """All bindings, contacts and inventories of this process, and the index from identity to Instance."""

    def __init__(self, objects: Objects, threads: Threads, now: Now, wake: Callable[[Key], None], namespaces: tuple[str, ...] = ()) -> None:
        """`namespaces` are all whose Instances are in the cache; none means every one."""
        self.contacts: dict[Key, Contact] = {}
        self.wake_groups: Callable[[], None] = lambda: None
        #: What a list died of: a defect of ours, for which the process ends.
        self.died: asyncio.Queue[BaseException] = asyncio.Queue()
        self.accounts = Accounts(objects, self._accounts_moved)
        self._objects = objects
        self._wake = wake
        self._namespaces = namespaces
        self._bindings: dict[Key, Binding] = {}
        #: Clouds that cannot be used, as this process itself has found.
        self._refused: set[Key] = set()
        self._inventories: dict[Account, Inventory] = {}
        self._tasks: dict[Account, asyncio.Task[None]] = {}
        #: More than one Instance of an identity is a copy that somebody made; the first that was seen is woken.
        self._instances: dict[Identity, dict[Key, None]] = {}
        self._launched: dict[Key, dict[Identity, frozenset[Identity]]] = {}
        #: By Cloud and Instance: its identity and the id that it has recorded.
        self._recorded: dict[Key, dict[Key, tuple[Identity, MachineId]]] = {}
        self._waiting: dict[Key, None] = {}
        self._live: dict[Account, tuple[Inventory, int, set[Identity]]] = {}
        self._version = 0
        self._concern: tuple[object, ...] = ()
        self._suspects: tuple[object, tuple[tuple[Account, Machine], ...]] = (None, ())
        self._batches: tuple[object, frozenset[str]] = (None, frozenset())
        self._around = Surroundings(
            threads, now, self._recorded_in, self._owns, self.launched, self._others, self.doubt, self._wake_identity, wake, self._moved
        )
        objects.listen(self._index)

    def binding(self, key: Key) -> Binding | None:
        return self._bindings.get(key)

    def instance(self, identity: Identity) -> Key | None:
        """The Instance of a machine."""
        return next(iter(self._instances.get(identity, ())), None)

    def rivals(self, identity: Identity, key: Key) -> tuple[Instance, ...]:
        """Other Instances of that identity that stay: copies, as a restore beside the original makes them.

        One that is known to be of another account can never have the machine, and is none.
        """
        others = [each for each in self._instances.get(identity, ()) if each != key and self.accounts.same(key, each) is not False]
        found = (self._objects.model(each, Instance) for each in others)
        return tuple(each for each in found if each is not None and not each.metadata.deleting)

    def batches(self) -> frozenset[str]:
        """The batches of which any machine is listed; computed once per change of a list."""
        versions = self._versions()
        if self._batches[0] != versions:
            found = {machine.identity.batch_id for each in self._inventories.values() for machine in each.machines.values()}
            self._batches = (versions, frozenset(found))
        return self._batches[1]

    def bindings(self) -> Iterator[tuple[Key, Binding]]:
        yield from sorted(self._bindings.items(), key=lambda each: each[0])

    def bind(self, key: Key, plugin: CloudPlugin, driver: CloudDriver, account: Account) -> None:
        """Let the Cloud use this driver for this account; its inventory starts, or goes on with the new credentials."""
        inventory = self._inventories.get(account)
        if inventory is None:
            inventory = self._inventories[account] = Inventory(account, driver, self._around)
            task = asyncio.get_running_loop().create_task(inventory.run(), name=f"inventory {account.kind} {account.id}")
            task.add_done_callback(self._ended)
            self._tasks[account] = task
        inventory.use(driver)
        self._refused.discard(key)
        self._bindings[key] = Binding(plugin, driver, inventory)
        if inventory.listed is not None:
            self._moved(account, True)

    def refuse(self, key: Key) -> None:
        """The Cloud cannot be used: it is let go of, and nobody waits for its machines to be seen."""
        self.unbind(key)
        self.not_awaited(key)

    def not_awaited(self, key: Key) -> None:
        """Nobody waits for the machines of this Cloud to be seen for the first time."""
        if key not in self._refused and key not in self._bindings:
            self._refused.add(key)
            self.wake_groups()

    def forget(self, key: Key) -> None:
        """There is no such Cloud any more."""
        self.unbind(key)
        self._refused.discard(key)
        self.contacts.pop(key, None)

    def is_unasked(self, key: Key) -> bool:
        """Whether the Cloud's first answer to this process is still awaited: of what machines it has, or why it cannot be used."""
        binding = self._bindings.get(key)
        if binding is not None:
            return binding.inventory.listed is None and binding.inventory.trouble is None
        contact = self.contacts.get(key)
        return key not in self._refused and (contact is None or contact.account is not None)

    def is_unseen(self, key: Key) -> bool:
        """Whether no list of the Cloud's was ever seen by this process, though it may be used: what machines it has is not known."""
        binding = self._bindings.get(key)
        if binding is None:
            return key not in self._refused
        return binding.inventory.listed is None and not isinstance(binding.inventory.trouble, errors.Denied)

    def unbind(self, key: Key) -> None:
        """Let go of the Cloud; an inventory that no Cloud uses ends."""
        gone = self._bindings.pop(key, None)
        if gone is None:
            return
        if any(each.inventory is gone.inventory for each in self._bindings.values()):
            if gone.inventory.driver is gone.driver:
                gone.inventory.use(self._others(gone.inventory.account, gone.driver)[0])
            return
        self._tasks.pop(gone.inventory.account).cancel()
        del self._inventories[gone.inventory.account]
        self._live.pop(gone.inventory.account, None)

    def suspects(self) -> tuple[tuple[Account, Machine], ...]:
        """Live machines of ours that no Instance claims; computed once per change of either side.

        None of a namespace whose Instances are not in the cache (design section 5, rule 7).
        """
        versions = (self._version, self._versions())
        if self._suspects[0] != versions:
            # By whatever Cloud: one of the same account may not be bound at this moment.
            recorded = {id for some in self._recorded.values() for _, id in some.values()}
            found = tuple(
                (account, machine)
                for account, inventory in sorted(self._inventories.items(), key=lambda each: str(each[0]))
                for machine in sorted(inventory.machines.values(), key=lambda each: each.id)
                if machine.ours
                and (not self._namespaces or machine.tags.get(NAMESPACE_TAG) in self._namespaces)
                and machine.state is not MachineState.TERMINATED
                and machine.id not in recorded
                and not self._is_claimed(machine.identity, account)
            )
            self._suspects = (versions, found)
        return self._suspects[1]

    def _is_claimed(self, identity: Identity, account: Account) -> bool:
        found = (self._objects.get(key) for key in self._instances.get(identity, ()))
        return any(each is not None and self.accounts.may_be(each, account) for each in found)

    def _versions(self) -> object:
        """Equal as long as all lists are. An account that is let go of and another one may be of as many changes."""
        return tuple((each, each.version) for each in self._inventories.values())

    def live(self, account: Account) -> set[Identity]:
        """Identities of the account's live machines; computed once per change of the list."""
        inventory = self._inventories.get(account)
        if inventory is None:
            return set()
        kept = self._live.get(account)
        if kept is None or kept[0] is not inventory or kept[1] != inventory.version:
            found = {each.identity for each in inventory.machines.values() if each.state is not MachineState.TERMINATED}
            kept = self._live[account] = (inventory, inventory.version, found)
        return kept[2]

    def launched(self, account: Account) -> set[Identity]:
        """Identities of the account's Instances that were launched and are not known to have ended: no list may show them yet."""
        return set[Identity]().union(*(each for key in self._here(account) for each in self._launched.get(key, {}).values()))

    def launched_on(self, key: Key) -> tuple[Instance, ...]:
        """The Instances of a Cloud that were launched and are not known to have ended."""
        keys = (each for identity in self._launched.get(key, ()) for each in self._instances.get(identity, ()))
        found = (self._objects.model(each, Instance) for each in keys)
        return tuple(each for each in found if each is not None and cloud_key(each) == key)

    def wait_for_room(self, key: Key) -> None:
        """Wake that Instance, or group, when a machine counts no more against `Cloud.spec.maxInstances`."""
        if self._objects.get(key) is not None:
            self._waiting.setdefault(key)

    def inventories(self) -> Mapping[Account, Inventory]:
        return self._inventories

    async def close(self) -> None:
        """End all lists."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.died.put_nowait(error)

    # --- what the inventories are given
    def _recorded_in(self, account: Account) -> dict[MachineId, Identity]:
        """Which Instance has recorded an id; of an id that two have recorded the one of the lesser identity."""
        least: dict[MachineId, Identity] = {}
        for identity, id in (each for key in self._here(account) for each in self._recorded.get(key, {}).values()):
            least[id] = min(identity, least.get(id, identity))
        return least

    def _owns(self, identity: Identity, id: MachineId) -> bool:
        """Whether there is an Instance of that identity that has recorded that machine, or none; one that has ended counts."""
        found = (self._objects.get(key) for key in self._instances.get(identity, ()))
        return any(each.get("status", {}).get("machine", {}).get("id", id) == id for each in found if each is not None)

    def doubt(self, driver: CloudDriver) -> None:
        """A call by this driver was denied: let the Clouds that use it be asked who they are."""
        for key, each in self.bindings():
            contact = self.contacts.get(key)
            if each.driver is driver and contact is not None and not contact.doubted:
                self.contacts[key] = replace(contact, doubted=True)
                self._wake(key)

    def _others(self, account: Account, driver: CloudDriver) -> tuple[CloudDriver, ...]:
        """The drivers of the account's Clouds, in the order of their names, that of the Cloud after this one's first."""
        drivers = [each.driver for _, each in self.bindings() if each.inventory.account == account]
        after = next((number for number, each in enumerate(drivers, 1) if each is driver), 0)
        return (*drivers[after:], *drivers[:after])

    def _here(self, account: Account) -> set[Key]:
        return {key for key, binding in self._bindings.items() if binding.inventory.account == account}

    def _wake_identity(self, identity: Identity) -> None:
        for key in self._instances.get(identity, ()):
            self._wake(key)

    def _moved(self, account: Account, everybody: bool) -> None:
        here = self._here(account)
        for key in here:
            self._wake(key)
        if everybody:
            for instance in self._objects.models("Instance", Instance):
                if cloud_key(instance) in here:
                    self._wake(Key("Instance", instance.metadata.namespace, instance.metadata.name))
        concern = self._concern_of_groups()
        if everybody or concern != self._concern:
            self._concern = concern
            self.wake_groups()
            self._wake_for_room()  # a machine without an Instance may have ended

    def _concern_of_groups(self) -> tuple[object, ...]:
        """What groups read of the lists. All else reaches them through their Instances."""
        inventories = self._inventories.values()
        return (self.suspects(), *((str(each.trouble), each.duplicates()) for each in inventories))

    def _accounts_moved(self) -> None:
        """What an Instance may do about its machine depends on whether its copies are of the same account."""
        self._version += 1
        for identity in [each for each, keys in self._instances.items() if len(keys) > 1]:
            self._wake_identity(identity)

    def _index(self, old: Obj | None, new: Obj | None) -> None:
        if old is not None and new is None:
            self._waiting.pop(key_of(old), None)
        for obj, present in ((old, False), (new, True)):
            if obj is None or obj["kind"] != "Instance":
                continue
            batch = obj["spec"]["batch"]
            identity = Identity(batch["id"], batch["index"])
            key = Key("Instance", obj["metadata"].get("namespace", "default"), obj["metadata"]["name"])
            gone = not present and new is None
            self._count(obj, identity, present=present, gone=gone)
            if present or gone:
                self._note(key, obj, identity, gone=gone)
            known = self._instances.get(identity, {})
            if present and key not in known:
                self._instances.setdefault(identity, {})[key] = None
                self._version += 1
            elif not present and new is None and key in known:
                del known[key]
                if not known:
                    del self._instances[identity]
                self._version += 1
            if gone or (present and old is not None and _is_marked(obj) and not _is_marked(old)):
                self._wake_identity(identity)  # its copies may be free to act

    def _count(self, instance: Obj, identity: Identity, *, present: bool, gone: bool) -> None:
        if not (present or gone):
            return
        counted = self._launched.setdefault(cloud_of(instance), {})
        before, now = counted.pop(identity, frozenset[Identity]()), _counts(instance) if present else frozenset[Identity]()
        if now:
            counted[identity] = now
        elif not counted:
            del self._launched[cloud_of(instance)]
        if before - now:
            self._wake_for_room()

    def _wake_for_room(self) -> None:
        for key in list(self._waiting)[:_WOKEN_FOR_ROOM]:
            del self._waiting[key]
            self._wake(key)

    def _note(self, key: Key, instance: Obj, identity: Identity, *, gone: bool) -> None:
        """Keep which ids Instances have recorded whose end no list has shown, or still has to prove.

        A deleting one waits for the proof, and its cloud may have forgotten by then what it had shown as terminated.
        """
        recorded = self._recorded.get(cloud_of(instance), {})
        machine: Obj = instance.get("status", {}).get("machine", {})
        over = machine.get("state") == MachineState.TERMINATED.value and not _is_marked(instance)
        entry = (identity, MachineId(machine["id"])) if machine and not over and not gone else None
        if recorded.get(key) == entry:
            return
        self._version += 1
        if entry is not None:
            self._recorded.setdefault(cloud_of(instance), {})[key] = entry
        elif len(recorded) > 1:
            del recorded[key]
        else:
            del self._recorded[cloud_of(instance)]


def _is_marked(obj: Obj) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def _counts(instance: Obj) -> frozenset[Identity]:
    """Which machines may live by the Instance's own status: of a first member whose outcome is not known all that it launched."""
    status: Obj = instance.get("status", {})
    said = next((each["reason"] for each in status.get("conditions", ()) if each["type"] == "Launched"), "")
    ended = status.get("machine", {}).get("state") in (MachineState.TERMINATED.value, "missing")
    if "launch" not in status or ended or said in BURNT:
        return frozenset()
    batch = instance["spec"]["batch"]
    whole = batch["index"] == 0 and "machine" not in status
    return frozenset(Identity(batch["id"], index) for index in (range(batch["size"]) if whole else (batch["index"],)))
