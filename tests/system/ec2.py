"""A `Rig` on the light EC2: the words of whole-system tests, with the `ec2` driver and boto3 between the engine and the World.

`play` runs a test in virtual time over a light EC2 that is served on loopback, and asks the ledger afterwards as `rig.play` does.
What goes over the line is heard: `launches` gives every RunInstances to the byte. `lie` and `meet` stand between the line and
EC2, for what only a list by tag, or a page of it, is answered with. `stuck` lets calls hang while the world goes on.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from controller.ports import Machine, T
from tests.simulated import loop, on_ec2
from tests.simulated.ec2 import Hang, Held, LightEc2, Reply, Request, serve
from tests.simulated.ec2.query import Fields, fields
from tests.simulated.world import Settings, World
from tests.system import rig as rigs
from tests.system.documents import Document
from tests.system.rig import Rig, steady

#: What the actions of a driver are called at EC2.
_ACTIONS = {"create": "RunInstances", "delete": "TerminateInstances", "list": "DescribeInstances", "identity": "GetCallerIdentity"}
MUTATIONS = ("RunInstances", "TerminateInstances", "CreateTags")
_HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "ec2.md"
_BY_TAG = "tag:occopus.io/controller"

Lie = Callable[[Sequence[Machine]], Sequence[Machine]]


@dataclass(frozen=True, slots=True)
class Heard:
    """One request as it came over the line, and when."""

    at: float
    fields: Fields

    @property
    def action(self) -> str:
        return self.fields.text("Action")

    @property
    def token(self) -> str:
        return self.fields.text("ClientToken")

    @property
    def size(self) -> int:
        """How many machines a RunInstances asks for."""
        return int(self.fields.text("MinCount"))

    @property
    def type(self) -> str:
        return self.fields.text("InstanceType")

    @property
    def is_list(self) -> bool:
        """Whether it is a list by this or another controller's tag, its first page or a later one."""
        return self.action == "DescribeInstances" and any(each.text("Name") == _BY_TAG for each in self.fields.items("Filter"))

    @property
    def is_later_page(self) -> bool:
        return self.is_list and self.fields.has("NextToken")


class Ec2Rig(Rig):
    """See the module. Documents for the simulated cloud are taken, and put onto EC2."""

    def __init__(self, path: Path, clock: loop.Clock, light: LightEc2, endpoint: str) -> None:
        super().__init__(path, clock)
        self.light = light
        self.endpoint = endpoint
        self.keys = on_ec2.KEYS
        on_ec2.on_ec2(self, light, endpoint)
        self.heard: list[Heard] = []
        #: What some requests are answered with in EC2's place.
        self.meet: Callable[[Heard], Reply | None] = lambda heard: None
        self._lie: Lie | None = None
        self._stuck: Stuck | None = None
        self._answer = light.handle
        light.handle = self._hear

    async def make(self, *documents: Document) -> None:
        """Apply the documents on EC2, the Secret of the account with the first of them."""
        await super().make(*on_ec2.documents(list(documents), self.endpoint, self.keys))

    async def implement(self, template: str, **implementations: Document) -> None:
        """Let a template have these implementations: by name, the fields beside image and type, or in their place."""
        found = [{"name": name, "cloudRef": {"name": "sim"}, "ec2": {**on_ec2.MACHINE, **more}} for name, more in implementations.items()]
        await self.patch("InstanceTemplate", template, {"spec": {"implementations": found}})

    async def key(self, id: str) -> None:
        """Put another access key into the Secret."""
        await self.patch("Secret", "aws", {"stringData": {"AWS_ACCESS_KEY_ID": id}})

    def beside(self, path: Path, controller_id: str) -> Ec2Rig:
        """Another installation on the same EC2, to be started."""
        other = Ec2Rig(path, self.clock, self.light, self.endpoint)
        other.options = replace(other.options, controller_id=controller_id)
        return other

    # --- what EC2 answers
    def lie(self, lie: Lie | None) -> None:
        """Let every list by tag show what this makes of the truth; questions by id are answered truly."""
        self._lie = lie
        self.world.answers.clear()

    def stick(self) -> Stuck:
        """A fault whose calls hang while the world goes on; from now on calls are made in threads of their own."""
        self._stuck = Stuck()
        return self._stuck

    async def _call(self, call: Callable[[], T], lane: str, /) -> T:
        if self._stuck is None:
            return await super()._call(call, lane)
        await asyncio.sleep(0)
        return await self._stuck.make(call)

    def _hear(self, request: Request) -> Reply:
        heard = Heard(self.clock(), fields(request))
        self.heard.append(heard)
        if self._lie is not None:
            self.world.answers[:] = [self._lie] if heard.is_list and not heard.is_later_page else []
        return self.meet(heard) or self._answer(request)

    # --- what EC2 saw
    def calls(self, *actions: str) -> int:
        """How many calls of these actions, in the words of a driver."""
        return self.sent(*(_ACTIONS[each] for each in actions))

    def sent(self, *actions: str) -> int:
        """How many calls of EC2's actions there were."""
        return sum(number for action, number in self.world.counts().items() if action in actions)

    def outcomes(self, action: str) -> list[str]:
        """What became of each call of an action."""
        return [each.outcome for each in self.world.ledger if each.action == action]

    def launches(self) -> list[Heard]:
        """Every RunInstances."""
        return [each for each in self.heard if each.action == "RunInstances"]

    def tokens(self) -> set[str]:
        """Every client token that was ever sent."""
        return {each.token for each in self.launches()}


