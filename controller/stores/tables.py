"""The tables of the state file and what happens in them: the rules of the Kubernetes API that the reconcilers rely on.

Every method that writes is called inside a transaction by `controller.stores.sqlite`, every one that reads outside or
inside. It decides versions, generations, deletion and what falls with it; whether an object is good is
`controller.stores.rules`' matter, and files, threads and locks are no matter of its.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Literal, cast

from controller import errors
from controller.api import kinds
from controller.api.meta import API_VERSION
from controller.ports import Change, Changed, Event, Gone, Key, Now, Obj, Snapshot
from controller.stores import merge
from controller.stores.rules import Rules

#: How many changes are kept for watchers; one that has slept longer gets a new snapshot.
CHANGES_KEPT = 10_000
#: How many events are kept, the latest (design section 4).
EVENTS_KEPT = 1_000
#: Old changes are cleared once in so many.
_CLEAR_EVERY = 256
NAMESPACE = "default"

_TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    # `version` is the sequence number of the object's last change, its resourceVersion.
    "CREATE TABLE objects (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,"
    " uid TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, body TEXT NOT NULL, UNIQUE (kind, namespace, name))",
    # What objects are found by: `label <key>=<value>`, `owner <uid>`.
    "CREATE TABLE terms (term TEXT NOT NULL, object INTEGER NOT NULL, PRIMARY KEY (term, object)) WITHOUT ROWID",
    "CREATE INDEX terms_object ON terms (object)",
    # `gone` is the object as it last was, where the change is its end.
    "CREATE TABLE changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,"
    " gone TEXT)",
    "CREATE TABLE events (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL,"
    " type TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL, count INTEGER NOT NULL, first TEXT NOT NULL, last TEXT NOT NULL,"
    " UNIQUE (kind, namespace, name, uid, type, reason, message))",
    "CREATE INDEX events_last ON events (last, id)",
)
_OWNED_BY_STORE = ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
_FIXED = ("name", "namespace", "uid")


def make(connection: sqlite3.Connection) -> None:
    """The empty tables of a new file."""
    for statement in _TABLES:
        connection.execute(statement)


def meta(connection: sqlite3.Connection, key: str) -> str | None:
    """A fact about the file itself."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def set_meta(connection: sqlite3.Connection, key: str, value: str) -> None:
    connection.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value))


@dataclass(frozen=True, slots=True)
class _Row:
    id: int
    key: Key
    obj: Obj

    @property
    def metadata(self) -> dict[str, Any]:
        return self.obj["metadata"]


