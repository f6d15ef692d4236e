"""Where EC2 and STS are asked, and as whom: the endpoint, the credentials, the clients of boto3.

`controller.clouds.ec2.driver` opens a driver with it. It decides which endpoints and credentials a Cloud may use, so that whoever
may create a Cloud can neither borrow the controller's own role nor receive its signed requests, nor reach what only the
controller can reach (design, security). It knows no call of EC2's.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import logging
import os
import re
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from controller import errors
from controller.clouds.ec2 import description, fields
from controller.ports import CloudConfig

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_sts import STSClient

#: Together within CALL_SECONDS, with a second to spare for a name's resolution.
CONNECT_SECONDS, READ_SECONDS = 4.0, 15.0
#: As many connections are kept; calls of one account come from several threads.
_CONNECTIONS = 20

_KEY = re.compile(r"[!-~]+")
#: A host's name as DNS has it; botocore makes no client for another.
_NAME = re.compile(r"([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)*[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
#: botocore's sessions are not safe to use from several threads; the clients that they make are. By whether the session looks for the
#: controller's own credentials: that may take the metadata service a minute, in which Clouds with keys do not wait.
_locks = {False: threading.Lock(), True: threading.Lock()}
_loading = threading.Lock()
#: The session of the controller's own credentials, by how the files were that it has read, and the region where it asks for a role's.
_own: dict[tuple[tuple[tuple[int, ...], ...], str], Any] = {}
#: Where the SDK looks for credentials; it reads a file once for a session.
_FILES = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}


@dataclass(frozen=True, slots=True)
class Access:
    """`endpoint` is empty where the region's own is asked; without `keys` the SDK looks for the controller's own."""

    region: str
    endpoint: str
    keys: Mapping[str, str] = field(repr=False)

    @property
    def where(self) -> str:
        """Who is asked, for messages."""
        return urlsplit(self.endpoint).netloc if self.endpoint else f"EC2 in {self.region}"


@dataclass(frozen=True, slots=True)
class Clients:
    """Safe to use from several threads."""

    ec2: EC2Client
    sts: STSClient


def access(config: CloudConfig) -> Access:
    """What the Cloud's fields and its Secret say, as far as the flags allow it. Raises Denied, Invalid."""
    cloud = fields.cloud(config.spec)
    if cloud.endpoint is not None:
        _check(cloud.endpoint, config.allow_local)
    if cloud.credentials is not None:
        return Access(cloud.region, cloud.endpoint or "", _keys(cloud.credentials.secret_ref.name, config.secret))
    if cloud.endpoint is not None:
        raise errors.Denied("a Cloud with an endpoint needs credentials of its own: set credentials.secretRef")
    if not config.ambient_credentials:
        raise errors.Denied(
            "the Cloud has no credentials: set credentials.secretRef, or start the controller with --ambient-credentials,"
            " which lets Clouds use its own"
        )
    return Access(cloud.region, "", {})


def _keys(secret: str, data: Mapping[str, str]) -> Mapping[str, str]:
    """boto3's words for the Secret's values. A file's last newline is not part of a key."""
    names = {"AWS_ACCESS_KEY_ID": "aws_access_key_id", "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key"}
    missing = [each for each in names if not data.get(each, "").strip()]
    if missing:
        raise errors.Denied(f"Secret {secret} has no {' and no '.join(missing)}")
    keys = {word: data[name].strip() for name, word in names.items()}
    token = data.get("AWS_SESSION_TOKEN", "").strip()
    if token:
        keys["aws_session_token"] = token
    if not all(_KEY.fullmatch(each) for each in keys.values()):
        raise errors.Denied(f"Secret {secret} holds characters that no access key has")
    return keys


