"""The files a control plane is given, as text: kubeconfig, audit policy, tokens, the key of service accounts.

plane.py writes them. Pure but for the randomness of tokens and key; knows no paths and no processes.
"""

from __future__ import annotations

import base64
import csv
import io
import secrets
from collections.abc import Mapping

CONTEXT = "occopus-dev"
ADMIN, OPERATOR, NOBODY, CONTROLLER_MANAGER = "admin", "operator", "nobody", "system:kube-controller-manager"
# RBAC rights come from the group; `operator` and `nobody` have those that a test grants them.
GROUPS: Mapping[str, str] = {ADMIN: "system:masters", OPERATOR: "", NOBODY: "", CONTROLLER_MANAGER: "system:masters"}

# One line for each request once it was answered, so that writes can be counted.
AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: Metadata
"""

# SEC1 ECPrivateKey (RFC 5915) of 32 bytes with the curve P-256 and without the public key, which Go computes.
_EC_KEY_HEAD = bytes.fromhex("303102010104" + "20")
_EC_KEY_TAIL = bytes.fromhex("a00a06082a8648ce3d030107")
# The order of P-256 (FIPS 186-4, D.1.2.3): a private key is between 1 and one less.
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def service_account_key() -> str:
    """A new EC private key (P-256) as PEM; the API server takes the public key from it too."""
    scalar = secrets.randbelow(_P256_ORDER - 1) + 1
    der = _EC_KEY_HEAD + scalar.to_bytes(32, "big") + _EC_KEY_TAIL
    return f"-----BEGIN EC PRIVATE KEY-----\n{base64.encodebytes(der).decode()}-----END EC PRIVATE KEY-----\n"


def new_tokens() -> dict[str, str]:
    """A new token for each user."""
    return {user: secrets.token_hex(16) for user in GROUPS}


def token_file(tokens: Mapping[str, str]) -> str:
    """The API server's static token file: token, user, uid and groups a line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for user, token in tokens.items():
        writer.writerow([token, user, user, *([GROUPS[user]] if GROUPS[user] else [])])
    return out.getvalue()


def tokens_of(token_file: str) -> dict[str, str]:
    """What `token_file` wrote: the token of each user."""
    return {row[1]: row[0] for row in csv.reader(io.StringIO(token_file)) if row}


def kubeconfig(url: str, certificate: str, user: str, token: str) -> str:
    """A kubeconfig with one context, `occopus-dev`; `certificate` is the PEM that the server's is checked by."""
    return f"""\
apiVersion: v1
kind: Config
clusters:
- name: {CONTEXT}
  cluster:
    server: {url}
    certificate-authority-data: {base64.b64encode(certificate.encode()).decode()}
users:
- name: "{user}"
  user:
    token: "{token}"
contexts:
- name: {CONTEXT}
  context:
    cluster: {CONTEXT}
    user: "{user}"
    namespace: default
current-context: {CONTEXT}
"""