class Tables:
    """The tables as seen through one connection."""

    def __init__(self, connection: sqlite3.Connection, rules: Rules, now: Now) -> None:
        self._connection = connection
        self._rules = rules
        self._now = now

    # --- reading ----------------------------------------------------------------------------------------------------
    def get(self, key: Key) -> Obj:
        return self._row(key).obj

    def list(self, kind: str, namespace: str | None, labels: Mapping[str, str] | None) -> list[Obj]:
        """All objects of a kind, by name; events oldest first."""
        if kind == "Event":
            return [] if labels else [each for each in self._events() if namespace in (None, each["metadata"]["namespace"])]
        query, values = "SELECT body FROM objects WHERE kind = ?", [kind]
        if namespace is not None:
            query, values = f"{query} AND namespace = ?", [*values, namespace]
        for key, value in (labels or {}).items():
            query, values = f"{query} AND id IN (SELECT object FROM terms WHERE term = ?)", [*values, f"label {key}={value}"]
        return [json.loads(body) for (body,) in self._connection.execute(f"{query} ORDER BY namespace, name", values)]

    def snapshot(self) -> tuple[Snapshot, int]:
        """Every object, and the sequence number they stand at."""
        self._connection.execute("BEGIN")
        try:
            rows = self._connection.execute("SELECT body FROM objects ORDER BY kind, namespace, name").fetchall()
            return Snapshot(tuple(json.loads(body) for (body,) in rows)), self._last()
        finally:
            self._connection.execute("COMMIT")

    def changes(self, since: int) -> tuple[list[Change], int] | None:
        """What has changed after `since`, and the number reached; None where that is no longer known.

        Of an object that changed more than once the newest change stands for those before it.
        """
        first, last = self._connection.execute("SELECT min(seq), max(seq) FROM changes").fetchone()
        if (last or 0) == since:
            return [], since
        if first is None or since < first - 1 or since > last:
            return None
        query = (
            "SELECT changes.seq, changes.gone, objects.body FROM changes LEFT JOIN objects ON changes.gone IS NULL"
            " AND objects.kind = changes.kind AND objects.namespace = changes.namespace AND objects.name = changes.name"
            " AND objects.version = changes.seq WHERE changes.seq > ? ORDER BY changes.seq"
        )
        found: list[Change] = []
        for seq, gone, body in self._connection.execute(query, (since,)):
            since = seq
            if gone is not None:
                found.append(Gone(json.loads(gone)))
            elif body is not None:
                found.append(Changed(json.loads(body)))
        return found, since

    # --- writing ----------------------------------------------------------------------------------------------------
    def create(self, obj: Obj) -> Obj:
        made = {key: value for key, value in obj.items() if key != "status" or not _has_status(obj.get("kind"))}
        given: Any = made.get("metadata")
        if isinstance(given, dict):
            entered = {key: value for key, value in cast(dict[str, Any], given).items() if key not in _OWNED_BY_STORE}
            made["metadata"] = _tidy({**entered, "namespace": entered.get("namespace") or NAMESPACE})
        made = dict(self._rules.check(made))
        metadata: dict[str, Any] = made["metadata"]
        key = Key(made["kind"], metadata["namespace"], metadata["name"])
        if key.namespace != NAMESPACE:
            raise _rejected(key, "metadata.namespace", f'Invalid value: "{key.namespace}": a state file has the one namespace {NAMESPACE}')
        if self._connection.execute("SELECT 1 FROM objects WHERE kind = ? AND namespace = ? AND name = ?", _columns(key)).fetchone():
            raise errors.AlreadyExists(f"{key} exists already")
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": self._time()}
        if key.kind in kinds.BY_KIND:
            metadata["generation"] = 1
        version = self._change(key)
        metadata["resourceVersion"] = str(version)
        insert = "INSERT INTO objects (kind, namespace, name, uid, version, body) VALUES (?, ?, ?, ?, ?, ?)"
        cursor = self._connection.execute(insert, (*_columns(key), metadata["uid"], version, _text(made)))
        row = _Row(cast(int, cursor.lastrowid), key, made)
        self._index(row)
        created = merge.copied(made)
        if metadata.get("ownerReferences") and not self._has_owner(row):
            self._mark(row)  # what a server's garbage collector does with an object whose owners are gone
        return created

    def patch(self, key: Key, patch: Obj, version: str, subresource: Literal["", "status"]) -> Obj:
        row = self._row(key)
        old = self._rules.defaulted(row.obj)
        if old["metadata"]["resourceVersion"] != version:
            raise errors.Conflict(f"{key} has changed since version {version}: it is at {old['metadata']['resourceVersion']}")
        new = _status_patched(key, old, patch) if subresource else _main_patched(key, old, patch)
        new = self._rules.check(new, old)
        if merge.same(new, old):
            return old
        if key.kind in kinds.BY_KIND and not merge.same(_content(new), _content(old)):
            new["metadata"] = {**new["metadata"], "generation": new["metadata"]["generation"] + 1}
        changed = _Row(row.id, key, new)
        if "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers"):
            self._remove(changed)
        else:
            self._save(changed)
        return merge.copied(new)

    def delete(self, key: Key, uid: str, version: str | None) -> None:
        row = self._row(key)
        if row.metadata["uid"] != uid:
            raise errors.Conflict(f"{key} is another object now: its UID is {row.metadata['uid']}, not {uid}")
        if version is not None and row.metadata["resourceVersion"] != version:
            raise errors.Conflict(f"{key} has changed since version {version}: it is at {row.metadata['resourceVersion']}")
        self._mark(row)

    def record(self, event: Event) -> None:
        time = self._time()
        values = (*_columns(event.regarding), event.uid, event.type, event.reason, event.message, time, time)
        self._connection.execute(
            "INSERT INTO events (kind, namespace, name, uid, type, reason, message, count, first, last)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?)"
            " ON CONFLICT (kind, namespace, name, uid, type, reason, message) DO UPDATE SET count = count + 1, last = excluded.last",
            values,
        )
        surplus = "SELECT id FROM events ORDER BY last DESC, id DESC LIMIT -1 OFFSET ?"
        self._connection.execute(f"DELETE FROM events WHERE id IN ({surplus})", (EVENTS_KEPT,))

    # --- deletion ---------------------------------------------------------------------------------------------------
    def _mark(self, row: _Row) -> None:
        """Mark for deletion, once; what has no finalizers goes at once, and with it, by the same rule, what it owns."""
        if "deletionTimestamp" in row.metadata:
            return
        row.metadata["deletionTimestamp"] = self._time()
        if "generation" in row.metadata:
            row.metadata["generation"] += 1
        if row.metadata.get("finalizers"):
            self._save(row)
        else:
            self._remove(row)

    def _remove(self, row: _Row) -> None:
        going = deque((row,))
        while going:
            gone = going.popleft()
            self._connection.execute("DELETE FROM objects WHERE id = ?", (gone.id,))
            self._connection.execute("DELETE FROM terms WHERE object = ?", (gone.id,))
            gone.metadata["resourceVersion"] = str(self._change(gone.key))
            last = {key: value for key, value in gone.obj.items() if gone.key.kind != "Secret" or key != "data"}
            self._connection.execute("UPDATE changes SET gone = ? WHERE seq = ?", (_text(last), int(gone.metadata["resourceVersion"])))
            going.extend(self._orphaned(gone.metadata["uid"]))

    def _orphaned(self, uid: str) -> Iterator[_Row]:
        """What this owner leaves without any: marked, if finalizers hold it; else yielded, marked, to be removed."""
        query = "SELECT id, kind, namespace, name, body FROM objects WHERE id IN (SELECT object FROM terms WHERE term = ?) ORDER BY id"
        for row_id, kind, namespace, name, body in self._connection.execute(query, (f"owner {uid}",)).fetchall():
            row = _Row(row_id, Key(kind, namespace, name), json.loads(body))
            if self._has_owner(row) or "deletionTimestamp" in row.metadata:
                continue
            if row.metadata.get("finalizers"):
                self._mark(row)
            else:
                row.metadata["deletionTimestamp"] = self._time()
                yield row

    def _has_owner(self, row: _Row) -> bool:
        uids = [owner["uid"] for owner in row.metadata.get("ownerReferences", ())]
        marks = ", ".join("?" * len(uids))
        return self._connection.execute(f"SELECT 1 FROM objects WHERE uid IN ({marks})", uids).fetchone() is not None

    # --- rows -------------------------------------------------------------------------------------------------------
    def _row(self, key: Key) -> _Row:
        query = "SELECT id, body FROM objects WHERE kind = ? AND namespace = ? AND name = ?"
        found = self._connection.execute(query, _columns(key)).fetchone()
        if found is None:
            raise errors.ObjectNotFound(f"{key} not found")
        return _Row(found[0], key, json.loads(found[1]))

    def _save(self, row: _Row) -> None:
        version = self._change(row.key)
        row.metadata["resourceVersion"] = str(version)
        self._connection.execute("UPDATE objects SET version = ?, body = ? WHERE id = ?", (version, _text(row.obj), row.id))
        self._index(row)

    def _index(self, row: _Row) -> None:
        terms = {f"label {key}={value}" for key, value in row.metadata.get("labels", {}).items()}
        terms |= {f"owner {owner['uid']}" for owner in row.metadata.get("ownerReferences", ())}
        before = {term for (term,) in self._connection.execute("SELECT term FROM terms WHERE object = ?", (row.id,))}
        self._connection.executemany("DELETE FROM terms WHERE term = ? AND object = ?", [(term, row.id) for term in before - terms])
        self._connection.executemany("INSERT INTO terms VALUES (?, ?)", [(term, row.id) for term in terms - before])

    def _change(self, key: Key) -> int:
        """The next number of the one sequence, which is also the resourceVersion of what is written under it."""
        seq = cast(int, self._connection.execute("INSERT INTO changes (kind, namespace, name) VALUES (?, ?, ?)", _columns(key)).lastrowid)
        if seq % _CLEAR_EVERY == 0:
            self._connection.execute("DELETE FROM changes WHERE seq <= ?", (seq - CHANGES_KEPT,))
        return seq

    def _last(self) -> int:
        return self._connection.execute("SELECT max(seq) FROM changes").fetchone()[0] or 0

    def _time(self) -> str:
        return self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _events(self) -> Iterator[Obj]:
        query = "SELECT id, kind, namespace, name, uid, type, reason, message, count, first, last FROM events ORDER BY last, id"
        for number, kind, namespace, name, uid, *rest in self._connection.execute(query):
            said = dict(zip(("type", "reason", "message", "count", "firstTimestamp", "lastTimestamp"), rest, strict=True))
            metadata = {"name": f"{name}.{number:016x}", "namespace": namespace}
            regarding = {"apiVersion": API_VERSION, "kind": kind, "namespace": namespace, "name": name, "uid": uid}
            yield {"apiVersion": "v1", "kind": "Event", "metadata": metadata, "involvedObject": regarding, **said}


