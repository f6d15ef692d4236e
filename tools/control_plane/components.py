"""How each program of the control plane is called: its options, with the reason of those that surprise.

plane.py calls it. Pure: it knows paths and ports, and starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.control_plane.ports import HOST, Ports

ETCD, API_SERVER, SECOND_API_SERVER, CONTROLLER_MANAGER = (
    "etcd",
    "kube-apiserver",
    "kube-apiserver-second",
    "kube-controller-manager",
)
# In the order of starting; they end in the reverse one.
MAIN = (ETCD, API_SERVER, CONTROLLER_MANAGER)

# No node, no volume and no cloud is here for these to work on.
_WITHOUT = ("node-ipam-controller", "node-lifecycle-controller", "taint-eviction-controller", "persistentvolume-attach-detach-controller")


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one control plane, all below one directory."""

    directory: Path

    @property
    def home(self) -> Path:
        """Everything but the kubeconfig."""
        return self.directory / "control-plane"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def kubectl(self) -> Path:
        return self.home / "bin" / "kubectl"

    @property
    def certificate(self) -> Path:
        """What the API server signed for itself; the second one shows it too."""
        return self.home / "tls" / "apiserver.crt"

    @property
    def controller_manager_certificate(self) -> Path:
        return self.home / "kube-controller-manager-tls" / "kube-controller-manager.crt"

    @property
    def data(self) -> Path:
        return self.home / "etcd"

    @property
    def ports(self) -> Path:
        return self.home / "ports.json"

    @property
    def tokens(self) -> Path:
        return self.home / "tokens.csv"

    @property
    def service_account_key(self) -> Path:
        return self.home / "service-account.key"

    @property
    def audit_policy(self) -> Path:
        return self.home / "audit-policy.yaml"

    @property
    def controller_manager_kubeconfig(self) -> Path:
        return self.home / "kube-controller-manager.kubeconfig"

    def audit_log(self, name: str) -> Path:
        return self.home / ("audit.log" if name == API_SERVER else "audit-second.log")

    def log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def pid_file(self, name: str) -> Path:
        return self.home / f"{name}.pid"


def etcd(files: Layout, ports: Ports) -> Sequence[str]:
    """A single member. It has nobody to agree with, so it neither syncs to disk nor waits long to elect itself."""
    client, peer = f"http://{HOST}:{ports.etcd}", f"http://{HOST}:{ports.etcd_peer}"
    return (
        "--name=occopus-dev",
        f"--data-dir={files.data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=occopus-dev={peer}",
        "--unsafe-no-fsync",
        "--heartbeat-interval=10",
        "--election-timeout=100",
        "--log-level=warn",
    )


def api_server(files: Layout, ports: Ports) -> Sequence[str]:
    return _api_server(files, ports, API_SERVER, ports.api_server)


def second_api_server(files: Layout, ports: Ports) -> Sequence[str]:
    return _api_server(files, ports, SECOND_API_SERVER, ports.second_api_server)


def _api_server(files: Layout, ports: Ports, name: str, port: int) -> Sequence[str]:
    return (
        f"--etcd-servers=http://{HOST}:{ports.etcd}",
        f"--bind-address={HOST}",
        f"--advertise-address={HOST}",
        f"--secure-port={port}",
        f"--cert-dir={files.certificate.parent}",
        "--service-cluster-ip-range=10.0.0.0/24",
        # Endpoints may not be loopback addresses, and nobody here looks for the API server in them.
        "--endpoint-reconciler-type=none",
        "--authorization-mode=RBAC",
        f"--token-auth-file={files.tokens}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={files.service_account_key}",
        f"--service-account-signing-key-file={files.service_account_key}",
        f"--audit-policy-file={files.audit_policy}",
        f"--audit-log-path={files.audit_log(name)}",
        # Megabytes. Who counts writes reads one file.
        "--audit-log-maxsize=1024",
        "--audit-log-maxbackup=1",
    )


def controller_manager(files: Layout, ports: Ports) -> Sequence[str]:
    return (
        f"--kubeconfig={files.controller_manager_kubeconfig}",
        f"--bind-address={HOST}",
        f"--secure-port={ports.controller_manager}",
        f"--cert-dir={files.controller_manager_certificate.parent}",
        "--leader-elect=false",
        f"--controllers=*,{','.join(f'-{name}' for name in _WITHOUT)}",
        f"--service-account-private-key-file={files.service_account_key}",
        f"--root-ca-file={files.certificate}",
    )


@dataclass(frozen=True, slots=True)
class Component:
    """One process of the control plane."""

    name: str
    binary: str
    options: Callable[[Layout, Ports], Sequence[str]]
    # The fields of Ports that it listens on; the first is the one that tells whether it is ready.
    ports: Sequence[str]


COMPONENTS = {
    component.name: component
    for component in (
        Component(ETCD, "etcd", etcd, ("etcd", "etcd_peer")),
        Component(API_SERVER, "kube-apiserver", api_server, ("api_server",)),
        Component(CONTROLLER_MANAGER, "kube-controller-manager", controller_manager, ("controller_manager",)),
        Component(SECOND_API_SERVER, "kube-apiserver", second_api_server, ("second_api_server",)),
    )
}
