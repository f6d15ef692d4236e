"""A description in which every field that a user may write is set, for a kind of cloud: the base of what is changed and changed back.

Services app and db, where app depends on db, and cache, which has a fixed number and db's template. `tests/system/trial.py` applies
it on the simulated cloud, `tests/cluster/test_operator_fields.py` on the local one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.api import meta
from tests.system import mutations
from tests.system.documents import Document, config, infrastructure, secret, service

#: How many machines each service has.
NUMBERS = {"app": 2, "db": 1, "cache": 1}
#: What no schema tells. 10,000 machines would take minutes to be made and ended; what keeps them from it (maxInstances) holds at
#: this number too.
HINTS = mutations.Hints(
    maxima={"Infrastructure.spec.services[].replicas": 12},
    values={"Infrastructure.spec.services[].dependsOn[].service": "cache"},
)
_SECRET = {"valueFrom": {"secretKeyRef": {"name": "words", "key": "word"}}}
_CONFIG = {"valueFrom": {"configMapKeyRef": {"name": "texts", "key": "word"}}}
_READ = " ".join(f"{{{{ variables.{prefix}_{sort} | tojson }}}}" for prefix in "tsi" for sort in ("plain", "secret", "config"))
_HTTP = {
    **{"path": "/", "method": "GET", "scheme": "HTTP", "headers": [{"name": "X-Probe", "value": "yes"}]},
    **{"statusMin": 200, "statusMax": 399, "bodyContains": "<html"},
}


@dataclass(frozen=True, slots=True)
class Setting:
    """A kind of cloud: the fields of its Cloud, of its machines, what a machine of app runs to serve, and what it is probed with."""

    kind: str
    cloud: Document
    machine: Document
    serve: str = "serve"
    port: int = 80
    db_probes: list[Document] = field(default_factory=list[Document])


def described(setting: Setting) -> list[Document]:
    """The documents, with the Secret that a Cloud may name (`account`)."""
    page = {"name": "page", "http": {"port": setting.port, **_HTTP}, "periodSeconds": 10, "timeoutSeconds": 3, "failureThreshold": 3}
    port = {"name": "port", "tcp": {"port": setting.port}}
    text = f"#cloud-config\nruncmd:\n- {setting.serve}\n# {{{{ services.db.address }}}} {_READ}\n"
    app = service("app", "db", scaling={"min": 2, "max": 4}, variables=_variables("s"))
    app["dependsOn"][0]["onChange"] = "Report"
    return [
        secret("account", password="right"),
        secret("words", word="secret"),
        config("texts", word="from a map", user="#cloud-config\nruncmd: [echo db]\n"),
        _document("Cloud", {"name": "here"}, {"maxInstances": 7, setting.kind: setting.cloud}),
        _template(setting, "app", {"template": text}, [page, port], variables=_variables("t")),
        _template(setting, "db", {"configMapRef": {"name": "texts", "key": "user"}}, setting.db_probes),
        infrastructure(
            *(app, service("db"), {**service("cache", replicas=1), "templateRef": {"name": "db"}}),
            id="shop-1",
            paused=False,
            variables=_variables("i"),
        ),
    ]


def objects(setting: Setting) -> list[Document]:
    """All that a user may write once that has come up: with what the controller made of it, and its finalizers."""
    labels = {f"occopus.io/{name}": value for name, value in (("infrastructure", "shop"), ("service", "app"))}
    own: Document = {"namespace": "default", "finalizers": [meta.FINALIZER]}
    owned: Document = {"infrastructure": {"name": "shop", "id": "shop-1"}, "service": "app"}
    group: Document = {**owned, "replicas": 2, "scaling": {"min": 2, "max": 4}, "templateRef": {"name": "app"}}
    batch = {"id": "b", "index": 0, "size": 1}
    instance: Document = {**owned, "index": 0, "batch": batch, "implementation": _implementation(setting)}
    written = [each for each in described(setting) if each["kind"] in mutations.WRITTEN]
    for each in written:
        if each["kind"] != "InstanceTemplate":
            each["metadata"] = {**each["metadata"], **own}
    return [
        *written,
        _document("InstanceGroup", {"name": "shop-app", "labels": labels, **own}, group),
        _document("Instance", {"name": "shop-app-0", "labels": {**labels, meta.GROUP_LABEL: "shop-app"}, **own}, instance),
    ]


def _variables(prefix: str) -> list[Document]:
    """One of each sort; app's template reads them all."""
    return [{"name": f"{prefix}_plain", "value": "plain"}, {"name": f"{prefix}_secret", **_SECRET}, {"name": f"{prefix}_config", **_CONFIG}]


def _template(setting: Setting, name: str, cloud_init: Document, probes: list[Document], **spec: object) -> Document:
    health: Document = {"startupSeconds": 300, "address": "Private", "probes": probes}
    given = {"implementations": [_implementation(setting)], "context": {"cloudInit": cloud_init}, "health": health}
    return _document("InstanceTemplate", {"name": name}, {**given, **spec})


def _implementation(setting: Setting) -> Document:
    return {"name": "one", "cloudRef": {"name": "here"}, setting.kind: setting.machine}


def _document(kind: str, metadata: Document, spec: Document) -> Document:
    return {"apiVersion": meta.API_VERSION, "kind": kind, "metadata": {"namespace": "default", **metadata}, "spec": spec}


__all__ = ["HINTS", "NUMBERS", "Setting", "described", "objects"]
