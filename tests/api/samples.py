"""Good objects of every kind with every field set, and a driver to stitch in that has what real ones have."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from controller.api.meta import API_VERSION, Address, LocalReference, Model, exactly_one, rules
from controller.ports import CloudConfig, CloudDriver, CloudPlugin, Obj

OWNER_UID = "11111111-2222-3333-4444-555555555555"
TIME = "2026-01-02T03:04:05Z"


class AcmeCredentials(Model):
    secret_ref: LocalReference = Field(description="Where the keys are.")


class AcmeCloud(Model):
    """An account at Acme."""

    region: str = Field(description="The region.", min_length=1, max_length=32)
    endpoint: str | None = Field(default=None, description="Another endpoint.", max_length=256)
    credentials: AcmeCredentials | None = Field(default=None, description="The keys.")


class AcmeImage(Model):
    model_config = ConfigDict(json_schema_extra=rules(exactly_one(("id", "name"), "which image")))
    id: str | None = Field(default=None, description="By id.", max_length=64)
    name: str | None = Field(default=None, description="By name.", max_length=64)


class AcmeMachine(Model):
    """A machine at Acme."""

    image: AcmeImage = Field(description="What it boots.")
    size: Literal["small", "large"] = Field(default="small", description="How big it is.")
    disk_gib: int = Field(default=10, description="Size of its disk.", gt=0, lt=1000)
    groups: tuple[Address, ...] = Field(default=(), description="Security groups.", max_length=4)


def _never(config: CloudConfig) -> CloudDriver:
    raise AssertionError(f"nothing here opens a driver: {config.spec}")


ACME = CloudPlugin("acme", AcmeCloud, AcmeMachine, _never)
BETA = CloudPlugin("beta", AcmeMachine, AcmeMachine, _never)
PLUGINS = (ACME, BETA)


def condition(type: str = "Ready") -> Obj:
    return {
        **{"type": type, "status": "True", "observedGeneration": 1, "lastTransitionTime": TIME},
        **{"reason": "Ready", "message": "all is well"},
    }


def variables() -> list[Obj]:
    return [
        {"name": "domain", "value": "example.org"},
        {"name": "password", "valueFrom": {"secretKeyRef": {"name": "secrets", "key": "db"}}},
        {"name": "motd", "valueFrom": {"configMapKeyRef": {"name": "texts", "key": "motd.txt"}}},
    ]


def implementation() -> Obj:
    return {
        "name": "main",
        "cloudRef": {"name": "acme-north"},
        "acme": {"image": {"id": "img-1"}, "size": "large", "diskGib": 20, "groups": ["sg-1"]},
    }


def health() -> Obj:
    http = {
        **{"port": 80, "path": "/healthz?x=1", "method": "HEAD", "scheme": "HTTPS", "headers": [{"name": "X-Probe", "value": "yes"}]},
        **{"statusMin": 200, "statusMax": 204, "bodyContains": "ok"},
    }
    timing: Obj = {"periodSeconds": 5, "timeoutSeconds": 2, "failureThreshold": 4}
    probes: list[Obj] = [
        {"name": "page", "http": http, **timing},
        {"name": "port", "tcp": {"port": 22}, **timing},
        {"name": "ping", "icmp": {}, **timing},
    ]
    return {"startupSeconds": 300, "address": "Public", "probes": probes}


def _metadata(name: str) -> Obj:
    return {
        **{"name": name, "namespace": "default", "labels": {"app.example.org/part": "a"}, "annotations": {"note": "Any text, ünïcode too"}},
        "finalizers": ["occopus.io/controller"],
    }


def _object(kind: str, name: str, spec: Obj, status: Obj | None = None) -> Obj:
    made: Obj = {"apiVersion": API_VERSION, "kind": kind, "metadata": _metadata(name), "spec": spec}
    return made if status is None else {**made, "status": {"observedGeneration": 1, "conditions": [condition()], **status}}


def cloud() -> Obj:
    arm = {"region": "north-1", "endpoint": "https://acme.example.org", "credentials": {"secretRef": {"name": "acme"}}}
    account = {"kind": "acme", "id": "4711", "region": "north-1", "endpoint": "https://acme.example.org"}
    return _object("Cloud", "acme-north", {"maxInstances": 5, "acme": arm}, {"account": account, "controllerId": "mine", "machines": 3})


def template() -> Obj:
    context = {"cloudInit": {"template": "#cloud-config\n{}\n"}}
    return _object(
        "InstanceTemplate",
        "web",
        {"implementations": [implementation()], "context": context, "variables": variables(), "health": health()},
    )


def infrastructure() -> Obj:
    web = {
        **{"name": "web", "templateRef": {"name": "web"}, "scaling": {"min": 2, "max": 10}},
        **{"dependsOn": [{"service": "db", "onChange": "Replace"}], "variables": variables()},
    }
    spec = {
        **{"id": "shop-1", "paused": False, "variables": variables()},
        "services": [{"name": "db", "templateRef": {"name": "mariadb"}, "replicas": 1}, web],
    }
    service = {"name": "db", "replicas": 1, "ready": 0, "reason": "Booting", "message": "machine m-1 is pending", "address": "10.0.0.1"}
    return _object("Infrastructure", "shop", spec, {"services": [service], "ready": "0/2", "phase": "Starting", "why": "Booting: db"})


def group() -> Obj:
    spec = {
        **{"infrastructure": {"name": "shop", "id": "shop-1"}, "service": "web", "replicas": 2, "fixedReplicas": 2, "paused": False},
        **{"scaling": {"min": 1, "max": 4}, "templateRef": {"name": "web"}, "dependsOn": [{"service": "db", "onChange": "Report"}]},
        "variables": variables(),
    }
    status = {
        **{"replicas": 2, "readyReplicas": 1, "updatedReplicas": 2, "selector": "occopus.io/group=shop-web", "dependenciesMet": ["db"]},
        **{"revision": "shop-web-1", "replacement": {"consecutive": 1, "time": TIME}, "addresses": ["10.0.0.2"], "reason": "Booting"},
    }
    return _object("InstanceGroup", "shop-web", spec, status)


def instance() -> Obj:
    spec = {
        **{"infrastructure": {"name": "shop", "id": "shop-1"}, "service": "web", "index": 0, "revision": "shop-web-1"},
        **{"batch": {"id": "b-1", "index": 0, "size": 1}, "implementation": implementation(), "health": health()},
        "inputs": {"variables": {"domain": "example.org"}, "services": {"db": {"addresses": ["10.0.0.1"]}}},
    }
    machine = {"id": "m-1", "state": "running", "privateAddresses": ["10.0.0.2"], "publicAddresses": ["192.0.2.1"]}
    status = {
        **{"phase": "Ready", "launch": {"digest": "sha256:00", "fence": "port-1", "time": TIME}, "machine": machine},
        **{"address": "10.0.0.2", "readyTime": TIME},
    }
    return _object("Instance", "shop-web-0", spec, status)


def secret() -> Obj:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": _metadata("acme"), "type": "Opaque", "data": {"key": "c2VjcmV0"}}


def config_map() -> Obj:
    return {
        **{"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata("texts"), "data": {"motd.txt": "hello"}},
        "binaryData": {"logo": "AAEC"},
    }


def revision() -> Obj:
    return {
        **{"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": _metadata("shop-web-1"), "revision": 1},
        "data": {"spec": {"anything": [1, "two", None]}},
    }


GOOD: dict[str, Any] = {
    **{"Cloud": cloud, "InstanceTemplate": template, "Infrastructure": infrastructure, "InstanceGroup": group, "Instance": instance},
    **{"Secret": secret, "ConfigMap": config_map, "ControllerRevision": revision},
}
