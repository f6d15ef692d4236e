"""Small descriptions for the tests of the command: services that are Ready at once, and some that wait for a gate."""

from __future__ import annotations

from pathlib import Path

CLOUD = """
apiVersion: occopus.io/v1alpha1
kind: Cloud
metadata: {name: here}
spec: {local: {}}
---
"""


def on_ec2(endpoint: str) -> str:
    """The Cloud `aws` with its Secret."""
    return f"""
apiVersion: v1
kind: Secret
metadata: {{name: aws}}
stringData: {{AWS_ACCESS_KEY_ID: AKIDMAIN, AWS_SECRET_ACCESS_KEY: c4n4ry}}
---
apiVersion: occopus.io/v1alpha1
kind: Cloud
metadata: {{name: aws}}
spec: {{ec2: {{region: eu-west-1, endpoint: "{endpoint}", credentials: {{secretRef: {{name: aws}}}}}}}}
---
"""


def template(name: str = "plain", command: str = "echo up") -> str:
    """Without probes: healthy as soon as the machine runs."""
    return f"""
apiVersion: occopus.io/v1alpha1
kind: InstanceTemplate
metadata: {{name: {name}}}
spec:
  implementations: [{{name: here, cloudRef: {{name: here}}, local: {{}}}}]
  context:
    cloudInit:
      template: |
        #cloud-config
        runcmd:
        - {command}
---
"""


def gated(gate: Path, name: str = "gated") -> str:
    """Healthy once the file `gate` is there, and not before."""
    serve = "exec python3 -m http.server 8080 --bind $OCCOPUS_ADDRESS"
    text = template(name, f"(until [ -e {gate} ]; do sleep 0.1; done; {serve}) &")
    return text.removesuffix("---\n") + "  health: {probes: [{name: page, tcp: {port: 8080}, periodSeconds: 1}]}\n---\n"


def infrastructure(name: str, *services: str, more: str = "") -> str:
    """`services` are flow mappings without the braces; `more` is further lines of spec."""
    listed = "".join(f"  - {{{each}}}\n" for each in services)
    return f"""
apiVersion: occopus.io/v1alpha1
kind: Infrastructure
metadata: {{name: {name}}}
spec:
{more}  services:
{listed}---
"""


def service(name: str, *needs: str, template: str = "plain", more: str = "") -> str:
    depends = ", ".join(f"{{service: {each}}}" for each in needs)
    return f"name: {name}, templateRef: {{name: {template}}}, dependsOn: [{depends}]{more}"


#: db → app (2 to 4) → web, up in about 3 s.
CHAIN = (
    CLOUD
    + template()
    + infrastructure("chain", service("web", "app"), service("app", "db", more=", scaling: {min: 2, max: 4}"), service("db"))
)
