"""A second operator on purpose: the standby does nothing, takes over when the leader ends, and a leader that was stopped does no harm."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from controller import process
from tests.cluster.fixtures import Cluster
from tests.cluster.operator import Operator, Place, at_a_place, faulty
from tests.e2e.descriptions import CLOUD, infrastructure, service, template

ONE = CLOUD + template() + infrastructure("one", service("only"))
#: The Lease runs out 15 s after its last renewal, and is looked at every 2 to 2.5 s; the rest is for a busy machine.
TAKEOVER_SECONDS = 15 + 2.5 + 4.5
#: One that was released is taken at the next look.
HANDOVER_SECONDS = 2.5 + 4.5
#: The user of the standby: what the audit log shows of it is what this process did.
USER = "operator"


async def standby(place: Place) -> Operator:
    """A second operator, with the rights to do anything here, and its own name in the audit log."""
    binding = {
        "metadata": {"name": "standby"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}],
    }
    made = await place.ask("POST", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{place.namespace}/rolebindings", binding)
    assert made.code == 201, made
    kubeconfig = place.desk.directory / "standby"
    place.cluster.plane.write_kubeconfig(kubeconfig, USER)
    second = await place.start(kubeconfig=kubeconfig)
    await place.until(lambda: place.ready(second), "the standby is ready")
    return second


async def one_is_ready(place: Place) -> None:
    await place.settled("one", {"only": 1})


async def healed(place: Place) -> None:
    """Kill the machine; another one takes its place."""
    (old,) = place.live()
    place.desk.kill(old["id"])
    await place.until(lambda: {each["id"] for each in place.live()} - {old["id"]}, "there is another machine")
    await one_is_ready(place)


async def killed(place: Place) -> None:
    leader = await place.lead()
    await place.apply(ONE)
    await one_is_ready(place)
    second = await standby(place)
    await healed(place)
    assert not await place.leads(second)
    assert list(place.audited(USER)) == []
    await leader.kill()
    seconds = await place.until(lambda: place.verified(second), "the standby leads")
    assert seconds < TAKEOVER_SECONDS
    print(f"takeover of a killed leader: {seconds:.1f} s")
    await healed(place)
    await place.delete_all()


async def terminated(place: Place) -> None:
    leader = await place.lead()
    await place.apply(ONE)
    await one_is_ready(place)
    second = await standby(place)
    assert list(place.audited(USER)) == []
    leader.send(signal.SIGTERM)
    assert await leader.ended() == 0, leader.log()
    seconds = await place.until(lambda: place.verified(second), "the standby leads")
    assert seconds < HANDOVER_SECONDS
    print(f"takeover of a leader told to stop: {seconds:.1f} s after its end")
    await healed(place)
    await place.delete_all()


async def stopped_before_a_create(place: Place) -> None:
    leader = await place.lead(module=faulty("before:create:stop"))
    await place.apply(ONE)
    await place.until(leader.stopped, "the leader is stopped")
    assert place.machines() == []
    second = await standby(place)
    await one_is_ready(place)
    (machine,) = place.machines()
    leader.send(signal.SIGCONT)
    assert await leader.ended() == process.DIED, leader.log()
    # Its create was sent all the same, with the token that was used.
    await asyncio.sleep(1)
    assert [each["id"] for each in place.machines()] == [machine["id"]]
    await one_is_ready(place)
    assert await place.leads(second)
    await place.delete_all()
    assert len(place.machines()) == 1


def test_the_standby_does_nothing_and_takes_over_when_the_leader_ends(cluster: Cluster, tmp_path: Path) -> None:
    at_a_place(cluster, tmp_path, killed, terminated, stopped_before_a_create)
