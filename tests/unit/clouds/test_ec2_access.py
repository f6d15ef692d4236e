"""Which endpoints and credentials a Cloud may use, and what the clients are like."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import Credentials
from botocore.session import Session

from controller import errors
from controller.clouds.ec2 import access
from controller.clouds.ec2 import driver as ec2
from controller.ports import CALL_SECONDS, CloudConfig
from tests.unit.clouds.ec2 import KEYS

_SECRET = {"credentials": {"secretRef": {"name": "aws"}}}


def _config(spec: Mapping[str, Any], secret: Mapping[str, str] = KEYS, *, local: bool = False, ambient: bool = False) -> CloudConfig:
    return CloudConfig({"region": "eu-west-1", **spec}, secret, "ours", "", allow_local=local, ambient_credentials=ambient)


# --- endpoints ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("endpoint", "local", "taken"),
    [
        pytest.param("https://ec2.example.org", False, True, id="a name"),
        pytest.param("https://ec2.example.org:8443/path", False, True, id="port and path"),
        pytest.param("https://10.1.2.3", False, True, id="a private network"),
        pytest.param("https://[2001:db8::1]:8443", False, True, id="IPv6"),
        pytest.param("http://ec2.example.org", False, False, id="no TLS"),
        pytest.param("http://ec2.example.org", True, True, id="no TLS, allowed"),
        pytest.param("https://localhost", False, False, id="localhost"),
        pytest.param("https://LOCALHOST.", False, False, id="localhost with a dot"),
        pytest.param("https://ec2.localhost:4566", False, False, id="below localhost"),
        pytest.param("https://127.0.0.1", False, False, id="loopback"),
        pytest.param("https://127.1", False, False, id="loopback, short"),
        pytest.param("https://2130706433", False, False, id="loopback, a number"),
        pytest.param("https://0x7f.0.0.1", False, False, id="loopback, hexadecimal"),
        pytest.param("https://[::1]", False, False, id="loopback, IPv6"),
        pytest.param("https://[::ffff:127.0.0.1]", False, False, id="loopback, mapped"),
        pytest.param("http://127.0.0.1:5000", True, True, id="loopback, allowed"),
        pytest.param("http://localhost:4566", True, True, id="localhost, allowed"),
        pytest.param("https://169.254.169.254", False, False, id="metadata"),
        pytest.param("http://169.254.169.254/latest", True, False, id="metadata, though local is allowed"),
        pytest.param("http://[fe80::1]", True, False, id="link-local"),
        pytest.param("http://0.0.0.0", True, False, id="unspecified"),
        pytest.param("https://224.0.0.1", False, False, id="multicast"),
        pytest.param("https://me:pw@example.org", False, False, id="a user"),
        pytest.param("https://example.org:99999", False, False, id="no port"),
        pytest.param("https://my_host", False, False, id="no host's name"),
        pytest.param("https://", False, False, id="no host"),
        pytest.param("ftp://example.org", False, False, id="no HTTP"),
        pytest.param("https://example.org/?a=b", False, False, id="a query"),
    ],
)
def test_an_endpoint(endpoint: str, local: bool, taken: bool) -> None:
    config = _config({"endpoint": endpoint, **_SECRET}, local=local)
    if taken:
        assert access.clients(access.access(config)).ec2.meta.endpoint_url == endpoint
        return
    with pytest.raises(errors.Invalid) as caught:
        ec2.open(config)
    assert caught.value.field == "endpoint"


# --- credentials ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("lacking", [pytest.param(each, id=each) for each in KEYS])
@pytest.mark.parametrize("value", [pytest.param(None, id="missing"), pytest.param(" \n", id="blank"), pytest.param("a\nb", id="two lines")])
def test_a_secret_that_is_no_key_is_denied(lacking: str, value: str | None) -> None:
    secret = {name: text for name, text in {**KEYS, lacking: value}.items() if text is not None}
    with pytest.raises(errors.Denied):
        ec2.open(_config(_SECRET, secret))


def test_the_keys_are_those_of_the_secret_and_are_shown_nowhere() -> None:
    secret = {"AWS_ACCESS_KEY_ID": "AKID\n", "AWS_SECRET_ACCESS_KEY": " c4n4ry", "AWS_SESSION_TOKEN": "t0k3n\n", "other": "x"}
    found = access.access(_config(_SECRET, secret))
    assert found.keys == {"aws_access_key_id": "AKID", "aws_secret_access_key": "c4n4ry", "aws_session_token": "t0k3n"}
    assert not any(each in f"{found} {found!r}" for each in found.keys.values())


def test_an_endpoint_needs_credentials_of_its_own() -> None:
    for ambient in (False, True):
        with pytest.raises(errors.Denied):
            ec2.open(_config({"endpoint": "https://ec2.example.org"}, ambient=ambient))


def test_the_controllers_own_credentials_are_used_where_the_flag_says_so() -> None:
    with pytest.raises(errors.Denied) as caught:
        ec2.open(_config({}))
    assert "--ambient-credentials" in str(caught.value)
    assert access.access(_config({}, ambient=True)).keys == {}
    # Its own credentials go before the controller's, also where those may be used.
    assert access.access(_config(_SECRET, ambient=True)).keys != {}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param({"region": "Ireland?"}, "region", id="region"),
        pytest.param({"credentials": {}}, "credentials.secretRef", id="secretRef"),
    ],
)
def test_wrong_fields_are_named(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        ec2.open(_config(spec))
    assert caught.value.field == field


# --- clients --------------------------------------------------------------------------------------------------------
def test_a_client_tries_once_and_gives_up_in_time() -> None:
    clients = access.clients(access.access(_config(_SECRET)))
    for client in (clients.ec2, clients.sts):
        config: Any = client.meta.config
        assert config.retries["total_max_attempts"] == 1
        assert config.connect_timeout + config.read_timeout < CALL_SECONDS
        assert config.tcp_keepalive
        assert client.meta.endpoint_url.endswith(".eu-west-1.amazonaws.com")


def test_all_clients_share_one_description_of_the_api() -> None:
    one, other = (access.clients(access.access(_config({**_SECRET, "region": each}))) for each in ("eu-west-1", "us-east-1"))
    assert one.ec2.meta.service_model.metadata is other.ec2.meta.service_model.metadata


def test_a_cloud_with_keys_does_not_wait_while_the_sdk_asks_for_the_controllers_own_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answered = threading.Event(), threading.Event()

    def ask(session: Session) -> Credentials:
        """As where the metadata service does not answer."""
        asked.set()
        answered.wait()
        return Credentials("AKIDOWN", "x")

    monkeypatch.setattr(Session, "get_credentials", ask)
    with ThreadPoolExecutor(2) as threads:
        try:
            own = threads.submit(access.clients, access.access(_config({}, ambient=True)))
            assert asked.wait(30)
            with_keys = threads.submit(access.clients, access.access(_config(_SECRET))).result(30)
            assert not own.done()
        finally:
            answered.set()
        assert own.result(30).ec2.meta.service_model.metadata is with_keys.ec2.meta.service_model.metadata


def _run(program: str, directory: Path, **environment: str) -> str:
    """In a process of its own: what the SDK has found, and what was imported, stays with a process."""
    clean = {"PATH": "", "HOME": str(directory), "AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": ":".join(sys.path), **environment}
    nobody: dict[str, Any] = {"stdin": subprocess.DEVNULL, "start_new_session": True}
    done = subprocess.run([sys.executable, "-c", program], env=clean, capture_output=True, text=True, timeout=60, check=False, **nobody)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_of_the_sdk_is_imported_until_a_call_is_made(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from controller.clouds import plugins\n"
        "from controller.ports import CloudConfig\n"
        "plugin = next(each for each in plugins.installed() if each.kind == 'ec2')\n"
        "driver = plugin.open(CloudConfig({'region': 'eu-west-1'}, {}, 'ours', '', False, True))\n"
        "print([each for each in ('boto3', 'botocore', 'urllib3') if each in sys.modules], end='')\n"
    )
    assert _run(program, tmp_path) == "[]"


_AMBIENT = (
    "from controller import errors\n"
    "from controller.clouds.ec2 import driver as ec2\n"
    "from controller.clouds.ec2 import access\n"
    "from controller.ports import CloudConfig\n"
    "config = CloudConfig({'region': 'eu-west-1'}, {}, 'ours', '', False, True)\n"
    "try:\n"
    "    ec2.open(config).identity() if %r else None\n"
    "    print(access.clients(access.access(config)).ec2.meta.endpoint_url, end='')\n"
    "except errors.Denied as denied:\n"
    "    print('denied', end='')\n"
)


def test_a_controller_without_credentials_of_its_own_has_none_to_lend(tmp_path: Path) -> None:
    assert _run(_AMBIENT % True, tmp_path) == "denied"
    assert _run(_AMBIENT % True, tmp_path, AWS_PROFILE="none") == "denied"


def test_a_cloud_with_keys_needs_no_profile(tmp_path: Path) -> None:
    with_keys = _AMBIENT.replace("{'region': 'eu-west-1'}, {}", f"{ {'region': 'eu-west-1', **_SECRET}!r}, {dict(KEYS)!r}") % False
    assert _run(with_keys, tmp_path, AWS_PROFILE="none") == "https://ec2.eu-west-1.amazonaws.com"


def test_a_profile_that_asks_for_a_code_is_denied_where_nobody_gives_one(tmp_path: Path) -> None:
    role = "role_arn = arn:aws:iam::111111111111:role/x\nsource_profile = base\nmfa_serial = arn:aws:iam::111111111111:mfa/me\n"
    base = "[profile base]\naws_access_key_id = AKID\naws_secret_access_key = x\n"
    (tmp_path / "config").write_text(f"[profile role]\n{role}{base}")
    assert _run(_AMBIENT % True, tmp_path, AWS_CONFIG_FILE=str(tmp_path / "config"), AWS_PROFILE="role") == "denied"


def test_credentials_that_come_later_are_found(tmp_path: Path) -> None:
    program = (
        "import os\n"
        "from controller import errors\n"
        "from controller.clouds.ec2 import driver as ec2\n"
        "from controller.ports import CloudConfig\n"
        "driver = ec2.open(CloudConfig({'region': 'eu-west-1'}, {}, 'ours', '', False, True))\n"
        "for keys in ({}, {'AWS_ACCESS_KEY_ID': 'AKID', 'AWS_SECRET_ACCESS_KEY': 'x'}):\n"
        "    os.environ.update(keys)\n"
        "    try:\n"
        "        driver.identity()\n"
        "    except errors.CloudError as error:\n"
        "        print(type(error).__name__, end=' ')\n"
    )
    # Nothing listens there: whoever has credentials comes so far.
    assert _run(program, tmp_path, HTTPS_PROXY="http://127.0.0.1:9") == "Denied Transient "


def test_credentials_that_were_renewed_in_their_file_are_those_of_a_driver_that_is_opened_then(tmp_path: Path) -> None:
    """As tools write them that log in for some hours; the SDK reads the file once. A driver that is open keeps what it has.

    While the file is as it was all drivers share what was found: it may have been asked of somebody, as the code of a token is.
    """
    program = (
        "import os\n"
        "from pathlib import Path\n"
        "from controller.clouds.ec2 import access\n"
        "from controller.ports import CloudConfig\n"
        "config = CloudConfig({'region': 'eu-west-1'}, {}, 'ours', '', False, True)\n"
        "opened = []\n"
        "for token in ('first', 'second'):\n"
        "    text = f'[default]\\naws_access_key_id = AKID\\naws_secret_access_key = x\\naws_session_token = {token}\\n'\n"
        "    Path(os.environ['AWS_SHARED_CREDENTIALS_FILE']).write_text(text)\n"
        "    opened += [access.clients(access.access(config)).ec2._request_signer._credentials for _ in range(2)]\n"
        "print(*(each.get_frozen_credentials().token for each in opened), len(set(map(id, opened))), end='')\n"
    )
    assert _run(program, tmp_path, AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "credentials")) == "first first second second 2"


@pytest.mark.parametrize(
    ("named", "host"),
    [
        pytest.param({}, "sts.eu-west-1.amazonaws.com", id="no region is configured"),
        pytest.param({"AWS_DEFAULT_REGION": "eu-central-1"}, "sts.eu-central-1.amazonaws.com", id="another is"),
    ],
)
def test_a_role_of_the_controllers_profile_is_asked_for_in_a_region(tmp_path: Path, named: dict[str, str], host: str) -> None:
    """The global endpoint knows no other partition, and what it gives is not taken in regions that an account has to enable."""
    program = (
        "from urllib.parse import urlsplit\n"
        "from botocore import exceptions, httpsession\n"
        "from controller import errors\n"
        "from controller.clouds.ec2 import driver as ec2\n"
        "from controller.ports import CloudConfig\n"
        "def send(self, request):\n"
        "    print(urlsplit(request.url).netloc)\n"
        "    raise exceptions.ReadTimeoutError(endpoint_url=request.url)\n"
        "httpsession.URLLib3Session.send = send\n"
        "try:\n"
        "    ec2.open(CloudConfig({'region': 'eu-west-1'}, {}, 'ours', '', False, True)).identity()\n"
        "except errors.Transient as error:\n"
        "    print(error)\n"
    )
    configured = "[profile role]\nrole_arn = arn:aws:iam::111111111111:role/x\nsource_profile = base\n"
    (tmp_path / "config").write_text(f"{configured}[profile base]\naws_access_key_id = AKID\naws_secret_access_key = x\n")
    asked = _run(program, tmp_path, AWS_CONFIG_FILE=str(tmp_path / "config"), AWS_PROFILE="role", AWS_MAX_ATTEMPTS="1", **named)
    assert set(asked.splitlines()) == {host, f"{host}: the answer took too long"}


def test_the_controllers_own_credentials_go_to_the_regions_own_endpoint(tmp_path: Path) -> None:
    """Whatever its environment says: the account's record has no endpoint."""
    own = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    assert _run(_AMBIENT % False, tmp_path, **own) == "https://ec2.eu-west-1.amazonaws.com"


def test_times_are_read_as_botocore_reads_them() -> None:
    """Also those of the services that the SDK itself asks for credentials, which count seconds."""
    client: Any = access.clients(access.access(_config(_SECRET))).ec2
    read: Any = client._response_parser._timestamp_parser
    instant = datetime(2029, 1, 2, 3, 4, 5, tzinfo=UTC)
    texts = ("2029-01-02T03:04:05.000Z", "2029-01-02T03:04:05Z", "2029-01-02T04:04:05+01:00", "Tue, 02 Jan 2029 03:04:05 GMT")
    for value in (*texts, instant.timestamp(), int(instant.timestamp())):
        assert read(value) == instant
    with pytest.raises(ValueError, match="now"):
        read("now")
