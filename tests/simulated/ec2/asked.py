"""What every action of the light EC2 is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum

from tests.simulated.ec2 import buckets
from tests.simulated.ec2.buckets import Buckets
from tests.simulated.ec2.catalogue import Catalogue
from tests.simulated.ec2.query import Fields
from tests.simulated.ec2.refusals import Refusal
from tests.simulated.world import NEVER, World


class Page(Enum):
    """What a machine answers at its own port, see `answering`."""

    SERVES = "Serves"
    #: The answer is 500.
    FAILS = "Fails"
    #: A connection is accepted, and nothing is answered.
    HANGS = "Hangs"
    #: Nothing listens.
    REFUSES = "Refuses"


@dataclass(slots=True)
class Behaviour:
    """What of EC2's manners a test wants, beside the World's settings. May be changed at any time."""

    #: Whether requests are throttled as EC2 publishes it.
    throttles: bool = False
    #: How long after its end a machine's tags are still shown.
    tags_fade_seconds: float = NEVER
    #: Whether a machine that no read shows yet is unknown to TerminateInstances too, as eventual consistency allows.
    mutations_lag: bool = False
    #: Whether a client token is spent when the first of its machines has ended; else when all have. EC2 does not say.
    first_end_spends_token: bool = False
    #: What the account's default says of a launch that does not: whether the metadata of its machines show their tags.
    metadata_tags: str = "disabled"
    #: What running machines answer at their own port, by id, in place of what the World says of their health.
    pages: dict[str, Page] = field(default_factory=dict[str, Page])


@dataclass(slots=True)
class Desk:
    """What the light EC2 keeps beside the World."""

    world: World
    catalogue: Catalogue
    behaviour: Behaviour
    buckets: Buckets
    #: What is left of a paged answer, by NextToken: whose it is, and the ids in order.
    pages: dict[str, tuple[tuple[str, str], tuple[str, ...]]] = field(default_factory=dict[str, tuple[tuple[str, str], tuple[str, ...]]])


@dataclass(frozen=True, slots=True)
class Asked:
    """One call: `account` is (account id, region)."""

    desk: Desk
    account: tuple[str, str]
    fields: Fields

    @property
    def world(self) -> World:
        return self.desk.world

    def zone(self, letter: str) -> str:
        return self.account[1] + letter

    def time(self, seconds: float) -> datetime:
        """A moment of the World's."""
        return (self.world.epoch + timedelta(seconds=seconds)).astimezone(UTC)

    def refuse_dry_run(self) -> None:
        """To be called when everything else is checked. Raises Refusal, which is the good answer to a DryRun."""
        if self.fields.yes("DryRun"):
            raise Refusal("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)

    def take_instances(self, action: str, count: int) -> None:
        """Take tokens for so many instances. Raises Refusal if there are too few."""
        taking = self.desk.behaviour.throttles
        if taking and not self.desk.buckets.take((f"{action} instances", *self.account), buckets.INSTANCES[action], count):
            raise Refusal("RequestLimitExceeded", "Request limit exceeded.", 503)


@dataclass(frozen=True, slots=True)
class Done:
    """The inside of an answer, and the machines it is about: those made, ended, or asked for by id."""

    body: str
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """What an action does, and the fields it knows: another is refused, so that none is ignored in silence."""

    do: Callable[[Asked], Done]
    known: frozenset[str]


def action(do: Callable[[Asked], Done], *known: str) -> Action:
    return Action(do, frozenset((*known, "Action", "Version", "DryRun")))