def _check(endpoint: str, allow_local: bool) -> None:
    """Refuse an endpoint that only the controller can reach. Raises Invalid.

    A name may still resolve to such an address: without the flag only TLS is spoken, with the certificate checked for that
    name, which nothing that the Cloud's author does not own can show.
    """
    try:
        parts = urlsplit(endpoint)
        host, _ = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise errors.Invalid("endpoint", f"is no URL: {error}") from error
    if not host or parts.username is not None:
        raise errors.Invalid("endpoint", "must be http(s)://host[:port][/path], without a user's name")
    address = _literal(host)
    if address is None and not _NAME.fullmatch(host):
        raise errors.Invalid("endpoint", f"{host} is no host's name")
    if address is not None and (address.is_link_local or address.is_multicast or address.is_unspecified):
        raise errors.Invalid("endpoint", f"{address} is no cloud's address")
    if allow_local:
        return
    if parts.scheme != "https":
        raise errors.Invalid("endpoint", "must be https: the controller allows others with --local-clouds only")
    if (address is not None and address.is_loopback) or host == "localhost" or host.endswith(".localhost"):
        raise errors.Invalid("endpoint", "is on the controller's own computer, which it allows with --local-clouds only")


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is, in any way to write it that a resolver takes (127.1, 0x7f000001); None for a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    return getattr(address, "ipv4_mapped", None) or address


def clients(to: Access) -> Clients:
    """Clients of EC2 and STS. Imports boto3, and may ask the instance's metadata for credentials: call it in a thread.

    Raises Denied without credentials, and whatever botocore raises.
    """
    own = not to.keys
    with _locks[own]:
        session: Any = _own_session(to.region) if own else _shared_session()
        if own and session.get_credentials() is None:
            raise errors.Denied("the AWS SDK found no credentials of the controller's own")
        options: dict[str, Any] = {"region_name": to.region, "endpoint_url": to.endpoint or None, "config": _config(), **to.keys}
        return Clients(session.client("ec2", **options), session.client("sts", **options))


@functools.cache
def _shared_session() -> Any:
    """One for the process, of Clouds with keys."""
    return _session(own=False)


def _own_session(region: str) -> Any:
    """One for all, and a new one where somebody has logged in since: tools write what they got into a file."""
    session, read = _session(region, own=True), tuple(map(_state, _FILES))
    for each in [each for each in _own if each[0] != read]:
        del _own[each]
    return _own.setdefault((read, session.region_name), session)


def _state(variable: str) -> tuple[int, ...]:
    """Of a file of the SDK's: another one where it was written since."""
    try:
        found = Path(os.environ.get(variable, _FILES[variable])).expanduser().stat()
    except (OSError, RuntimeError):
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _session(region: str = "", *, own: bool) -> Any:
    """A new one. For a role's credentials the SDK asks in `region`, where it is configured for none."""
    import boto3
    import botocore.session
    from botocore.exceptions import ProfileNotFound

    # At debug level it shows requests whole: user data, session tokens, signatures.
    logging.getLogger("botocore").setLevel(logging.INFO)
    session: Any = botocore.session.get_session()
    try:
        session.get_scoped_config()
    except ProfileNotFound:
        if own:
            raise
        # It is named in the environment; those who bring keys need none. `Session.set_config_variable` takes None for "not set here".
        session.get_component("config_store").set_config_variable("profile", None)
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_time)
    with _loading:
        session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    if region and session.get_config_variable("region") is None:
        session.set_config_variable("region", region)
    return boto3.Session(botocore_session=session)


@functools.cache
def _loader(path: str | None) -> Any:
    """Keeps the description of EC2's API, cut: it gives the same object to all clients."""
    from botocore import loaders

    loader: Any = loaders.create_loader(path)
    description.cut(loader.load_service_model("ec2", "service-2"))
    return loader


def _time(value: Any) -> datetime:
    """A time in an answer. botocore's own way, which takes all there is, takes a quarter of the time of a list."""
    from botocore.utils import parse_timestamp

    with contextlib.suppress(ValueError, TypeError):
        time = datetime.fromisoformat(value)
        if time.tzinfo is not None:
            return time
    return parse_timestamp(value)


def _config() -> Any:
    from botocore import config

    make: Any = config.Config  # The stubs lack its newer options.
    return make(
        # One attempt: a mutation that was sent twice would be counted once, and reads are repeated by the driver.
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        tcp_keepalive=True,
        max_pool_connections=_CONNECTIONS,
        user_agent_extra="occopus",
        # The endpoint is the Cloud's, never one of the controller's environment.
        ignore_configured_endpoint_urls=True,
    )


__all__ = ["CONNECT_SECONDS", "READ_SECONDS", "Access", "Clients", "access", "clients"]
