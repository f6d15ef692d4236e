"""The `occopus` command over a namespace of a real API server, and the objects of `tests/api/samples.py` in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from click.testing import CliRunner, Result

from controller.api.meta import API_VERSION
from controller.cli import main
from controller.engine.objects import key_of
from controller.ports import Obj
from controller.stores import access
from controller.stores.kubernetes import KubernetesStore
from tests.api import samples
from tests.cluster.fixtures import Cluster

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Command:
    """The command as its user types it, over one namespace."""

    cluster: Cluster
    namespace: str
    directory: Path

    def run(self, *arguments: str, kubeconfig: Path | None = None, namespace: str | None = None) -> Result:
        place = ("--kubeconfig", str(kubeconfig or self.cluster.plane.kubeconfig), "-n", namespace or self.namespace)
        return CliRunner().invoke(main.cli, [*place, *arguments])

    def done(self, *arguments: str, kubeconfig: Path | None = None) -> str:
        """What it prints; it must succeed."""
        result = self.run(*arguments, kubeconfig=kubeconfig)
        assert result.exit_code == 0, result.output
        return result.stdout

    def refused(self, code: int, *arguments: str, kubeconfig: Path | None = None, namespace: str | None = None) -> str:
        """What it says on standard error; it must end with this exit code."""
        result = self.run(*arguments, kubeconfig=kubeconfig, namespace=namespace)
        assert result.exit_code == code, result.output
        return result.stderr

    def file(self, *documents: Obj) -> str:
        path = self.directory / "documents.yaml"
        path.write_text(yaml.safe_dump_all(documents))
        return str(path)

    def store(self, work: Callable[[KubernetesStore], Awaitable[T]]) -> T:
        """Do something there as the admin."""

        async def within() -> T:
            async with access.session(self.cluster.access) as session:
                return await work(KubernetesStore(self.cluster.access, session))

        return asyncio.run(within())

    def make(self, *objects: Obj, owner: Obj | None = None) -> Obj:
        """Make objects with their status; the last of them."""

        async def work(store: KubernetesStore) -> Obj:
            return [await self._made(store, each, owner) for each in objects][-1]

        return self.store(work)

    async def _made(self, store: KubernetesStore, obj: Obj, owner: Obj | None) -> Obj:
        metadata = {**obj["metadata"], "namespace": self.namespace}
        if owner is not None:
            owned = {"apiVersion": API_VERSION, "kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
            metadata["ownerReferences"] = [owned]
        made = await store.create({**obj, "metadata": metadata})
        if "status" not in obj:
            return made
        return await store.patch(key_of(made), {"status": obj["status"]}, version=made["metadata"]["resourceVersion"], subresource="status")

    def change(self, obj: Obj, patch: Obj, subresource: Any = "") -> Obj:
        """Merge a patch into an object as it is now."""

        async def work(store: KubernetesStore) -> Obj:
            seen = await store.get(key_of(obj))
            return await store.patch(key_of(obj), patch, version=seen["metadata"]["resourceVersion"], subresource=subresource)

        return self.store(work)

    def shop(self) -> tuple[Obj, Obj, Obj]:
        """The Infrastructure `shop` with one service `web`, its group and that group's one Instance, all Ready."""
        described = samples.infrastructure()
        described["spec"]["services"] = [{"name": "web", "templateRef": {"name": "web"}}]
        described["status"] |= {"services": [], "phase": "Ready"}
        infrastructure = self.make(described)
        wanted = samples.group()
        wanted["spec"] |= {"replicas": 1, "fixedReplicas": 1, "scaling": None, "dependsOn": []}
        group = self.make(wanted, owner=infrastructure)
        return infrastructure, group, self.make(samples.instance(), owner=group)

    def as_user(self, user: str, *rules: Obj) -> Path:
        """The kubeconfig of a user who may do this in this namespace, and nothing else."""
        asyncio.run(self._grant(user, rules))
        path = self.directory / f"{user}.kubeconfig"
        self.cluster.plane.write_kubeconfig(path, user)
        return path

    async def _grant(self, user: str, rules: tuple[Obj, ...]) -> None:
        place = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.namespace}"
        group = "rbac.authorization.k8s.io"
        role = {"metadata": {"name": user}, "rules": list(rules)}
        binding = {
            **{"metadata": {"name": user}, "roleRef": {"apiGroup": group, "kind": "Role", "name": user}},
            "subjects": [{"kind": "User", "name": user, "apiGroup": group}],
        }
        async with access.session(self.cluster.access) as session:
            for resource, body in (("roles", role), ("rolebindings", binding)):
                made = await self.cluster.ask(session, "POST", f"{place}/{resource}", body)
                assert made.code == 201, made

    def services(self, *names: str) -> dict[str, Any]:
        """Service → its row in `status -o json`."""
        (found,) = json.loads(self.run("status", *names, "-o", "json").stdout)["infrastructures"]
        return {each["name"]: each for each in found["services"]}


def command(cluster: Cluster, directory: Path) -> Command:
    """Over a namespace that nobody had before."""

    async def namespace() -> str:
        async with access.session(cluster.access) as session:
            return await cluster.namespace(session)

    return Command(cluster, asyncio.run(namespace()), directory)
