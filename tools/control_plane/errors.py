"""The one error of the control plane: its message says what failed, where, and what to do about it."""

from __future__ import annotations


class ControlPlaneError(Exception):
    """The control plane could not be built or started."""
