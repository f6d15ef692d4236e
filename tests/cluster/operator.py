"""Real operators over a namespace of their own: `python -m controller` as its users run it, and the truth about what it made.

A `Place` is that namespace, with a controller id and a directory of local machines; any number of operators run in it, one after
the other or as leader and standby. At its end all that it started is ended, each by its own pid.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from controller import process
from controller.ports import Obj
from controller.stores import access, resources
from tests.cluster.fixtures import Answer, Cluster
from tests.e2e.desk import Desk
from tools.control_plane import ports

#: What takes a second or two on a quiet machine takes a multiple on a busy one.
PATIENCE_SECONDS = 60.0
#: Design section 4: SIGTERM is followed by the end within 10 s; a busy machine adds to that.
END_SECONDS = 12.0
_POLL_SECONDS = 0.05
OPERATOR = ("-m", "controller")
MERGE_PATCH: Mapping[str, str] = {"Content-Type": "application/merge-patch+json"}


def faulty(fault: str) -> tuple[str, ...]:
    """The operator with a fault of `tests/faulty.py`."""
    return ("-m", "tests.faulty", "operator", fault)


@dataclass(frozen=True, slots=True)
class Operator:
    """One process, whose exit codes are those of a child: negative where a signal ended it."""

    process: asyncio.subprocess.Process
    port: int
    log_file: Path

    @property
    def runs(self) -> bool:
        return self.process.returncode is None

    def log(self) -> str:
        return self.log_file.read_text()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Its exit code, once it has ended by itself."""
        try:
            async with asyncio.timeout(seconds):
                return await self.process.wait()
        except TimeoutError:
            raise AssertionError(f"it still runs after {seconds:g} s:\n{self.log()}") from None

    async def kill(self) -> None:
        if self.runs:
            self.process.kill()
            await self.process.wait()

    def rss_bytes(self) -> int:
        """What is resident of it now, of /proc/<pid>/status."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
        return int(kilobytes) * 1024

    def stopped(self) -> bool:
        """Whether it is stopped as by SIGSTOP."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


