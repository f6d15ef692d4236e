"""A Kubernetes control plane on loopback, for development and for tests; needs Linux, no cluster and no container.

`python -m tools.control_plane build|start|stop|status` is the command, `ControlPlane` the same for tests. etcd, kube-apiserver,
kube-controller-manager and kubectl are built from the modules pinned in `tools/go.mod` (binaries.py, with the Go that
toolchain.py finds), and run as processes of this user (plane.py). There are no nodes: pods are accepted and never run.

It is no place for real secrets: whoever may open a connection on this machine's loopback can read etcd.
"""

from __future__ import annotations

from tools.control_plane.errors import ControlPlaneError
from tools.control_plane.plane import ControlPlane

__all__ = ["ControlPlane", "ControlPlaneError"]
