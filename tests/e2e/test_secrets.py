"""The value of a Secret reaches the machine that is to have it, and nothing else that anybody can read."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path

import pytest

from controller import desktop
from tests.e2e.descriptions import CLOUD, infrastructure, service, template
from tests.e2e.desk import COMMAND_SECONDS, UP_SECONDS, Desk
from tests.e2e.test_command_run import free_port
from tests.e2e.test_command_state import HELD_SECONDS

TIMEOUT = ("--timeout", str(UP_SECONDS))
#: Two values: one that a template uses, one that looks like a cloud's credentials and is used by nobody.
USED, UNUSED = "canary-5d1c9e-used", "canary-5d1c9e-unused"
BASE64 = ("Y2FuYXJ5LTVkMWM5ZS",)  # both begin so, in base64
SECRETS = f"""
apiVersion: v1
kind: Secret
metadata: {{name: database}}
stringData: {{password: {USED}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: account}}
stringData: {{AWS_ACCESS_KEY_ID: AKIAXXXXXXXXXXXXXXXX, AWS_SECRET_ACCESS_KEY: {UNUSED}}}
---
"""
VARIABLES = "  variables: [{name: password, valueFrom: {secretKeyRef: {name: database, key: password}}}]\n"
KINDS = ("Cloud", "InstanceTemplate", "Infrastructure", "InstanceGroup", "Instance", "ControllerRevision", "ConfigMap", "Event")


def described(command: str) -> str:
    return CLOUD + template(command=command) + infrastructure("safe", service("only"), more=VARIABLES)


GOOD = described("printf %s '{{ variables.password }}' > password")
#: The group tries a template out without the value; these pass there, and fail with the value in their hands at the launch.
ONLY_WITH_IT = "{% if variables.password[:6] == 'canary' %}", "{% endif %}"
#: Each fails in another place.
FAILING = {
    "filter": "{{ variables.password | int(none) + none }}",
    "attribute": "{{ variables.password.nothing }}",
    "key": "{{ variables[variables.password] }}",
    "yaml": "x: {{ ': : [' ~ variables.password }}",
    "format": "{{ '%d' % variables.password }}",
    "undefined": "{{ services[variables.password].address }}",
}


def clean(text: str) -> None:
    for secret in (USED, UNUSED, *BASE64):
        assert secret not in text


def everything(desk: Desk) -> str:
    """All objects but the Secrets, as text."""

    async def read() -> str:
        async with desktop.open(desktop.Settings(desk.state)) as opened:
            return json.dumps([await opened.store.list(kind) for kind in KINDS])

    return asyncio.run(read())


def shown(desk: Desk) -> str:
    """What the commands that look say."""
    return "".join(
        done.stdout + done.stderr
        for done in (
            desk.run("status"),
            desk.run("get", "secrets"),
        )
    )


@pytest.mark.parametrize("form", ["text", pytest.param("json", marks=pytest.mark.long)])
def test_it_reaches_its_machine_and_nothing_else(desk: Desk, form: str) -> None:
    port = free_port()
    running = desk.start_run("--metrics-port", str(port), "--log-format", form, "--log-level", "debug")
    try:
        said = desk.occopus("up", "-f", desk.write("infra.yaml", SECRETS + GOOD), *TIMEOUT)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            said += answer.read().decode()
    finally:
        running.terminate()
        assert running.wait(COMMAND_SECONDS) == 0
    (file,) = desk.directory.glob("machines/*/root/password")
    assert file.read_text() == USED
    # The canary can be found: it stands in the Secret, in the state file.
    assert any(USED.encode() in each.read_bytes() or BASE64[0].encode() in each.read_bytes() for each in files(desk.directory))
    for text in (said, desk.started(), everything(desk), shown(desk)):
        clean(text)
    assert "password" in shown(desk)  # the key is shown, its value is not
    assert all(USED not in json.dumps(each) for each in desk.machines())


def files(directory: Path) -> list[Path]:
    return list(directory.glob("state.db*"))


def test_templates_that_fail_with_it_do_not_show_it(desk: Desk) -> None:
    templates = "".join(template(name, text.join(ONLY_WITH_IT)) for name, text in FAILING.items())
    services = [service(name, template=name) for name in FAILING]
    file = desk.write("infra.yaml", SECRETS + CLOUD + templates + infrastructure("safe", *services, more=VARIABLES))
    running = desk.start_run("--log-level", "debug")
    try:
        done = desk.run("up", "-f", file, "--timeout", HELD_SECONDS)
    finally:
        running.terminate()
        assert running.wait(COMMAND_SECONDS) == 0
    assert done.returncode == 1
    for name in FAILING:
        assert f"safe-{name}-0: TemplateInvalid: template of revision safe-{name}-" in done.stderr
    assert desk.machines() == []
    for said in (done.stdout, done.stderr, desk.started(), everything(desk), shown(desk)):
        clean(said)


def test_a_launch_waits_for_its_secret_and_goes_on_when_it_is_there(desk: Desk) -> None:
    said = desk.refused(1, "up", "-f", desk.write("infra.yaml", GOOD), "--timeout", HELD_SECONDS)
    assert "SecretNotFound" in said
    assert "database" in said
    assert desk.machines() == []
    # A key is missing: it waits still. Then all is there: the same file is not needed for it.
    other = SECRETS.replace("password: ", "other: ")
    assert "SecretNotFound" in desk.refused(1, "up", "-f", desk.write("secret.yaml", other + GOOD), "--timeout", HELD_SECONDS)
    desk.occopus("up", "-f", desk.write("secret.yaml", SECRETS + GOOD), *TIMEOUT)
    (file,) = desk.directory.glob("machines/*/root/password")
    assert file.read_text() == USED


def test_a_bad_secret_is_refused_without_its_value(desk: Desk) -> None:
    for line in (f"data: {{password: '%{USED}%'}}", f"stringData: {{password: [{USED}]}}", f"stringdata: {{password: {USED}}}"):
        text = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: database}}\n{line}\n"
        for command in ("validate", "up"):
            said = desk.refused(2, command, "-f", desk.write("bad.yaml", text))
            assert "Secret" in said
            clean(said)
