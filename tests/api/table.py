"""The table of good and bad objects: what is asked of every home of the objects, with verdict and the fields named.

A row starts from a good object and sets some paths (or removes them). `creates` rows are made, `updates` rows are a change
of the good object that stands already. The words of a refusal are each home's; the fields are not.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, cast

from controller.ports import Obj
from tests.api import samples

REMOVED: Any = object()


@dataclass(frozen=True, slots=True)
class Row:
    """`refused` are the fields that a refusal names, all of them; empty where the object is taken.

    `server` are those that an API server names, where its decoder cannot tell more: it stops at what it cannot decode, and knows
    a map's name but not the key.
    """

    id: str
    kind: str
    changes: dict[str, Any]
    refused: frozenset[str] = frozenset()
    base: dict[str, Any] = field(default_factory=dict[str, Any])
    server: frozenset[str] | None = None

    @property
    def refused_by_server(self) -> frozenset[str]:
        return self.refused if self.server is None else self.server

    def old(self) -> Obj:
        return changed(
            samples.GOOD[self.kind](), {path: value if value is REMOVED else deepcopy(value) for path, value in self.base.items()}
        )

    def new(self) -> Obj:
        return changed(self.old(), self.changes)


def changed(obj: Obj, changes: dict[str, Any]) -> Obj:
    """Set or remove what the paths name (`spec.services.0.name`); changes `obj` and returns it."""
    for path, value in changes.items():
        *parents, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        place: Any = obj
        for step in parents:
            place = place[step]
        if value is REMOVED:
            del place[last]
        elif isinstance(place, list) and last == len(cast(list[Any], place)):
            cast(list[Any], place).append(value)
        else:
            cast(Obj, place)[cast(str, last)] = value
    return obj


def good(id: str, kind: str, base: dict[str, Any] | None = None, /, **changes: Any) -> Row:
    return Row(id, kind, {path.replace("__", "."): value for path, value in changes.items()}, base=base or {})


def _bad(id: str, kind: str, changes: dict[str, Any], *refused: str, base: dict[str, Any] | None = None) -> Row:
    return Row(id, kind, changes, frozenset(refused), base or {})


def _undecodable(id: str, kind: str, changes: dict[str, Any], *refused: str, server: str) -> Row:
    return Row(id, kind, changes, frozenset(refused), server=frozenset((server,)))


_LONG = "x" * 64
_SERVICE = {"name": "cache", "templateRef": {"name": "cache"}}

#: A Cloud and a template of the ec2 driver, with every field set.
_EC2_CLOUD: dict[str, Any] = {
    "spec.acme": REMOVED,
    "spec.ec2": {"region": "eu-west-1", "endpoint": "https://ec2.example.org:8443/ec2", "credentials": {"secretRef": {"name": "aws"}}},
}
_EC2_MACHINE: Obj = {
    **{"image": {"name": "debian-12 (amd64)", "owner": "136693071363"}, "instanceType": "m7g.metal-48xl", "keyName": "Ana's key"},
    **{"subnet": {"id": "subnet-0a1b2c3d"}, "zone": "us-west-2-lax-1a", "securityGroups": [{"id": "sg-0a1b2c3d"}, {"name": "web (all)"}]},
    **{"publicAddress": False, "iamInstanceProfile": {"name": "web+db"}, "imds": "Optional", "spot": {"maxPrice": "0.0125"}},
    "rootVolume": {"device": "/dev/xvda", "sizeGiB": 20, "type": "gp3", "iops": 3000, "throughputMiBps": 125, "encrypted": True},
    "volumes": [{"device": "/dev/sdf", "sizeGiB": 500, "type": "st1", "encrypted": False}],
    "tags": {"cost-centre": "4711", "awsome": "", "Names": "all"},
}
_EC2: dict[str, Any] = {"spec.implementations.0.acme": REMOVED, "spec.implementations.0.ec2": _EC2_MACHINE}


def _ec2_good(id: str, **changes: Any) -> Row:
    return Row(
        id,
        "InstanceTemplate",
        {f"spec.implementations.0.ec2.{path.replace('__', '.')}": value for path, value in changes.items()},
        base=_EC2,
    )


def _ec2_bad(id: str, field: str, value: Any, refused: str | None = None) -> Row:
    """A template whose ec2 field has that value; refused is another field, where it is not that one."""
    place = "spec.implementations.0.ec2"
    named = re.sub(r"\.(\d+)", r"[\1]", f"{place}.{field if refused is None else refused}".rstrip("."))
    return Row(id, "InstanceTemplate", {f"{place}.{field}": value}, frozenset((named,)), _EC2)


CREATES: tuple[Row, ...] = (
    *(good(f"{kind}-whole", kind) for kind in samples.GOOD),
    # metadata
    _bad("name-missing", "Cloud", {"metadata.name": REMOVED}, "metadata.name"),
    _bad("name-upper-case", "Cloud", {"metadata.name": "Acme"}, "metadata.name"),
    _bad("name-underscore", "Secret", {"metadata.name": "a_b"}, "metadata.name"),
    _bad("name-newline", "Cloud", {"metadata.name": "acme\n"}, "metadata.name"),
    _bad("name-long", "Cloud", {"metadata.name": "x" * 254}, "metadata.name"),
    good("name-longest", "Cloud", metadata__name="x" * 253),
    good("name-dots", "Cloud", metadata__name="a.b-c.d"),
    _undecodable("label-no-text", "Cloud", {"metadata.labels": {"a": 1}}, "metadata.labels.a", server="metadata.labels"),
    _bad("label-value-long", "Cloud", {"metadata.labels": {"a": _LONG}}, "metadata.labels"),
    _bad("label-key-spaces", "Cloud", {"metadata.labels": {"a b": "c"}}, "metadata.labels"),
    _bad("labels-a-list", "Cloud", {"metadata.labels": ["a"]}, "metadata.labels"),
    _undecodable(
        *("annotation-no-text", "Cloud", {"metadata.annotations": {"a": True}}, "metadata.annotations.a"), server="metadata.annotations"
    ),
    _bad("annotations-large", "Cloud", {"metadata.annotations": {"a": "x" * 262_144}}, "metadata.annotations"),
    _bad("finalizer-spaces", "Cloud", {"metadata.finalizers": ["a b"]}, "metadata.finalizers"),
    _bad(
        *("owner-without-uid", "Instance", {"metadata.ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x"}]}),
        "metadata.ownerReferences.uid",
    ),
    _bad("metadata-unknown", "Cloud", {"metadata.lables": {"a": "b"}}, "metadata.lables"),
    # the root
    _bad("root-unknown", "Cloud", {"specs": {}}, "specs"),
    _bad("spec-missing", "Cloud", {"spec": REMOVED}, "spec"),
    _bad("spec-null", "Instance", {"spec": None}, "spec"),
    _bad("kind-unknown", "Cloud", {"kind": "Clod"}, "kind"),
    _bad("version-unknown", "Cloud", {"apiVersion": "occopus.io/v9"}, "apiVersion"),
    _bad("template-status", "InstanceTemplate", {"status": {}}, "status"),
    # Cloud
    _bad("cloud-no-arm", "Cloud", {"spec.acme": REMOVED}, "spec"),
    _bad("cloud-two-arms", "Cloud", {"spec.beta": {"image": {"id": "i"}}}, "spec"),
    _bad("cloud-arm-unknown", "Cloud", {"spec.gamma": {}}, "spec.gamma"),
    _bad("cloud-arm-field-unknown", "Cloud", {"spec.acme.regoin": "x"}, "spec.acme.regoin"),
    _bad("cloud-region-missing", "Cloud", {"spec.acme.region": REMOVED}, "spec.acme.region"),
    _bad("cloud-region-empty", "Cloud", {"spec.acme.region": ""}, "spec.acme.region"),
    _bad("cloud-max-negative", "Cloud", {"spec.maxInstances": -1}, "spec.maxInstances"),
    _bad("cloud-max-text", "Cloud", {"spec.maxInstances": "5"}, "spec.maxInstances"),
    _bad("cloud-max-true", "Cloud", {"spec.maxInstances": True}, "spec.maxInstances"),
    _bad("cloud-max-half", "Cloud", {"spec.maxInstances": 1.5}, "spec.maxInstances"),
    good("cloud-max-null", "Cloud", spec__maxInstances=None),
    good("cloud-max-zero", "Cloud", spec__maxInstances=0),
    good("cloud-max-most", "Cloud", spec__maxInstances=100_000),
    _bad("cloud-max-more", "Cloud", {"spec.maxInstances": 100_001}, "spec.maxInstances"),
    # InstanceTemplate
    _bad("template-no-implementation", "InstanceTemplate", {"spec.implementations": []}, "spec.implementations"),
    _bad("template-two-arms", "InstanceTemplate", {"spec.implementations.0.beta": {"image": {"id": "i"}}}, "spec.implementations[0]"),
    _bad("template-no-arm", "InstanceTemplate", {"spec.implementations.0.acme": REMOVED}, "spec.implementations[0]"),
    _bad("template-name-twice", "InstanceTemplate", {"spec.implementations.1": samples.implementation()}, "spec.implementations[1]"),
    _bad(
        *("template-image-both", "InstanceTemplate", {"spec.implementations.0.acme.image": {"id": "i", "name": "n"}}),
        "spec.implementations[0].acme.image",
    ),
    _bad("template-disk-bound", "InstanceTemplate", {"spec.implementations.0.acme.diskGib": 0}, "spec.implementations[0].acme.diskGib"),
    _bad("template-size-strange", "InstanceTemplate", {"spec.implementations.0.acme.size": "huge"}, "spec.implementations[0].acme.size"),
    _bad("template-context-empty", "InstanceTemplate", {"spec.context.cloudInit": {}}, "spec.context.cloudInit"),
    _bad("template-text-long", "InstanceTemplate", {"spec.context.cloudInit.template": "x" * 65_537}, "spec.context.cloudInit.template"),
    good("template-text-longest", "InstanceTemplate", spec__context__cloudInit__template="x" * 65_536),
    _bad(
        *("template-text-and-map", "InstanceTemplate", {"spec.context.cloudInit.configMapRef": {"name": "a", "key": "b"}}),
        "spec.context.cloudInit",
    ),
    _bad("probe-none", "InstanceTemplate", {"spec.health.probes.1.tcp": REMOVED}, "spec.health.probes[1]"),
    _bad("probe-two", "InstanceTemplate", {"spec.health.probes.1.icmp": {}}, "spec.health.probes[1]"),
    _bad("probe-icmp-field", "InstanceTemplate", {"spec.health.probes.2.icmp": {"port": 1}}, "spec.health.probes[2].icmp.port"),
    _bad("probe-port-zero", "InstanceTemplate", {"spec.health.probes.1.tcp.port": 0}, "spec.health.probes[1].tcp.port"),
    _bad("probe-port-high", "InstanceTemplate", {"spec.health.probes.1.tcp.port": 65_536}, "spec.health.probes[1].tcp.port"),
    good("probe-port-highest", "InstanceTemplate", spec__health__probes__1__tcp__port=65_535),
    _bad("probe-timeout", "InstanceTemplate", {"spec.health.probes.0.timeoutSeconds": 6}, "spec.health.probes[0].timeoutSeconds"),
    _bad("probe-path", "InstanceTemplate", {"spec.health.probes.0.http.path": "healthz"}, "spec.health.probes[0].http.path"),
    _bad("probe-path-newline", "InstanceTemplate", {"spec.health.probes.0.http.path": "/\n"}, "spec.health.probes[0].http.path"),
    _bad("probe-name-twice", "InstanceTemplate", {"spec.health.probes.1.name": "page"}, "spec.health.probes[1]"),
    _bad(
        *("header-twice", "InstanceTemplate", {"spec.health.probes.0.http.headers.1": {"name": "X-Probe", "value": ""}}),
        "spec.health.probes[0].http.headers[1]",
    ),
    _bad(
        *("header-newline", "InstanceTemplate", {"spec.health.probes.0.http.headers.0": {"name": "X-Probe", "value": "a\nb"}}),
        "spec.health.probes[0].http.headers[0].value",
    ),
    _bad("startup-zero", "InstanceTemplate", {"spec.health.startupSeconds": 0}, "spec.health.startupSeconds"),
    # the fields of the ec2 driver
    good("ec2-cloud", "Cloud", _EC2_CLOUD),
    good("ec2-cloud-least", "Cloud", {"spec.acme": REMOVED, "spec.ec2": {"region": "us-gov-west-1"}}),
    _bad("ec2-region-missing", "Cloud", {"spec.ec2.region": REMOVED}, "spec.ec2.region", base=_EC2_CLOUD),
    _bad("ec2-region-dots", "Cloud", {"spec.ec2.region": "eu.west"}, "spec.ec2.region", base=_EC2_CLOUD),
    _bad("ec2-endpoint-no-url", "Cloud", {"spec.ec2.endpoint": "localhost:5000"}, "spec.ec2.endpoint", base=_EC2_CLOUD),
    _bad("ec2-endpoint-user", "Cloud", {"spec.ec2.endpoint": "https://me@example.org"}, "spec.ec2.endpoint", base=_EC2_CLOUD),
    _bad("ec2-endpoint-query", "Cloud", {"spec.ec2.endpoint": "https://example.org/?a"}, "spec.ec2.endpoint", base=_EC2_CLOUD),
    _bad(
        "ec2-secret-unnamed", "Cloud", {"spec.ec2.credentials": {"secretRef": {}}}, "spec.ec2.credentials.secretRef.name", base=_EC2_CLOUD
    ),
    _ec2_good("ec2-machine"),
    _ec2_good("ec2-image-id", image={"id": "ami-0a1b2c3d4e5f60718"}),
    _ec2_bad("ec2-image-both", "image.id", "ami-0a1b2c3d", "image"),
    _ec2_bad("ec2-image-neither", "image", {}),
    _ec2_bad("ec2-image-id-and-owner", "image", {"id": "ami-0a1b2c3d", "owner": "self"}),
    _ec2_bad("ec2-image-owner", "image.owner", "4711"),
    _ec2_bad("ec2-type-missing", "instanceType", REMOVED),
    _ec2_bad("ec2-type-one-word", "instanceType", "small"),
    _ec2_bad("ec2-subnet-both", "subnet.name", "front", "subnet"),
    _ec2_bad("ec2-group-neither", "securityGroups.0", {}),
    _ec2_bad("ec2-groups-17", "securityGroups", [{"name": f"g{n}"} for n in range(17)]),
    _ec2_bad("ec2-root-size-zero", "rootVolume.sizeGiB", 0),
    _ec2_bad("ec2-root-type", "rootVolume.type", "ssd"),
    _ec2_good("ec2-root-provisioned", rootVolume={"type": "io2", "iops": 256000, "encrypted": True, "kmsKeyId": "alias/data"}),
    _ec2_bad("ec2-root-provisioned-without-iops", "rootVolume", {"type": "io1"}),
    _ec2_bad("ec2-root-iops-of-what", "rootVolume", {"iops": 3000}),
    _ec2_bad("ec2-root-iops-none", "rootVolume", {"type": "io2", "iops": 99}, "rootVolume.iops"),
    _ec2_bad("ec2-root-iops-few", "rootVolume.iops", 2999, "rootVolume"),
    _ec2_bad("ec2-root-iops-many", "rootVolume", {"type": "io1", "iops": 64001}),
    _ec2_bad("ec2-volume-iops-many", "volumes.0", {"device": "/dev/sdf", "sizeGiB": 200, "iops": 80001}),
    _ec2_bad("ec2-root-throughput-of-what", "rootVolume", {"throughputMiBps": 125}),
    _ec2_bad("ec2-root-throughput-high", "rootVolume.throughputMiBps", 2001),
    _ec2_bad("ec2-root-key-and-plain", "rootVolume", {"kmsKeyId": "alias/data", "encrypted": False}),
    _ec2_bad("ec2-root-key-alone", "rootVolume", {"kmsKeyId": "alias/data"}),
    _ec2_good("ec2-volume-fast", volumes=[{"device": "/dev/sdf", "sizeGiB": 1, "iops": 16000, "throughputMiBps": 1000}]),
    _ec2_bad("ec2-volume-iops-of-hdd", "volumes.0.iops", 500, "volumes.0"),
    _ec2_bad("ec2-volume-throughput-of-hdd", "volumes.0.throughputMiBps", 500, "volumes.0"),
    _ec2_bad("ec2-volume-key-and-plain", "volumes.0.kmsKeyId", "alias/data", "volumes.0"),
    _ec2_bad(
        "ec2-volume-key", "volumes.0", {"device": "/dev/sdf", "sizeGiB": 1, "encrypted": True, "kmsKeyId": "a key"}, "volumes.0.kmsKeyId"
    ),
    _ec2_bad("ec2-hops-none", "imdsHopLimit", 0),
    _ec2_good("ec2-hops-of-a-container", imdsHopLimit=2),
    _ec2_bad("ec2-root-boots-not", "rootVolume.type", "st1"),
    _ec2_bad("ec2-volume-without-size", "volumes.0.sizeGiB", REMOVED),
    _ec2_bad("ec2-volume-twice", "volumes.1", {"device": "/dev/sdf", "sizeGiB": 1}),
    _ec2_bad("ec2-profile-both", "iamInstanceProfile.arn", "arn:aws:iam::123456789012:instance-profile/web", "iamInstanceProfile"),
    _ec2_bad("ec2-imds", "imds", "required"),
    _ec2_good("ec2-spot-at-any-price", spot={}),
    _ec2_bad("ec2-spot-price", "spot.maxPrice", "$1"),
    *(
        _ec2_bad(f"ec2-tag-{id}", "tags", {key: "x"})
        for id, key in (("aws", "aws:x"), ("AWS", "AWS:x"), ("own", "occopus.io/x"), ("name", "Name"))
    ),
    _ec2_bad("ec2-tag-long", "tags", {"a": "x" * 257}, "tags.a"),
    _ec2_bad("ec2-tags-31", "tags", {f"k{n}": "" for n in range(31)}),
    # variables
    _bad("variable-both", "Infrastructure", {"spec.variables.1.value": "x"}, "spec.variables[1]"),
    _bad("variable-neither", "Infrastructure", {"spec.variables.0.value": REMOVED}, "spec.variables[0]"),
    _bad("variable-name", "Infrastructure", {"spec.variables.0.name": "1st"}, "spec.variables[0].name"),
    _bad("variable-twice", "Infrastructure", {"spec.variables.1.name": "domain"}, "spec.variables[1]"),
    _bad(
        *("variable-two-sources", "Infrastructure", {"spec.variables.1.valueFrom.configMapKeyRef": {"name": "a", "key": "b"}}),
        "spec.variables[1].valueFrom",
    ),
    good("variable-empty-text", "Infrastructure", spec__variables__0__value=""),
    good("variable-any-text", "Infrastructure", spec__variables__0__value='{{ "ü\u2028\x00" }}'),
    _bad("variable-number", "Infrastructure", {"spec.variables.0.value": 5}, "spec.variables[0].value"),
    # Infrastructure
    _bad("services-missing", "Infrastructure", {"spec.services": REMOVED}, "spec.services"),
    good("services-none", "Infrastructure", spec__services=[]),
    _bad("services-101", "Infrastructure", {"spec.services": [{**_SERVICE, "name": f"s{n}"} for n in range(101)]}, "spec.services"),
    good("services-100", "Infrastructure", spec__services=[{**_SERVICE, "name": f"s{n}"} for n in range(100)]),
    _bad("service-twice", "Infrastructure", {"spec.services.1.name": "db", "spec.services.1.dependsOn": []}, "spec.services[1]"),
    _bad("service-unknown-dependency", "Infrastructure", {"spec.services.1.dependsOn.0.service": "dbs"}, "spec"),
    _bad("service-on-itself", "Infrastructure", {"spec.services.1.dependsOn.0.service": "web"}, "spec.services[1]"),
    _bad("service-dependency-twice", "Infrastructure", {"spec.services.1.dependsOn.1": {"service": "db"}}, "spec.services[1].dependsOn[1]"),
    _bad("service-replicas-and-scaling", "Infrastructure", {"spec.services.1.replicas": 2}, "spec.services[1]"),
    _bad("service-min-over-max", "Infrastructure", {"spec.services.1.scaling.min": 11}, "spec.services[1].scaling"),
    good("service-zero", "Infrastructure", spec__services__0__replicas=0),
    _bad("service-replicas-negative", "Infrastructure", {"spec.services.0.replicas": -1}, "spec.services[0].replicas"),
    _bad("service-template-missing", "Infrastructure", {"spec.services.0.templateRef": REMOVED}, "spec.services[0].templateRef"),
    _bad(
        "service-on-change", "Infrastructure", {"spec.services.1.dependsOn.0.onChange": "report"}, "spec.services[1].dependsOn[0].onChange"
    ),
    _bad("group-name-53", "Infrastructure", {"metadata.name": "x" * 50}, ""),
    good("group-name-52", "Infrastructure", metadata__name="x" * 48),
    _bad("id-empty", "Infrastructure", {"spec.id": ""}, "spec.id"),
    _bad("id-slash", "Infrastructure", {"spec.id": "a/b"}, "spec.id"),
    _undecodable(
        *("several-at-once", "Infrastructure", {"spec.id": "", "spec.services.0.replicas": "1", "spec.foo": 1, "metadata.name": "A"}),
        *("spec.id", "spec.services[0].replicas", "spec.foo", "metadata.name"),
        server="spec.foo",
    ),
    _bad(
        *("several-values", "Infrastructure", {"spec.id": "", "spec.services.0.replicas": "1", "metadata.name": "A"}),
        *("spec.id", "spec.services[0].replicas", "metadata.name"),
    ),
    # InstanceGroup
    _bad("group-replicas-missing", "InstanceGroup", {"spec.replicas": REMOVED}, "spec.replicas"),
    _bad("group-fixed", "InstanceGroup", {"spec.replicas": 3}, "spec"),
    good("group-free", "InstanceGroup", {"spec.fixedReplicas": REMOVED}, spec__replicas=3),
    _bad("group-negative", "InstanceGroup", {"spec.replicas": -1, "spec.fixedReplicas": REMOVED}, "spec.replicas"),
    # Instance
    _bad("instance-two-arms", "Instance", {"spec.implementation.beta": {"image": {"id": "i"}}}, "spec.implementation"),
    _bad("instance-batch-size", "Instance", {"spec.batch.size": 101}, "spec.batch.size"),
    good("instance-inputs-anything", "Instance", spec__inputs={"a": [1, None, {"b": False}], "ü": {}}),
    _bad("instance-inputs-a-list", "Instance", {"spec.inputs": []}, "spec.inputs"),
    # built-in kinds
    _undecodable("secret-no-base64", "Secret", {"data.key": "*"}, "data[key]", server=""),
    _undecodable("secret-number", "Secret", {"data": {"key": 1}}, "data.key", server="data"),
    _bad("secret-key", "Secret", {"data": {"a b": ""}}, "data[a b]"),
    _bad("secret-large", "Secret", {"data": {"a": "AAAA" * 349_526}}, "data"),
    good("secret-largest", "Secret", data={"a": "AAAA" * 349_525}),
    _undecodable("config-map-number", "ConfigMap", {"data": {"port": 80}}, "data.port", server="data"),
    _bad("config-map-large", "ConfigMap", {"data": {"a": "x" * 1_048_577}}, ""),
    good("revision-missing", "ControllerRevision", revision=REMOVED),
    _bad("revision-negative", "ControllerRevision", {"revision": -1}, "revision"),
)

UPDATES: tuple[Row, ...] = (
    *(good(f"{kind}-unchanged", kind) for kind in samples.GOOD),
    good("cloud-max", "Cloud", spec__maxInstances=6),
    _bad("cloud-kind", "Cloud", {"spec.acme": REMOVED, "spec.beta": {"image": {"id": "i"}}}, "spec"),
    _bad("cloud-region", "Cloud", {"spec.acme.region": "south-1"}, "spec"),
    _bad("cloud-endpoint", "Cloud", {"spec.acme.endpoint": "https://else.example.org"}, "spec"),
    _bad("cloud-endpoint-removed", "Cloud", {"spec.acme.endpoint": REMOVED}, "spec"),
    _bad("cloud-endpoint-added", "Cloud", {"spec.acme.endpoint": "https://e"}, "spec", base={"spec.acme.endpoint": REMOVED}),
    good("ec2-credentials", "Cloud", _EC2_CLOUD, spec__ec2__credentials=REMOVED),
    _bad("ec2-region", "Cloud", {"spec.ec2.region": "eu-west-2"}, "spec", base=_EC2_CLOUD),
    _bad("ec2-endpoint-removed", "Cloud", {"spec.ec2.endpoint": REMOVED}, "spec", base=_EC2_CLOUD),
    good("cloud-credentials", "Cloud", spec__acme__credentials={"secretRef": {"name": "other"}}),
    good("template-everything", "InstanceTemplate", spec__implementations__0__acme__size="small"),
    good("services-more", "Infrastructure", spec__services__2=_SERVICE),
    _bad("id-changed", "Infrastructure", {"spec.id": "shop-2"}, "spec"),
    _bad("id-removed", "Infrastructure", {"spec.id": REMOVED}, "spec"),
    _bad("id-added", "Infrastructure", {"spec.id": "late"}, "spec", base={"spec.id": REMOVED}),
    good("group-paused", "InstanceGroup", spec__paused=True),
    _bad("group-scaled-while-fixed", "InstanceGroup", {"spec.replicas": 4}, "spec"),
    _bad("instance-spec", "Instance", {"spec.index": 1}, "spec"),
    _bad("instance-inputs", "Instance", {"spec.inputs.variables.domain": "example.com"}, "spec"),
    _bad("instance-health", "Instance", {"spec.health": REMOVED}, "spec"),
    good("instance-status", "Instance", status__phase="Ending"),
    _bad("launch-changed", "Instance", {"status.launch.digest": "sha256:01"}, ""),
    _bad("launch-fence-changed", "Instance", {"status.launch.fence": "port-2"}, ""),
    _bad("launch-removed", "Instance", {"status.launch": REMOVED}, ""),
    _bad("launch-in-part", "Instance", {"status.launch.fence": REMOVED}, ""),
    _bad("status-removed", "Instance", {"status": REMOVED}, ""),
    _bad("status-null", "Instance", {"status": None}, ""),
    good("launch-written", "Instance", {"status.launch": REMOVED}, status__launch={"digest": "d", "time": samples.TIME}),
    good("launch-written-first", "Instance", {"status": REMOVED}, status={"launch": {"digest": "d", "time": samples.TIME}}),
    _bad("launch-half", "Instance", {"status.launch": {"digest": "d"}}, "status.launch.time", base={"status.launch": REMOVED}),
    _bad("condition-twice", "Instance", {"status.conditions.1": samples.condition()}, "status.conditions[1]"),
    _bad("condition-status", "Instance", {"status.conditions.0.status": "true"}, "status.conditions[0].status"),
    _bad("condition-time", "Instance", {"status.conditions.0.lastTransitionTime": "today"}, "status.conditions[0].lastTransitionTime"),
    _bad("status-unknown", "Instance", {"status.machines": 1}, "status.machines"),
    _bad("revision-data", "ControllerRevision", {"data": {}}, "data"),
    good("revision-number", "ControllerRevision", revision=2),
    good("secret-data", "Secret", data={"key": ""}),
    _bad("secret-type", "Secret", {"type": "Other"}, "type"),
    _bad("secret-frozen", "Secret", {"data": {"key": ""}}, "data", base={"immutable": True}),
    _bad("secret-thawed", "Secret", {"immutable": REMOVED}, "immutable", base={"immutable": True}),
    good("secret-frozen-labels", "Secret", {"immutable": True}, metadata__labels={"a": "b"}),
    _bad("config-map-frozen", "ConfigMap", {"data": {}}, "data", base={"immutable": True}),
    _bad("config-map-frozen-bytes", "ConfigMap", {"binaryData": REMOVED}, "binaryData", base={"immutable": True}),
    _bad("config-map-thawed", "ConfigMap", {"immutable": False}, "immutable", base={"immutable": True}),
)
