"""Of which account each Instance is: that of its machine, by what its Cloud or its launch has recorded.

`Clouds` asks, of copies of an Instance and of machines that may be nobody's. It knows no binding: what is recorded is true while a
Cloud was not asked yet, too, and while it is refused.
"""

from __future__ import annotations

from collections.abc import Callable

from controller.engine.objects import Objects, key_of
from controller.ports import Account, Key, Obj


def cloud_of(instance: Obj) -> Key:
    return Key("Cloud", instance["metadata"].get("namespace", "default"), instance["spec"]["implementation"]["cloudRef"]["name"])


class Accounts:
    """What the objects have recorded."""

    def __init__(self, objects: Objects, moved: Callable[[], None]) -> None:
        """`moved` is told when it may be another one for any Instance."""
        self._objects = objects
        self._moved = moved
        self._by_cloud: dict[Key, Account] = {}
        objects.listen(self._index)

    def may_be(self, instance: Obj, account: Account) -> bool:
        """Whether the Instance is of this account, or nobody knows."""
        return self._of(instance) in (None, account)

    def same(self, one: Key, other: Key) -> bool | None:
        """Whether two Instances are of one account; None where that is not known."""
        first, second = self._objects.get(one), self._objects.get(other)
        if first is None or second is None:
            return None
        if cloud_of(first) == cloud_of(second):
            return True
        accounts = (self._of(first), self._of(second))
        return None if None in accounts else accounts[0] == accounts[1]

    def has_none(self, key: Key) -> bool:
        """Whether the Instance was never launched and has no Cloud: then it has no machine, as far as anything says so, and gets none."""
        instance = self._objects.get(key)
        return instance is None or ("launch" not in instance.get("status", {}) and self._objects.get(cloud_of(instance)) is None)

    def _of(self, instance: Obj) -> Account | None:
        return self._by_cloud.get(cloud_of(instance)) or _recorded(instance.get("status", {}).get("launch", {}))

    def _index(self, old: Obj | None, new: Obj | None) -> None:
        cloud = new if new is not None else old
        if cloud is None or cloud["kind"] != "Cloud":
            return
        key, account = key_of(cloud), _recorded(new.get("status", {})) if new is not None else None
        before = self._by_cloud.pop(key, None)
        if account is not None:
            self._by_cloud[key] = account
        if before != account or old is None or new is None:
            self._moved()


def _recorded(part: Obj) -> Account | None:
    said: dict[str, str] | None = part.get("account")
    return Account(said["kind"], said["id"], said.get("region", ""), said.get("endpoint", "")) if said else None


__all__ = ["Accounts", "cloud_of"]