# --- patches --------------------------------------------------------------------------------------------------------
def _status_patched(key: Key, old: Obj, patch: Obj) -> Obj:
    if not _has_status(key.kind):
        raise errors.ObjectNotFound(f"{key} has no status")
    merged = merge.apply(old, patch)
    return {
        **{name: value for name, value in old.items() if name != "status"},
        **({"status": merged["status"]} if "status" in merged else {}),
    }


def _main_patched(key: Key, old: Obj, patch: Obj) -> Obj:
    new: Obj = merge.apply(old, patch)
    if _has_status(key.kind):
        new["status"] = old["status"]
    for field in ("kind", "apiVersion"):
        if new.get(field) != old[field]:
            raise _rejected(key, field, "Invalid value: field is immutable")
    given: Any = new.get("metadata")
    if not isinstance(given, dict):
        raise _rejected(key, "metadata", "Required value")
    metadata = cast(dict[str, Any], given)
    for field in _FIXED:
        if metadata.get(field) not in (None, old["metadata"][field]):
            raise _rejected(key, f"metadata.{field}", "Invalid value: field is immutable")
    if metadata.get("deletionTimestamp") and "deletionTimestamp" not in old["metadata"]:
        raise _rejected(key, "metadata.deletionTimestamp", "Invalid value: field is immutable")
    kept = {field: old["metadata"][field] for field in (*_FIXED, *_OWNED_BY_STORE) if field in old["metadata"]}
    entered = {field: value for field, value in metadata.items() if field not in _OWNED_BY_STORE}
    new["metadata"] = _tidy({**entered, **kept})
    _check_finalizers(key, old["metadata"], new["metadata"])
    return new


