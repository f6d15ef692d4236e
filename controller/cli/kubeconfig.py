"""From a kubeconfig to a session with its API server: contexts, certificates, tokens, login programs, OIDC, proxies.

`controller.cli.cluster` calls it. Credentials are the `kubernetes` package's matter, which reads and refreshes them as kubectl
does; the requests themselves go over the same code as the operator's. It reads the file it is given and no environment variable
but those of proxies.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp
import yaml
from kubernetes import config as kubernetes_config
from kubernetes.client import Configuration
from kubernetes.client.rest import should_bypass_proxies
from yarl import URL

from controller import errors
from controller.ports import Obj
from controller.stores.access import REQUEST_SECONDS, Access


@dataclass(frozen=True, slots=True)
class Login:
    """An API server and who we are there. `authorization` is asked before each request, and logs in again where that is due."""

    access: Access
    authorization: Callable[[], str]
    impersonation: tuple[tuple[str, str], ...] = ()
    tls_server_name: str | None = None
    proxy: str | None = None


def read(path: Path, context: str | None) -> Login:
    """One context of a kubeconfig, its login program run. Blocks. Raises UsageError with the way out."""
    config = _loaded(path)
    name = context or str(config.get("current-context") or "")
    found = _context(path, config, name, asked=context is not None)
    user, cluster = _named(config, "users", "user", found.get("user")), _named(config, "clusters", "cluster", found.get("cluster"))
    settings = Configuration()
    with _said() as said:
        try:
            # This part of the package has no types.
            cast(Any, kubernetes_config).load_kube_config(config_file=str(path), context=name, client_configuration=settings)
            tls = _tls(settings)
        except (kubernetes_config.ConfigException, OSError, ValueError, ssl.SSLError) as error:
            raise errors.UsageError(f"kubeconfig {path}, context {name}: {_line(error)}") from error
    if "exec" in user and not settings.api_key and not settings.cert_file:
        # The package says this to the log and goes on without credentials.
        why = "; ".join(said) or "it answered without any"
        raise errors.UsageError(f"kubeconfig {path}, context {name}: the login program gave no credentials: {why}")
    return Login(
        Access(str(settings.host), tls, lambda: _authorization(settings), str(found.get("namespace") or "default")),
        lambda: _authorization(settings),
        tuple(_impersonation(user)),
        settings.tls_server_name,
        _proxy(settings, named="proxy-url" in cluster),
    )


def session(login: Login) -> aiohttp.ClientSession:
    """A session that says who we are with each request. Belongs to the running loop; its owner closes it."""

    async def authorise(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        for name, value in (("Authorization", login.authorization()), *login.impersonation):
            if value:
                request.headers.add(name, value)
        if login.tls_server_name is not None:
            request.server_hostname = login.tls_server_name
        return await handler(request)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=login.access.tls if login.access.tls is not None else True),
        middlewares=(authorise,),
        headers={"User-Agent": "occopus"},
        timeout=aiohttp.ClientTimeout(total=None, connect=REQUEST_SECONDS),
        proxy=login.proxy,
    )


# --- the file ---------------------------------------------------------------------------------------------------------
def _loaded(path: Path) -> Obj:
    try:
        loaded: Any = yaml.safe_load(path.read_text())
    except OSError as error:
        raise errors.UsageError(f"kubeconfig {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise errors.UsageError(f"kubeconfig {path} cannot be read: {_line(error)}") from error
    if not isinstance(loaded, dict) or not isinstance(cast(Obj, loaded).get("contexts"), list):
        raise errors.UsageError(f"kubeconfig {path} has no contexts")
    return cast(Obj, loaded)


def _context(path: Path, config: Obj, name: str, *, asked: bool) -> Obj:
    known = [str(each.get("name")) for each in cast(list[Obj], config["contexts"])]
    if name in known:
        return _named(config, "contexts", "context", name)
    what = f"there is no context {name}" if asked else f"its current-context is {name or 'not set'}; give --context NAME"
    raise errors.UsageError(f"kubeconfig {path}: {what}; there {'are ' + ', '.join(known) if known else 'is none'}")


def _named(config: Obj, list_name: str, field: str, name: Any) -> Obj:
    """One entry of the file's lists; {} where there is none, which the package complains of in its own words."""
    entries = cast(list[Obj], config.get(list_name) or [])
    found = [cast(Obj, each.get(field) or {}) for each in entries if each.get("name") == name]
    return found[0] if found else {}


# --- credentials ------------------------------------------------------------------------------------------------------
def _authorization(settings: Configuration) -> str:
    """With its scheme; empty where a client certificate says who we are."""
    return settings.get_api_key_with_prefix("BearerToken") or ""


def _impersonation(user: Obj) -> Generator[tuple[str, str]]:
    """Whom we act as: the package leaves that out, and requests would have all the rights of who we are."""
    if user.get("as-user-extra"):
        raise errors.UsageError("the kubeconfig's user acts as another with as-user-extra, which occopus does not support")
    for field, header in (("as", "Impersonate-User"), ("as-uid", "Impersonate-Uid")):
        if user.get(field):
            yield header, str(user[field])
    for group in cast(list[Any], user.get("as-groups") or []):
        yield "Impersonate-Group", str(group)


def _tls(settings: Configuration) -> ssl.SSLContext | None:
    if not str(settings.host).startswith("https:"):
        return None
    context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    if not settings.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context


def _proxy(settings: Configuration, *, named: bool) -> str | None:
    """The proxy that the kubeconfig names, else the environment's, which is never for this computer (as Go has it)."""
    proxy: str | None = settings.proxy
    if not proxy or should_bypass_proxies(settings.host, settings.no_proxy or ""):
        return None
    if not named and _loopback(URL(settings.host).host or ""):
        return None
    if proxy.lower().startswith("socks"):
        raise errors.UsageError(f"the API server is to be reached by the proxy {URL(proxy).with_user(None)}; SOCKS is not supported")
    return proxy


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# --- words ------------------------------------------------------------------------------------------------------------
@contextmanager
def _said() -> Generator[list[str]]:
    """What is logged as an error meanwhile."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(_line(record.getMessage()))

    handler = Handler(logging.ERROR)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield lines
    finally:
        root.removeHandler(handler)


def _line(said: object) -> str:
    return " ".join(str(said).split())


__all__ = ["Login", "read", "session"]