class Place:
    """See the module. `Desk` knows the directory of local machines."""

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession, namespace: str, directory: Path) -> None:
        self.cluster, self.session, self.namespace = cluster, session, namespace
        self.desk = Desk(directory)
        self.kubeconfig = cluster.plane.kubeconfig
        self.operators: list[Operator] = []

    # --- operators
    async def start(self, *flags: str, module: tuple[str, ...] = OPERATOR, kubeconfig: Path | None = None) -> Operator:
        """Start an operator; it may be standby, or not be ready yet."""
        port = ports.one()
        log_file = self.desk.directory / f"operator-{len(self.operators)}.log"
        arguments = (
            *("--kubeconfig", str(kubeconfig or self.kubeconfig), "--namespaces", self.namespace, "--own-namespace", self.namespace),
            *("--controller-id", self.namespace, "--local-clouds", "--state-directory", str(self.desk.directory)),
            *("--health-port", str(port), "--metrics-port", str(port), *flags),
        )
        with log_file.open("wb") as log:
            started = await asyncio.create_subprocess_exec(
                *(sys.executable, *module, *arguments), stdout=log, stderr=log, env=self.desk.environment
            )
        operator = Operator(started, port, log_file)
        self.operators.append(operator)
        return operator

    async def lead(self, *flags: str, module: tuple[str, ...] = OPERATOR, kubeconfig: Path | None = None) -> Operator:
        """Start an operator that leads at once: whoever led before has ended, so that nobody needs to wait for its Lease to run out."""
        await self.ask("DELETE", self.lease_path)
        operator = await self.start(*flags, module=module, kubeconfig=kubeconfig)
        await self.until(lambda: self.leads(operator), "leads")
        return operator

    async def leads(self, operator: Operator) -> bool:
        """Whether it leads by its own metrics. Fails the test where it has ended."""
        assert operator.runs, operator.log()
        return "occopus_leader 1.0" in (await self._get(operator, "/metrics"))[1]

    async def ready(self, operator: Operator) -> bool:
        return (await self._get(operator, "/readyz"))[0] == 200

    async def verified(self, operator: Operator) -> bool:
        """Whether it leads, and has listed all objects and looked at each cloud."""
        return await self.leads(operator) and await self.ready(operator)

    async def _get(self, operator: Operator, path: str) -> tuple[int, str]:
        try:
            async with self.session.get(f"http://127.0.0.1:{operator.port}{path}") as response:
                return response.status, await response.text()
        except aiohttp.ClientConnectionError:
            return 0, ""

    # --- objects
    async def ask(self, method: str, path: str, body: Obj | None = None, **options: Any) -> Answer:
        return await self.cluster.ask(self.session, method, path, body, **options)

    async def apply(self, text: str) -> None:
        """Make the objects of a description."""
        for body in filter(None, yaml.safe_load_all(text)):
            made = await self.ask("POST", resources.resource(body["kind"]).path(self.namespace), body, params={"fieldValidation": "Strict"})
            assert made.code == 201, made

    async def objects(self, kind: str) -> list[Obj]:
        found = await self.ask("GET", resources.resource(kind).path(self.namespace))
        assert found.code == 200, found
        return found.body["items"]

    async def patch(self, kind: str, name: str, patch: Obj) -> Answer:
        return await self.ask("PATCH", resources.resource(kind).path(self.namespace, name), patch, headers=MERGE_PATCH)

    async def delete(self, kind: str, name: str) -> None:
        deleted = await self.ask("DELETE", resources.resource(kind).path(self.namespace, name))
        assert deleted.code in (200, 202), deleted

    async def lease(self) -> Obj:
        return (await self.ask("GET", self.lease_path)).body

    @property
    def lease_path(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/{process.LEASE}"

    async def is_ready(self, name: str) -> bool:
        """Whether the Infrastructure is Ready as it is described now."""
        (found,) = [each for each in await self.objects("Infrastructure") if each["metadata"]["name"] == name]
        status: Obj = found.get("status", {})
        ready = [each["status"] for each in status.get("conditions", ()) if each["type"] == "Ready"]
        return status["observedGeneration"] == found["metadata"]["generation"] and ready == ["True"]

    async def until(self, holds: Callable[[], Awaitable[object] | object], what: str, seconds: float = PATIENCE_SECONDS) -> float:
        """Wait until it holds; after how many seconds it did. Fails the test with what the operators said."""
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            answer = holds()
            if await answer if isinstance(answer, Awaitable) else answer:
                return time.monotonic() - began
            await asyncio.sleep(_POLL_SECONDS)
        logs = "\n---\n".join(each.log() for each in self.operators)
        instances = "\n".join([json.dumps(_without_managers(each)) for each in await self.objects("Instance")])
        raise AssertionError(f"{what}: not within {seconds:g} s\n{instances}\n{logs}")

    # --- the truth
    def machines(self) -> list[dict[str, Any]]:
        """All that were ever made, by their records; a directory whose making was cut off by a kill is none, and is cleared later."""
        places = sorted(each for each in self.desk.directory.glob("machines/*/machine.json") if not each.parent.name.startswith("."))
        return [each for each in map(_record, places) if not each["closed"]]

    def live(self) -> list[dict[str, Any]]:
        """Those that live now, whatever the record says of one that nobody has looked at since it was killed."""
        return [each for each in self.machines() if each["state"] in ("pending", "running") and (not each["pid"] or _lives(each["pid"]))]

    def most_live(self) -> Counter[str]:
        """Of each service, the most machines that ever lived at one instant, by the records of the machines."""
        changes: dict[str, list[tuple[str, int]]] = {}
        for each in self.machines():
            ends = [(each["ending"] or each["ended"], -1)] if each["ending"] or each["ended"] else []
            changes.setdefault(each["tags"]["occopus.io/service"], []).extend([(each["created"], 1), *ends])
        return Counter({service: max(itertools.accumulate(step for _, step in sorted(each))) for service, each in changes.items()})

    async def one_machine_each(self, services: Mapping[str, int]) -> None:
        """As many Instances as wanted of each service, each with its own live machine, and no live machine beside them."""
        instances = await self.objects("Instance")
        assert Counter(each["spec"]["service"] for each in instances) == services
        assert _recorded(instances) == sorted(each["id"] for each in self.live())

    async def settled(self, name: str, services: Mapping[str, int]) -> None:
        """Wait until the Infrastructure is whole; more machines than are wanted never were there."""
        await self.whole(name, services)
        assert self.most_live() == services

    async def whole(self, name: str, services: Mapping[str, int]) -> None:
        """Wait until the Infrastructure is Ready, and not by an earlier status: each Instance has its machine, none is beside them."""

        async def holds() -> bool:
            instances = await self.objects("Instance")
            counted = Counter(each["spec"]["service"] for each in instances) == services
            return counted and _recorded(instances) == sorted(each["id"] for each in self.live()) and await self.is_ready(name)

        await self.until(holds, f"{name} is whole")
        await self.one_machine_each(services)

    async def delete_all(self) -> None:
        """Delete what was described, wait, and look that nothing is left: no object, no machine, no process."""
        for each in await self.objects("Infrastructure"):
            await self.delete("Infrastructure", each["metadata"]["name"])
        await self.until(self._none_left, "all deleted")
        assert self.live() == []
        assert self.desk.processes() == []

    async def _none_left(self) -> bool:
        return not any([await self.objects(kind) for kind in ("Infrastructure", "InstanceGroup", "Instance")])

    def audited(self, user: str) -> Iterator[Obj]:
        """What that user asked of the API server about this namespace so far, all but Leases."""
        with self.cluster.plane.audit_log.open() as log:
            for event in map(json.loads, log):
                about: Obj = event.get("objectRef") or {}
                ours = about.get("namespace") == self.namespace and about.get("resource") != "leases"
                if ours and event["user"]["username"] == user:
                    yield event

    # --- the end
    async def close(self) -> None:
        for each in self.operators:
            await each.kill()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.desk.processes():
            # Again, for what was being started meanwhile; and what was killed takes a moment.
            for machine in self.machines():
                self.desk.kill(machine["id"])
            assert time.monotonic() < deadline, self.desk.processes()
            await asyncio.sleep(_POLL_SECONDS)


def _record(place: Path) -> dict[str, Any]:
    return json.loads(place.read_text())


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _without_managers(obj: Obj) -> Obj:
    return {**obj, "metadata": {name: value for name, value in obj["metadata"].items() if name != "managedFields"}}


def _recorded(instances: list[Obj]) -> list[str]:
    return sorted(each.get("status", {}).get("machine", {}).get("id", "") for each in instances)


@contextlib.asynccontextmanager
async def placed(cluster: Cluster, directory: Path) -> AsyncGenerator[Place]:
    async with access.session(cluster.access) as session:
        place = Place(cluster, session, await cluster.namespace(session), directory)
        directory.mkdir(exist_ok=True)
        try:
            yield place
        finally:
            await place.close()


Story = Callable[[Place], Awaitable[None]]


def at_a_place(cluster: Cluster, directory: Path, *stories: Story) -> None:
    """Tell the stories at once, each at a place of its own: most of what they take is waiting."""

    async def run(story: Story, number: int) -> None:
        async with placed(cluster, directory / str(number)) as place:
            await story(place)

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            for number, story in enumerate(stories):
                group.create_task(run(story, number))

    asyncio.run(together())


__all__ = ["END_SECONDS", "OPERATOR", "PATIENCE_SECONDS", "Operator", "Place", "Story", "at_a_place", "faulty", "placed"]
