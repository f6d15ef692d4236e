"""The documents that the whole-system tests apply, as short as each test needs them. Knows the API and no system."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]

#: A template's text that reads nothing.
PLAIN = "#cloud-config\nruncmd: [serve]\n"
#: Reads which machine it is: none is like another.
OWN = "#cloud-config\nruncmd: ['{{ instance.index }}']\n"
#: Seconds that machines which are to fall ill have to start.
STARTUP = 100


def _document(kind: str, name: str, **parts: Any) -> Document:
    version = "v1" if kind in ("Secret", "ConfigMap") else "occopus.io/v1alpha1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "default"}, **parts}


def cloud(name: str = "sim", account: str = "a1", *, secret: str = "", **spec: Any) -> Document:
    arm: Document = {"account": account, "region": "r1"}
    if secret:
        arm["credentials"] = {"secretRef": {"name": secret}}
    return _document("Cloud", name, spec={"simulated": arm, **spec})


def implementation(name: str = "one", on: str = "sim", **fields: Any) -> Document:
    return {"name": name, "cloudRef": {"name": on}, "simulated": {"image": "debian", **fields}}


def template(name: str, text: str = PLAIN, *, on: str = "sim", **spec: Any) -> Document:
    """A template with one probe; `health` overrides fields of its health, a probe's among them."""
    health: Document = spec.pop("health", {})
    probe = {"name": "up", "tcp": {"port": 80}, **health.pop("probe", {})}
    return _document(
        "InstanceTemplate",
        name,
        spec={
            "implementations": [implementation(on=on)],
            "context": {"cloudInit": {"template": text}},
            "health": {"probes": [probe], **health},
            **spec,
        },
    )


def service(name: str, *needs: str, **fields: Any) -> Document:
    found: Document = {"name": name, "templateRef": {"name": name}, **fields}
    if needs:
        found["dependsOn"] = [{"service": each} for each in needs]
    return found


def infrastructure(*services: Document, name: str = "shop", **spec: Any) -> Document:
    return _document("Infrastructure", name, spec={"services": list(services), **spec})


def config(name: str, **data: str) -> Document:
    return _document("ConfigMap", name, data=data)


def secret(name: str, **data: str) -> Document:
    return _document("Secret", name, stringData=data)


def alone(number: int = 1, **fields: Any) -> list[Document]:
    """One service `app` that depends on nothing."""
    return [cloud(), template("app"), infrastructure(service("app", scaling={"min": number}, **fields))]


def ill(number: int = 1, startup: int = STARTUP) -> list[Document]:
    """One service `app` whose probe asks often: four failures in a row, 20 s, are too many."""
    return [
        cloud(),
        template("app", health={"startupSeconds": startup, "probe": {"periodSeconds": 5, "failureThreshold": 4}}),
        infrastructure(service("app", scaling={"min": number})),
    ]


def chain(**spec: Any) -> list[Document]:
    """db, two app that depend on it, web that depends on app; app is told db's address, web the addresses of app."""
    return [
        cloud(),
        template("db"),
        template("app", "#cloud-config\nruncmd: ['{{ services.db.address }}']\n"),
        template("web", "#cloud-config\nruncmd: ['{{ services.app.addresses | join(\",\") }}']\n"),
        infrastructure(service("db"), service("app", "db", scaling={"min": 2, "max": 5}), service("web", "app"), **spec),
    ]


def many(number: int, text: str = PLAIN) -> list[Document]:
    """One service of so many machines."""
    return [cloud(maxInstances=1000), template("app", text), infrastructure(service("app", scaling={"min": number}))]


__all__ = [
    "OWN",
    "PLAIN",
    "STARTUP",
    "Document",
    "alone",
    "chain",
    "cloud",
    "config",
    "ill",
    "implementation",
    "infrastructure",
    "many",
    "secret",
    "service",
    "template",
]
