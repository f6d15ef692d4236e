"""Every error this project raises on purpose, and what its reader can do about it.

OccopusError
├── StoreError                 the home of the objects (Kubernetes API, state file)
│   ├── ObjectNotFound         the object named by `key` does not exist
│   ├── AlreadyExists          a create met an object of that name
│   ├── Conflict               the resourceVersion or UID is not the current one: read again, requeue silently
│   ├── Rejected               the API's rules refuse it: `causes` name field and why; retrying changes nothing
│   ├── Forbidden              the API server does not allow this verb on this resource
│   ├── Unavailable            no answer; of a write the outcome is unknown until a live read
│   └── StoreUnusable          the file is locked, copied, damaged, read-only or of a newer version; to the command line also
│                              a cluster that gives no answer or does not allow what it asks
├── CloudError                 what a cloud answered, one class per way out
│   ├── Throttled              slow down; `after_seconds` if the cloud said
│   ├── Transient              no usable answer: of a mutation the outcome is unknown
│   ├── NoCapacity             nothing was made; try the next implementation
│   ├── QuotaExceeded          nothing was made; the account's limit is reached
│   ├── Denied                 credentials are missing, wrong, expired, or lack a permission
│   ├── Invalid                `field` of the machine's spec cannot be used, `why` says why
│   ├── MachineNotFound        the id names nothing in this account
│   └── TokenSpent             the launch token names a machine that has ended, or other parameters
├── ContextError               user data cannot be made
│   ├── TemplateError          template, line, column and message
│   │   └── TooCostly          it took more time or memory than it may; where the machine is short of them that may pass
│   └── TooLarge               `size_bytes` and `limit_bytes`
├── RendererFailed             the process that renders gave no answer, which says nothing of the template: try again later
├── LeadershipLost             another process may lead: end this one at once, without another write
├── NamespacesChanged          other namespaces may be served than this process serves: end it, the next one serves those
├── Stalled                    an Infrastructure cannot become as described as things are: deleted, paused, or as the message says
└── UsageError                 the command line or the library was called wrongly; the message says the way out
"""

from __future__ import annotations

from dataclasses import dataclass


class OccopusError(Exception):
    """Root of the tree above."""


class StoreError(OccopusError):
    """The home of the objects did not do what was asked."""


class ObjectNotFound(StoreError):
    """The object does not exist."""


class AlreadyExists(StoreError):
    """An object of that kind and name exists."""


class Conflict(StoreError):
    """The object changed since it was read, or another object took its name."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason of a refusal: `field` as a path (`spec.services[0].name`), `message` in the API's words.

    `value` is what stands there, where the message does not show it and whoever reads it may.
    """

    field: str
    message: str
    value: str = ""

    def __str__(self) -> str:
        """The field once: the API's words may name it again."""
        message = self.message.replace(f"{self.field} in body ", "").removesuffix(f' "{self.field}"')
        value = f", it is {self.value}" if self.value else ""
        return f"{self.field}: {message}{value}" if self.field else self.message


class Rejected(StoreError):
    """The object breaks a rule of the API; `causes` has at least one entry."""

    def __init__(self, subject: str, causes: tuple[Cause, ...]) -> None:
        super().__init__(f"{subject} is invalid: " + "; ".join(map(str, causes)))
        self.causes = causes


class Forbidden(StoreError):
    """The verb on this resource is not allowed to us."""


class Unavailable(StoreError):
    """No answer from the store; a write may or may not have been done."""


class StoreUnusable(StoreError):
    """The state file or the cluster cannot be used as it is; the message names the way out."""


class StoreLocked(StoreUnusable):
    """Another process holds the lock of the state file."""


class CloudError(OccopusError):
    """What a cloud answered."""


class Throttled(CloudError):
    """The cloud asks to slow down."""

    def __init__(self, message: str, after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.after_seconds = after_seconds


class Transient(CloudError):
    """No usable answer. Of a mutation the outcome is unknown."""


class NoCapacity(CloudError):
    """The cloud has no room for this kind of machine now; nothing was made. `fewer` says whether fewer of them might fit."""

    def __init__(self, message: str, *, fewer: bool = True) -> None:
        super().__init__(message)
        self.fewer = fewer


class QuotaExceeded(CloudError):
    """The account's own limit is reached; nothing was made."""


class Denied(CloudError):
    """Credentials are missing, wrong or expired, or lack a permission; nothing was made."""


class Invalid(CloudError):
    """A field of the machine's spec cannot be used; nothing was made."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


class MachineNotFound(CloudError):
    """The id names no machine of this account."""


class TokenSpent(CloudError):
    """The launch token was used before: its machine has ended, or it was sent with other parameters."""


class ContextError(OccopusError):
    """User data cannot be made from the template and its inputs."""


class TemplateError(ContextError):
    """The template or its result is wrong; line and column count from 1, 0 where unknown."""

    def __init__(self, template: str, line: int, column: int, why: str) -> None:
        place = f", line {line}" + (f", column {column}" if column else "") if line else ""
        super().__init__(f"{template}{place}: {why}")
        self.template = template
        self.line = line
        self.column = column
        self.why = why


class TooCostly(TemplateError):
    """Rendering took more processor time or memory than a template may; the machine may have had its part in that."""


class TooLarge(ContextError):
    """User data is over the cloud's limit, compressed too."""

    def __init__(self, size_bytes: int, compressed_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"user data is {size_bytes} bytes, {compressed_bytes} bytes compressed; the cloud takes {limit_bytes}")
        self.size_bytes = size_bytes
        self.compressed_bytes = compressed_bytes
        self.limit_bytes = limit_bytes


class RendererFailed(OccopusError):
    """The process that renders could not be started, did not answer in time, or was ended by others."""


class LeadershipLost(OccopusError):
    """The lease is another's, or may be by now: this process must end at once."""


class NamespacesChanged(OccopusError):
    """Others of the namespaces named may be served than this process serves."""


class Stalled(OccopusError):
    """The Infrastructure will not become as it is described, however long one waits."""


class UsageError(OccopusError):
    """The caller asked for something that cannot be done as asked."""
