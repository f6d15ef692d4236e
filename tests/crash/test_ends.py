"""What is left of a run is told without what the garbage collector is yet to take."""

from __future__ import annotations

from controller.ports import Obj
from tests.crash.ends import without_garbage


def _object(uid: str, *owners: str) -> Obj:
    return {"kind": "ControllerRevision", "metadata": {"name": uid, "uid": uid, "ownerReferences": [{"uid": owner} for owner in owners]}}


def test_what_nobody_there_owns_is_garbage() -> None:
    group, kept, garbage, own = _object("group"), _object("kept", "group"), _object("garbage", "gone"), _object("own")
    assert without_garbage([group, kept, garbage, own]) == [group, kept, own]


def test_what_one_of_its_owners_keeps_is_not() -> None:
    both = _object("both", "gone", "group")
    assert without_garbage([_object("group"), both]) == [_object("group"), both]
