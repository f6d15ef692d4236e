"""`InstanceTemplate`: how one VM of a service is made. It has no status; groups snapshot it to revisions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from controller.api.meta import (
    ConfigMapKeyRef,
    LocalReference,
    Metadata,
    Model,
    Name,
    Variable,
    exactly_one,
    first_arm,
    list_map,
    rules,
    variables_field,
)

Port = Annotated[int, Field(ge=1, le=65535)]


class Implementation(Model):
    """One way to make the machine: a Cloud and that cloud's own fields, as an extra field named by its kind."""

    model_config = ConfigDict(extra="allow")
    name: Name = Field(description="Name of this implementation, unique in its list.")
    cloud_ref: LocalReference = Field(description="The Cloud it is made on.")

    def arm(self) -> tuple[str, dict[str, Any]]:
        """The kind of cloud and its fields."""
        return first_arm(self.model_extra)


class CloudInit(Model):
    """cloud-init user data, rendered from a Jinja2 template."""

    model_config = ConfigDict(json_schema_extra=rules(exactly_one(("template", "configMapRef"), "where the template comes from")))
    template: str | None = Field(default=None, description="The template itself.", max_length=65536)
    config_map_ref: ConfigMapKeyRef | None = Field(default=None, description="A key of a ConfigMap that holds the template.")


class Context(Model):
    """Contextualisation: what a new machine is told."""

    cloud_init: CloudInit | None = Field(default=None, description="User data for cloud-init.")


class TcpProbe(Model):
    port: Port = Field(description="A connection to this port is accepted.")


class HttpHeader(Model):
    name: str = Field(description="Name of the header.", min_length=1, max_length=128, pattern=r"^[-A-Za-z0-9]+$")
    value: str = Field(description="Its value.", max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")


class HttpProbe(Model):
    """A request is answered as expected. Redirects are answers like others: they are not followed."""

    port: Port = Field(description="Port to ask.")
    path: str = Field(default="/", description="Path and query to ask for.", max_length=1024, pattern=r"^/[!-~]*$")
    method: Literal["GET", "HEAD", "POST"] = Field(default="GET", description="Method of the request.")
    scheme: Literal["HTTP", "HTTPS"] = Field(default="HTTP", description="HTTPS does not check the certificate: machines sign their own.")
    headers: tuple[HttpHeader, ...] = Field(
        default=(), description="Headers of the request.", max_length=16, json_schema_extra=list_map("name")
    )
    status_min: int = Field(default=200, description="Lowest status code that passes.", ge=100, le=599)
    status_max: int = Field(default=399, description="Highest status code that passes.", ge=100, le=599)
    body_contains: str | None = Field(default=None, description="A text that the first 64 KiB of the body must contain.", max_length=1024)


class IcmpProbe(Model):
    """An echo request is answered."""


class Probe(Model):
    """One health check. It passes after one success and fails after `failureThreshold` failures in a row."""

    model_config = ConfigDict(json_schema_extra=rules(exactly_one(("tcp", "http", "icmp"), "what is checked")))
    name: Name = Field(description="Name of this probe, unique in its list.")
    tcp: TcpProbe | None = Field(default=None, description="Connects to a port.")
    http: HttpProbe | None = Field(default=None, description="Asks an HTTP server.")
    icmp: IcmpProbe | None = Field(default=None, description="Sends an ICMP echo request (ping).")
    period_seconds: int = Field(default=10, description="Time between two checks of a healthy machine.", ge=1, le=3600)
    timeout_seconds: int = Field(default=3, description="How long an answer may take.", ge=1, le=5)
    failure_threshold: int = Field(default=3, description="Failures in a row that make a healthy machine unhealthy.", ge=1, le=100)


class Health(Model):
    """When a machine counts as healthy: all probes pass. Without probes, when its cloud says that it runs."""

    startup_seconds: int = Field(default=600, description="A new machine that is not healthy by then is replaced.", ge=1, le=86400)
    address: Literal["Private", "Public"] = Field(default="Private", description="Which address of the machine is probed.")
    probes: tuple[Probe, ...] = Field(default=(), description="The health checks.", max_length=10, json_schema_extra=list_map("name"))


class InstanceTemplateSpec(Model):
    """How one VM of a service is made."""

    implementations: tuple[Implementation, ...] = Field(
        description="Ways to make the machine, tried in order.", min_length=1, max_length=20, json_schema_extra=list_map("name")
    )
    context: Context | None = Field(default=None, description="What a new machine is told.")
    variables: tuple[Variable, ...] = variables_field("under those of the service and of the infrastructure")
    health: Health | None = Field(default=None, description="When a machine counts as healthy.")


class InstanceTemplate(Model):
    """How one VM of a service is made: implementations (one per cloud or size), context, health."""

    metadata: Metadata
    spec: InstanceTemplateSpec


__all__ = ["Context", "Health", "Implementation", "InstanceTemplate", "InstanceTemplateSpec", "Probe"]
