"""The Kubernetes home for the contract suite: a namespace of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from controller.ports import Now, Store
from controller.stores import access
from controller.stores.kubernetes import KubernetesStore
from tests.cluster.fixtures import Cluster
from tests.cluster.namespace import InNamespace, Source


@asynccontextmanager
async def opened(cluster: Cluster, now: Now) -> AsyncGenerator[Store]:
    async with access.session(cluster.access) as session:
        namespace = await cluster.namespace(session)
        store = KubernetesStore(cluster.access, session, namespaces=(namespace,), now=now)
        source = Source(cluster, session, namespace, store.observe)
        try:
            yield InNamespace(store, namespace, source)
        finally:
            await source.stop()
