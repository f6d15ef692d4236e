"""How a Kubernetes API server is reached: its address, its certificate authority, and who we are there.

From a kubeconfig that is named on purpose, else from the service account of the pod; never from an inherited `KUBECONFIG`, which
may be production's. The operator reads only what a file holds; exec plugins are for the command line, which uses the `kubernetes`
package.
"""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp
import yaml

from controller import errors

#: Where a pod finds its service account (kubernetes.io/docs/tasks/run-application/access-api-from-pod).
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
#: Connections to the API server at once.
_CONNECTIONS = 64
#: Connect and read time of a request that is no watch.
REQUEST_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Access:
    """An API server and our credentials there. `token` is asked before each request: a service account's changes hourly."""

    server: str
    tls: ssl.SSLContext | None
    token: Callable[[], str]
    namespace: str = "default"


def find(kubeconfig: Path | None, environ: dict[str, str]) -> Access:
    """The kubeconfig named, else the pod's service account. Raises UsageError with the way out."""
    if kubeconfig is not None:
        return from_kubeconfig(kubeconfig)
    if (SERVICE_ACCOUNT / "token").exists():
        return in_cluster(SERVICE_ACCOUNT, environ)
    raise errors.UsageError("no API server is named: give --kubeconfig FILE, or run in a pod with a service account")


def in_cluster(place: Path, environ: dict[str, str]) -> Access:
    """The service account in that directory; its token is read anew each time."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc"), environ.get("KUBERNETES_SERVICE_PORT", "443")
    namespace = place / "namespace"
    return Access(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        tls=ssl.create_default_context(cafile=str(place / "ca.crt")),
        token=lambda: (place / "token").read_text().strip(),
        namespace=namespace.read_text().strip() if namespace.exists() else "default",
    )


def from_kubeconfig(path: Path) -> Access:
    """The current context of a kubeconfig. Raises UsageError."""
    try:
        loaded = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise errors.UsageError(f"kubeconfig {path} cannot be read: {' '.join(str(error).split())}") from error
    config = cast(dict[str, Any], loaded) if isinstance(loaded, dict) else {}
    try:
        context = _named(config, "contexts", "context", str(config.get("current-context", "")))
        cluster = _named(config, "clusters", "cluster", context["cluster"])
        user = _named(config, "users", "user", context["user"])
        server = str(cluster["server"]).rstrip("/")
        token = _token(path, user)
        tls = _tls(path, cluster, user) if server.startswith("https:") else None
    except KeyError as missing:
        raise errors.UsageError(f"kubeconfig {path}: there is no {missing.args[0]}") from None
    except (OSError, ValueError, ssl.SSLError) as error:
        raise errors.UsageError(f"kubeconfig {path}: a certificate or key in it cannot be used: {error}") from error
    return Access(server, tls, token, str(context.get("namespace") or "default"))


def session(access: Access, *more: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
    """A session that says who we are with each request. Belongs to the running loop; its owner closes it."""

    async def authorise(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        token = access.token()
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        return await handler(request)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=access.tls if access.tls is not None else True),
        middlewares=(authorise, *more),
        headers={"User-Agent": "occopus"},
        timeout=aiohttp.ClientTimeout(total=None, connect=REQUEST_SECONDS),
    )


def _named(config: dict[str, Any], list_name: str, field: str, name: str) -> dict[str, Any]:
    for each in config.get(list_name) or ():
        if each.get("name") == name:
            return each.get(field) or {}
    raise KeyError(f"{field} {name or '(current-context is not set)'}")


def _token(path: Path, user: dict[str, Any]) -> Callable[[], str]:
    if "exec" in user or "auth-provider" in user:
        raise errors.UsageError(f"kubeconfig {path}: the operator runs no login programs; use a token or a client certificate")
    file = user.get("tokenFile")
    if file:
        place = path.parent / str(file)
        return lambda: place.read_text().strip()
    token = str(user.get("token") or "")
    return lambda: token


def _tls(path: Path, cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    authority = _bytes(path, cluster, "certificate-authority")
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = _bytes(path, user, "client-certificate"), _bytes(path, user, "client-key")
    if certificate and key:
        # The library takes files alone. Nobody else may read them, and they go at once.
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / "certificate").write_bytes(certificate)
            (Path(directory) / "key").write_bytes(key)
            context.load_cert_chain(Path(directory) / "certificate", Path(directory) / "key")
    return context


def _bytes(path: Path, holder: dict[str, Any], field: str) -> bytes:
    """What `field` names: in the kubeconfig itself (`…-data`, base64), or a file beside it."""
    if holder.get(f"{field}-data"):
        return base64.b64decode(holder[f"{field}-data"], validate=True)
    return (path.parent / str(holder[field])).read_bytes() if holder.get(field) else b""


__all__ = ["REQUEST_SECONDS", "SERVICE_ACCOUNT", "Access", "find", "from_kubeconfig", "in_cluster", "session"]
