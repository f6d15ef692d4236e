"""Whatever users edit, delete and put back, and in whatever order: it comes to be as described, and no part waits for the resync.

The periodic resync looks at every object every few minutes, and so hides that somebody was not told. Here it never comes: each
change itself has to wake whoever it concerns. When all is as described at last, one look at everything finds nothing to do.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from controller import errors
from controller.api.group import InstanceGroup
from controller.engine import engine
from controller.ports import Key
from controller.reconcilers.instancegroup import observed as group_observed
from tests.simulated.harness import put
from tests.simulated.world import NEVER, Settings, SimulatedMachine
from tests.system.documents import OWN, PLAIN, Document, cloud, infrastructure, secret, service, template
from tests.system.rig import MUTATING, Rig, play

#: Which services depend on which, and how many machines each has: what a user may make of `shop`.
SHAPES: tuple[tuple[Document, ...], ...] = (
    (service("db"), service("app", "db", scaling={"min": 2, "max": 3})),
    (service("db"), service("app", "db", scaling={"min": 1}), service("web", "app", "db")),
    (service("app", scaling={"min": 3}),),
    (service("web", templateRef={"name": "db"}), service("app", "web", replicas=2)),
    (service("db", replicas=0), service("web", "db", templateRef={"name": "app"})),
)
TELLS = "#cloud-config\nruncmd: ['{{ services.app.addresses | join(\",\") }}']\n"
BROKEN = "#cloud-config\nruncmd: ['{{ nowhere }}']\n"
#: More than may ever be wanted.
ROOM = 40
RECONCILED = ("Cloud", "Infrastructure", "InstanceGroup", "Instance")


@dataclass(slots=True)
class Desk:
    """What a user wants just now: documents by kind and name, as they would be in a repository."""

    rig: Rig
    documents: dict[tuple[str, str], Document] = field(default_factory=dict[tuple[str, str], Document])

    async def write(self, *documents: Document) -> None:
        """Put them down and apply them."""
        for each in documents:
            self.documents[each["kind"], each["metadata"]["name"]] = each
            with contextlib.suppress(errors.ObjectNotFound):  # it was just going: put back later
                await put(self.rig.store, each)

    async def secret(self) -> None:
        """Write down what the account asks for."""
        key = Key("Secret", "default", "login")
        self.documents["Secret", "login"] = written = secret("login", password=self.rig.password)
        try:
            seen = await self.rig.store.get(key)
        except errors.ObjectNotFound:
            await self.rig.store.create(written)
            return
        await self.rig.store.patch(key, {"stringData": written["stringData"]}, version=seen["metadata"]["resourceVersion"])

    async def delete(self, kind: str, name: str) -> None:
        """Delete the object alone, as by hand: what is written stays."""
        try:
            await self.rig.delete(kind, name)
        except errors.ObjectNotFound:
            return

    async def is_going(self) -> bool:
        """Whether the Cloud or its Secret was deleted, and waits for its machines."""
        found = [each for kind in ("Cloud", "Secret") for each in await self.rig.store.list(kind)]
        return any("deletionTimestamp" in each["metadata"] for each in found)

    async def missing(self) -> None:
        """Apply what is not there."""
        for (kind, name), each in self.documents.items():
            try:
                await self.rig.store.get(Key(kind, "default", name))
            except errors.ObjectNotFound:
                await put(self.rig.store, each)


Deed = Callable[[Desk], Awaitable[None]]


def _first(limit: int, shape: int, text: str) -> list[Document]:
    return [
        cloud(secret="login", maxInstances=limit),
        *(template("db"), template("app", text), template("web", TELLS)),
        infrastructure(*SHAPES[shape]),
        infrastructure(service("app", scaling={"min": 2}), name="other"),
    ]


def _limit(number: int) -> Deed:
    async def deed(desk: Desk) -> None:
        await desk.write(cloud(secret="login", maxInstances=number))

    return deed


def _rotate(number: int) -> Deed:
    """The account asks for another password than before; the Secret says the old one."""

    async def deed(desk: Desk) -> None:
        desk.rig.password = f"right {number}"

    return deed


async def _tell(desk: Desk) -> None:
    await desk.secret()


def _shape(number: int, paused: bool) -> Deed:
    async def deed(desk: Desk) -> None:
        await desk.write(infrastructure(*SHAPES[number], paused=paused))

    return deed


def _template(name: str, text: str, image: str) -> Deed:
    async def deed(desk: Desk) -> None:
        written = template(name, text)
        written["spec"]["implementations"][0]["simulated"]["image"] = image
        await desk.write(written)

    return deed


def _delete(named: tuple[str, str]) -> Deed:
    async def deed(desk: Desk) -> None:
        await desk.delete(*named)

    return deed


def _delete_instance(number: int) -> Deed:
    async def deed(desk: Desk) -> None:
        found = desk.rig.instances()
        if found:
            await desk.rig.delete("Instance", found[number % len(found)]["metadata"]["name"])

    return deed


def _scale(number: int) -> Deed:
    async def deed(desk: Desk) -> None:
        if desk.rig.find("InstanceGroup", "other-app") is not None:
            await desk.rig.patch("InstanceGroup", "other-app", {"spec": {"replicas": number}})

    return deed


def _strike(what: str, number: int) -> Deed:
    async def deed(desk: Desk) -> None:
        live: list[SimulatedMachine] = sorted(desk.rig.world.live(), key=lambda each: each.id)
        if live:
            getattr(desk.rig.world, what)(live[number % len(live)].id)

    return deed


def _fail(action: str, error: errors.CloudError, times: int) -> Deed:
    async def deed(desk: Desk) -> None:
        desk.rig.world.fail(action, error, times=times)

    return deed


def _quota(number: int) -> Deed:
    async def deed(desk: Desk) -> None:
        desk.rig.world.settings.quota = number

    return deed


async def _missing(desk: Desk) -> None:
    await desk.missing()


async def _crash(desk: Desk) -> None:
    await desk.rig.restart()


NUMBER = st.integers(0, 9)
OBJECTS = (
    *(("Cloud", "sim"), ("Secret", "login"), ("Infrastructure", "shop"), ("Infrastructure", "other")),
    *(("InstanceTemplate", "app"), ("InstanceTemplate", "db"), ("InstanceGroup", "shop-app"), ("InstanceGroup", "other-app")),
)
EDITS = st.one_of(
    st.builds(_limit, st.integers(1, 9)),
    st.builds(_rotate, NUMBER),
    st.just(_tell),
    *[st.builds(_shape, st.integers(0, len(SHAPES) - 1), st.sampled_from((False, False, True)))] * 2,
    st.builds(
        _template, st.sampled_from(("app", "db")), st.sampled_from((PLAIN, OWN, BROKEN)), st.sampled_from(("debian", "other", "none"))
    ),
    st.builds(_delete, st.sampled_from(OBJECTS)),
    st.builds(_delete_instance, NUMBER),
    st.builds(_scale, st.integers(0, 5)),
    st.just(_missing),
)
FATE = st.one_of(
    st.builds(_strike, st.sampled_from(("kill", "stop", "make_unhealthy", "forget", "break_down")), NUMBER),
    st.builds(
        _fail,
        st.sampled_from(("create", "delete", "list", "describe", "identity")),
        st.sampled_from(
            (errors.Transient("no answer"), errors.Throttled("slow down"), errors.Denied("not now"), errors.NoCapacity("full"))
        ),
        st.integers(1, 4),
    ),
    st.builds(_quota, st.integers(0, 6)),
    st.just(_crash),
)
#: After so many seconds most that moved has come to rest.
LONG = 200.0
STORIES = st.lists(st.tuples(st.sampled_from((0.0, 0.4, 3.0, 40.0, LONG)), st.one_of(EDITS, EDITS, FATE)), min_size=6, max_size=18)
FIRST = st.builds(_first, st.sampled_from((3, 5, 9)), st.integers(0, len(SHAPES) - 1), st.sampled_from((PLAIN, OWN)))


@settings(max_examples=settings().max_examples // 4)
@given(FIRST, STORIES, st.sampled_from((1, 100)), st.integers(0, 2**32))
def test_whatever_is_edited_it_comes_to_be_as_described_without_the_resync(
    first: list[Document], story: list[tuple[float, Deed]], most_per_call: int, seed: int
) -> None:
    manners = Settings(lag_seconds=2.0, settle_seconds=30.0, most_per_call=most_per_call)
    with tempfile.TemporaryDirectory() as place, mock.patch.object(engine, "RESYNC_SECONDS", 1e9):
        play(Path(place), lambda rig: _live_through(rig, first, story, seed), manners)


async def _live_through(rig: Rig, first: list[Document], story: list[tuple[float, Deed]], seed: int) -> None:
    rig.world.random = random.Random(seed)
    desk = Desk(rig)
    await desk.secret()
    await desk.write(*first)
    for pause, deed in story:
        await rig.let_pass(pause)
        if pause == LONG:
            await _look_again(rig)
        await deed(desk)
    rig.world.faults.clear()
    rig.world.settings.quota = None
    await rig.let_pass(LONG)
    await _look_again(rig)
    await _come_to_be(desk)
    await rig.let_pass(60)
    await _look_again(rig)
    await rig.delete("Infrastructure", "shop", "other")
    await rig.wait(rig.gone, 1200)
    assert rig.world.live() == []
    await _without_cloud(desk)


async def _without_cloud(desk: Desk) -> None:
    """Delete the Cloud and its Secret, which nothing needs any more."""
    for kind, name in OBJECTS[:2]:
        await desk.delete(kind, name)
    await desk.rig.wait(lambda: desk.rig.find("Cloud", "sim") is None, 600)
    await desk.rig.let_pass(5)
    assert await desk.rig.store.list("Secret") == []


async def _come_to_be(desk: Desk) -> None:
    """All is described well again, and what is missing put back until nothing is: as a user does, or GitOps."""
    rig = desk.rig
    if await desk.is_going():
        # What goes while machines need it goes when these have gone.
        for name in ("shop", "other"):
            await desk.delete("Infrastructure", name)
        await desk.secret()
        await rig.wait(rig.gone, 1200)
        await _without_cloud(desk)
    await desk.secret()
    await desk.missing()
    for name, text in (("db", PLAIN), ("app", OWN)):
        await _template(name, text, "debian")(desk)
    await _limit(ROOM)(desk)
    for each in list(desk.documents.values()):
        if each["kind"] == "Infrastructure":
            await desk.write({**each, "spec": {**each["spec"], "paused": False}})
    for _ in range(1440):
        await desk.missing()
        if _as_described(desk):
            return
        await rig.let_pass(5)
    raise AssertionError(rig.picture())


def _as_described(desk: Desk) -> bool:
    rig = desk.rig
    groups = rig.engine.objects.models("InstanceGroup", InstanceGroup)
    wanted = {
        (name, each["name"])
        for (kind, name), found in desk.documents.items()
        if kind == "Infrastructure"
        for each in found["spec"]["services"]
    }
    return (
        all(rig.ready(name) for name in ("shop", "other"))
        and {(each.spec.infrastructure.name, each.spec.service) for each in groups} == wanted
        and sum(map(group_observed.wanted, groups)) == len(rig.world.live()) == len(rig.instances())
    )


async def _look_again(rig: Rig) -> None:
    """What the resync would find to do: nothing. Not asked while something moves, or is about to by itself."""
    before = await _stands(rig)
    await rig.let_pass(40)
    # A Cloud is looked at every few seconds by itself, and that changes nothing.
    due = [when for key, when in rig.engine.queue._due.items() if key.kind != "Cloud"]  # pyright: ignore[reportPrivateUsage]
    if await _stands(rig) != before or min(due, default=NEVER) < rig.clock() + 12:
        return
    for kind in RECONCILED:
        for obj in rig.engine.objects.list(kind):
            rig.engine.queue.add(Key(kind, "default", obj["metadata"]["name"]))
    await rig.let_pass(10)
    after = await _stands(rig)
    found = [f"{key} was {before.get(key)}\nand is {after.get(key)}" for key in {**before, **after} if before.get(key) != after.get(key)]
    assert not found, "\n".join([*found, rig.picture()])


async def _stands(rig: Rig) -> dict[str, str]:
    """Every object, and how many calls have changed the cloud."""
    found = {
        f"{kind} {each['metadata']['name']}": str(each)
        for kind in (*RECONCILED, "Secret", "ControllerRevision")
        for each in await rig.store.list(kind)
    }
    return {**found, "calls": str(rig.calls(*MUTATING))}
