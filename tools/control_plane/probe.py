"""Whether a component answers that it is ready.

plane.py asks, over and over while it starts; an answer that it is not ready is a reason, no error.
"""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass
from pathlib import Path

from tools.control_plane.ports import HOST

_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Question:
    """Paths that must all answer 200 on one port; by TLS if there is a certificate to check the server's by."""

    port: int
    paths: tuple[str, ...]
    certificate: Path | None = None
    token: str = ""


def why_not(question: Question) -> str | None:
    """Why it is not ready, in a line; None if it is."""
    try:
        return next((why for path in question.paths if (why := _ask(question, path))), None)
    except (OSError, http.client.HTTPException) as error:
        return f"{HOST}:{question.port}: {type(error).__name__}: {error}"


def _ask(question: Question, path: str) -> str | None:
    connection = _connection(question)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {question.token}"} if question.token else {})
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace").strip()
    finally:
        connection.close()
    # kube-apiserver lists its checks; those that fail begin with [-].
    failing = " ".join(line for line in body.splitlines() if line.startswith("[-]")) or body
    return None if answer.status == 200 else f"GET {path} on port {question.port}: {answer.status} {failing}"


def _connection(question: Question) -> http.client.HTTPConnection:
    if question.certificate is None:
        return http.client.HTTPConnection(HOST, question.port, timeout=_TIMEOUT_SECONDS)
    context = ssl.create_default_context(cafile=str(question.certificate))
    return http.client.HTTPSConnection(HOST, question.port, timeout=_TIMEOUT_SECONDS, context=context)
