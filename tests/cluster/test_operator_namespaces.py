"""An operator with rights in some namespaces alone: one whose rights are gone is left out, the others and all machines are not touched."""

from __future__ import annotations

from pathlib import Path

from controller import process
from controller.ports import Obj
from tests.cluster.fixtures import Cluster
from tests.cluster.operator import PATIENCE_SECONDS, Operator, Place, at_a_place
from tests.cluster.test_operator_rights import RBAC, grant, rules
from tests.e2e.descriptions import CLOUD, infrastructure, service, template

ONE = CLOUD + template() + infrastructure("one", service("only"))
TWO = infrastructure("two", service("second"))
#: The operator that asks more often than each minute what it may list, so that no test waits for that.
HASTY = ("-c", "from controller import __main__ as command, namespaces; namespaces.ASK_SECONDS = 2.0; command.main()")


class Pair:
    """Two namespaces that one operator serves, by a Role in each; Lease and controller id are in the first."""

    def __init__(self, first: Place, namespace: str, user: str) -> None:
        self.first, self.user = first, user
        self.second = Place(first.cluster, first.session, namespace, first.desk.directory)
        self.second.operators = first.operators
        self._kubeconfig = first.desk.directory / "kubeconfig"
        first.cluster.plane.write_kubeconfig(self._kubeconfig, user)

    async def lead(self) -> Operator:
        """The next operator, once it leads and has listed what it may."""
        await self.first.ask("DELETE", self.first.lease_path)
        operator = await self.first.start("--namespaces", self.second.namespace, module=HASTY, kubeconfig=self._kubeconfig)
        await self.first.until(lambda: self.first.verified(operator), "leads")
        return operator

    async def ends(self, operator: Operator, what: str) -> None:
        assert await operator.ended(PATIENCE_SECONDS) == process.DIED, operator.log()
        assert f"may be served now: {what};" in operator.log()

    async def take(self) -> None:
        """Take the rights in the second namespace away."""
        for each in ("rolebindings", "roles"):
            assert (await self.first.ask("DELETE", f"{RBAC}/namespaces/{self.second.namespace}/{each}/objects")).code == 200

    async def give(self, place: Place) -> None:
        await grant(place, "objects", rules("ClusterRole"), self.user)


async def _up(place: Place, user: str) -> tuple[Pair, Operator]:
    """An operator that has made a machine in each of two namespaces."""
    pair = Pair(place, await place.cluster.namespace(place.session), user)
    await grant(place, "own", rules("Role"), user)
    for each in (place, pair.second):
        await pair.give(each)
        await each.apply(ONE)
    operator = await pair.lead()
    for each in (place, pair.second):
        await each.until(lambda each=each: each.is_ready("one"), "one is Ready")
    return pair, operator


def _machines(place: Place) -> set[str]:
    """Those that live and are of the place's namespace."""
    return {each["id"] for each in place.live() if each["tags"]["occopus.io/namespace"] == place.namespace}


async def _metrics(pair: Pair, operator: Operator) -> dict[str, float]:
    """By name; how far the second namespace is served as `served`."""
    async with pair.first.session.get(f"http://127.0.0.1:{operator.port}/metrics") as response:
        lines = [line.rpartition(" ") for line in (await response.text()).splitlines() if not line.startswith("#")]
    served = f'occopus_namespace_served{{namespace="{pair.second.namespace}"}}'
    return {"served" if name == served else name: float(value) for name, _, value in lines}


async def rights_go_and_come_back(first: Place) -> None:
    pair, operator = await _up(first, "operator")
    second = pair.second
    stood = _machines(second)
    await pair.take()
    await operator.kill()
    operator = await pair.lead()
    assert f"Namespace {second.namespace} is not served" in operator.log()
    await first.apply(TWO)
    await first.until(lambda: first.is_ready("two"), "the other namespace is served")
    assert _machines(second) == stood
    told = await _metrics(pair, operator)
    # Its machine is of the same account, and so in the list of the other's Cloud.
    assert (told["served"], told["occopus_unclaimed_machines"]) == (0, 0)
    await pair.give(second)
    await pair.ends(operator, f"{first.namespace}, {second.namespace}")
    operator = await pair.lead()
    assert (await _metrics(pair, operator))["served"] == 1
    await second.patch("InstanceGroup", "one-only", {"spec": {"replicas": 2}})
    await second.until(lambda: len(_machines(second)) == 2, "it is served again")
    assert stood < _machines(second)
    await _all_deleted(pair)


async def rights_go_while_it_serves(first: Place) -> None:
    pair, operator = await _up(first, "operator")
    stood = _machines(pair.second)
    await pair.take()
    await pair.ends(operator, first.namespace)
    operator = await pair.lead()
    await first.patch("InstanceGroup", "one-only", {"spec": {"replicas": 2}})
    await first.until(lambda: len(_machines(first)) == 2, "the other namespace is served")
    assert _machines(pair.second) == stood
    await pair.give(pair.second)
    await pair.ends(operator, f"{first.namespace}, {pair.second.namespace}")
    await pair.lead()
    await _all_deleted(pair)


async def _all_deleted(pair: Pair) -> None:
    """Delete what was described in both, and look that no machine is left."""
    places = (pair.first, pair.second)
    for place in places:
        for each in await place.objects("Infrastructure"):
            await place.delete("Infrastructure", each["metadata"]["name"])

    async def gone() -> bool:
        return not any([await place.objects("Infrastructure") for place in places])

    await pair.first.until(gone, "all deleted")
    assert pair.first.live() == []


async def a_namespace_goes_with_its_rights(first: Place) -> None:
    """Rights in the whole cluster, for as long as it takes, let what is left in it end."""
    pair, operator = await _up(first, "nobody")
    second = pair.second
    path = f"/api/v1/namespaces/{second.namespace}"
    stood = _machines(second)
    await operator.kill()
    assert (await first.ask("DELETE", path)).code == 200

    async def unbound() -> bool:
        return (await first.ask("GET", f"{RBAC}/namespaces/{second.namespace}/rolebindings/objects")).code == 404

    await first.until(unbound, "its rights are gone")
    operator = await pair.lead()
    await first.apply(TWO)
    await first.until(lambda: first.is_ready("two"), "the other namespace is served")
    assert len(await second.objects("Infrastructure")) == 1
    assert _machines(second) == stood
    binding: Obj = {
        "metadata": {"name": second.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": pair.user}],
    }
    assert (await first.ask("POST", f"{RBAC}/clusterrolebindings", binding)).code == 201
    try:
        await pair.ends(operator, f"{first.namespace}, {second.namespace}")
        operator = await pair.lead()

        async def gone() -> bool:
            return (await first.ask("GET", path)).code == 404

        await first.until(gone, "the namespace is gone", 120)
    finally:
        assert (await first.ask("DELETE", f"{RBAC}/clusterrolebindings/{second.namespace}")).code == 200
    assert stood.isdisjoint(each["id"] for each in first.live())
    await pair.ends(operator, first.namespace)
    await pair.lead()
    await first.delete_all()


def test_a_namespace_without_rights_stops_no_other(cluster: Cluster, tmp_path: Path) -> None:
    at_a_place(cluster, tmp_path, rights_go_and_come_back, rights_go_while_it_serves, a_namespace_goes_with_its_rights)
