"""What EC2 answers instead of doing what was asked, by EC2's own error codes, and what no answer at all looks like.

Actions raise a `Refusal`; tests hand these, and the engine's own errors, to `World.fail`. The codes and their HTTP status
are those of "Error codes for the Amazon EC2 API"
(https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from controller import errors
from tests.simulated.ec2.reply import Held, Reply


class Refusal(errors.CloudError):
    """An error answer: `code` in EC2's words, the HTTP status it comes with."""

    def __init__(self, code: str, message: str = "", status: int = 400) -> None:
        super().__init__(message or code)
        self.code = code
        self.message = message or code
        self.status = status


class Garbage(errors.CloudError):
    """A reply that is no answer of EC2's: what a proxy on the way says, or a body cut off."""

    def __init__(self, body: bytes = b"<html><body>It works!</body></html>", status: int = 200) -> None:
        super().__init__("garbage")
        self.body = body
        self.status = status


class Hang(errors.CloudError):
    """A call that meets it is held until `release`; `reached` is set when one is.

    With `after` the deed is done first; else it is done on release, even if the client has gone by then: a request that
    the network delivers late.
    """

    def __init__(self) -> None:
        super().__init__("hang")
        self.reached = threading.Event()
        self.released = threading.Event()

    def hold(self, then: Callable[[], Reply]) -> Held:
        self.reached.set()
        return Held(self.released, then)

    def release(self) -> None:
        """Let the held calls go on, and later ones pass."""
        self.released.set()


#: EC2's answer in place of each of the engine's errors. `Transient` is not here: it is the connection closed.
_CODES: tuple[tuple[type[errors.CloudError], str, int], ...] = (
    (errors.Throttled, "RequestLimitExceeded", 503),
    (errors.NoCapacity, "InsufficientInstanceCapacity", 500),
    (errors.QuotaExceeded, "VcpuLimitExceeded", 400),
    (errors.Denied, "UnauthorizedOperation", 403),
    (errors.Invalid, "InvalidParameterValue", 400),
    (errors.MachineNotFound, "InvalidInstanceID.NotFound", 400),
    (errors.TokenSpent, "IdempotentInstanceTerminated", 400),
)


def refusal(error: errors.CloudError) -> Refusal:
    """A commanded error as EC2 would word it."""
    if isinstance(error, Refusal):
        return error
    for kind, code, status in _CODES:
        if isinstance(error, kind):
            return Refusal(code, str(error), status)
    return Refusal("InternalError", str(error), 500)


def not_found(kind: str, what: str, ids: str) -> Refusal:
    """`InvalidSubnetID.NotFound` and its likes."""
    return Refusal(f"{kind}.NotFound", f"The {what} '{ids}' does not exist")


def invalid(message: str) -> Refusal:
    return Refusal("InvalidParameterValue", message)