def _check_finalizers(key: Key, old: dict[str, Any], new: dict[str, Any]) -> None:
    wanted: Any = new.get("finalizers", [])
    if "deletionTimestamp" not in old or not isinstance(wanted, list):
        return
    added = [each for each in cast(list[Any], wanted) if each not in old.get("finalizers", [])]
    if added:
        why = f"Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {added}"
        raise _rejected(key, "metadata.finalizers", why)


def _tidy(metadata: dict[str, Any]) -> dict[str, Any]:
    """Without empty lists and maps, which the server does not keep."""
    return {key: value for key, value in metadata.items() if value not in ([], {}, None)}


def _content(obj: Obj) -> Obj:
    """What `generation` counts the changes of."""
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}


def _has_status(kind: Any) -> bool:
    return isinstance(kind, str) and kind in kinds.BY_KIND and kinds.BY_KIND[kind].status


def _columns(key: Key) -> tuple[str, str, str]:
    return key.kind, key.namespace, key.name


def _text(obj: Obj) -> str:
    return json.dumps(obj, ensure_ascii=False, separators=(",", ":"))


def _rejected(key: Key, field: str, message: str) -> errors.Rejected:
    return errors.Rejected(f'{key.kind} "{key.name}"', (errors.Cause(field, message),))


__all__ = ["CHANGES_KEPT", "EVENTS_KEPT", "NAMESPACE", "Tables", "make", "meta", "set_meta"]