class Stuck(Hang):
    """Calls that meet it hang until `release`, and time goes on without them; it stands still while any other is answered."""

    def __init__(self) -> None:
        super().__init__()
        self._settled = threading.Event()
        self._threads: list[threading.Thread] = []

    def hold(self, then: Callable[[], Reply]) -> Held:
        self._settled.set()
        return super().hold(then)

    async def make(self, call: Callable[[], T]) -> T:
        """Make a call; the loop waits with it until it has ended or hangs."""
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()
        settled = self._settled = threading.Event()
        thread = threading.Thread(target=_do, args=(call, done, settled), name="call", daemon=True)
        self._threads.append(thread)
        thread.start()
        settled.wait()
        return done.result() if done.done() else await asyncio.wrap_future(done)

    def release(self) -> None:
        """Let all that hang come to their end, at this moment."""
        super().release()
        for each in self._threads:
            each.join()


def _do(call: Callable[[], T], done: Future[T], settled: threading.Event) -> None:
    try:
        done.set_result(call())
    except BaseException as error:  # noqa: BLE001 -- it is the asker's
        done.set_exception(error)
    finally:
        settled.set()


Main = Callable[[Ec2Rig], Awaitable[None]]


def play(path: Path, main: Main, settings: Settings | None = None, *, home: Callable[[Ec2Rig], None] = lambda rig: None) -> Ec2Rig:
    """Run a test on a new system on EC2 to its end, and judge what it left. `home` may give it another than a state file."""
    clock = loop.Clock()
    light = LightEc2(World(clock, settings=settings or steady()))
    with serve(light) as endpoint:
        rig = Ec2Rig(path / "state.db", clock, light, endpoint)
        home(rig)

        async def whole() -> None:
            rig.start()
            await main(rig)
            await rigs.judge(rig)
            await rig.crash()

        loop.run(whole(), clock=clock)
    judge_heard(rig.heard)
    return rig


def judge_heard(heard: list[Heard]) -> None:
    """No mutation was sent twice at one moment, as an SDK that repeats by itself does: each is one of the engine's own.

    Nor was anything asked that the documented policy does not grant.
    """
    mutations = Counter((each.at, tuple(sorted(each.fields.flat.items()))) for each in heard if each.action in MUTATIONS)
    assert [each for each, times in mutations.items() if times > 1] == []
    refused = {each.action for each in heard} - granted()
    assert not refused, f"the policy of {_HOW_TO.name} does not grant {sorted(refused)}"


@functools.cache
def granted() -> frozenset[str]:
    """The calls of the policy in the how-to, and the one that needs no right; CreateTags is for the tags of a launch, never called."""
    (policy,) = re.findall(r"```json\n(.*?)```", _HOW_TO.read_text(), re.DOTALL)
    actions = [each["Action"] for each in json.loads(policy)["Statement"]]
    named = [name for each in actions for name in ([each] if isinstance(each, str) else each)]
    return frozenset(each.removeprefix("ec2:") for each in named) - {"CreateTags"} | {"GetCallerIdentity"}


__all__ = ["Ec2Rig", "Heard", "Lie", "Stuck", "granted", "judge_heard", "play"]
