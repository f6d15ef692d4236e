"""The light EC2: one HTTP request in, what EC2 or STS would reply out. It shows a World, which holds the truth.

`serve` puts it on a socket; tests may call `handle` without one. A call passes these gates in this order: a fault that a
test commanded, whose key it is, whether there is such an action with such fields, the throttle, the action itself. Each
call leaves one line in the World's ledger: the action's name in EC2's words, the client token, the machines, and "ok" or
EC2's error code.

Faults are the World's: `world.fail("RunInstances", error, times=…, after=…, where=…)`, where the error may be one of the
engine's (answered as EC2 words it; `Transient` closes the connection without a word) or a `Refusal`, `Garbage` or `Hang`.
`where` is asked with the client token or, of calls without, the ids named, with spaces between. `world.falsify` meets the
next DescribeInstances that names no ids.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from controller import errors
from controller.ports import MachineId
from tests.simulated.ec2 import buckets, lookups, machines
from tests.simulated.ec2.asked import Action, Asked, Behaviour, Desk, Done, action
from tests.simulated.ec2.buckets import Buckets
from tests.simulated.ec2.catalogue import Catalogue
from tests.simulated.ec2.query import Fields, Request, Signer, fields, signer
from tests.simulated.ec2.refusals import Garbage, Hang, Refusal, refusal
from tests.simulated.ec2.reply import Dropped, Reply, Response
from tests.simulated.ec2.xml import element
from tests.simulated.world import Call, Fault, World

_EC2 = "http://ec2.amazonaws.com/doc/2016-11-15/"
_STS = "https://sts.amazonaws.com/doc/2011-06-15/"
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
SPOT_TERMINATION = "Server.SpotInstanceTermination: Spot instance termination"


@dataclass(frozen=True, slots=True)
class _Entry:
    """One call on its way through the gates. `ids` are the machines it names."""

    number: int
    signer: Signer | None
    fields: Fields

    @property
    def action(self) -> str:
        return self.fields.text("Action")

    @property
    def service(self) -> str:
        return self.signer.service if self.signer else "ec2"

    @property
    def token(self) -> str:
        return self.fields.text("ClientToken")

    @property
    def ids(self) -> tuple[str, ...]:
        alone = self.fields.text("InstanceId")
        return (alone,) if alone else tuple(self.fields.values("InstanceId"))


@dataclass
class LightEc2:
    """See the module. `keys` says whose each access key is, by account ids of 12 digits; those in `expired` are over."""

    world: World
    catalogue: Catalogue = field(default_factory=Catalogue)
    behaviour: Behaviour = field(default_factory=Behaviour)
    keys: dict[str, str] = field(default_factory=lambda: {"AKIDMAIN": "111111111111", "AKIDOTHER": "222222222222"})
    expired: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        self.world.id_of = lambda number: f"i-{number:017x}"
        self._desk = Desk(self.world, self.catalogue, self.behaviour, Buckets(self.world.clock))
        self._actions: dict[str, dict[str, Action]] = {
            "ec2": machines.actions() | lookups.actions(),
            "sts": {"GetCallerIdentity": action(_caller)},
        }

    def handle(self, request: Request) -> Reply:
        """The reply to one request. Safe to use from several threads."""
        with self.world.lock:
            entry = _Entry(next(self.world.numbers), signer(request), fields(request))
            fault = self._fault(entry)
            if fault is None:
                return self._answer(entry)
            return self._after(entry, fault.error) if fault.after else self._instead(entry, fault.error)

    def interrupt(self, id: str) -> None:
        """EC2 takes a spot instance back."""
        with self.world.lock:
            self.world.machines[MachineId(id)].message = SPOT_TERMINATION
            self.world.terminate(MachineId(id))

    # --- commanded faults -------------------------------------------------------------------------------------------
    def _fault(self, entry: _Entry) -> Fault | None:
        named = entry.token or " ".join(entry.ids)
        found = self.world.take_fault(entry.action, named) or self.world.take_fault(entry.action, named, whole=True)
        over = found is not None and isinstance(found.error, Hang) and found.error.released.is_set()
        return None if over else found

    def _instead(self, entry: _Entry, error: errors.CloudError) -> Reply:
        if isinstance(error, Hang):
            return error.hold(lambda: self._later(entry))
        self._note(entry, error.code if isinstance(error, Refusal) else type(error).__name__, entry.ids)
        return _reply(error, entry)

    def _later(self, entry: _Entry) -> Reply:
        with self.world.lock:
            return self._answer(entry)

    def _after(self, entry: _Entry, error: errors.CloudError) -> Reply:
        if isinstance(error, Hang):
            answer = self._answer(entry)
            return error.hold(lambda: answer)
        self._answer(entry, lost="lost ")
        return _reply(error, entry)

    # --- the gates --------------------------------------------------------------------------------------------------
    def _answer(self, entry: _Entry, lost: str = "") -> Response:
        try:
            done = self._do(entry)
        except Refusal as refused:
            self._note(entry, f"{lost}{refused.code}", entry.ids)
            return _error(refused, entry)
        self._note(entry, f"{lost}ok", done.ids)
        return _success(done, entry)

    def _do(self, entry: _Entry) -> Done:
        account = self._account(entry.signer)
        wanted = self._actions.get(entry.service, {}).get(entry.action)
        if wanted is None:
            raise Refusal("InvalidAction", f"The action {entry.action} is not valid for this web service.")
        unknown = sorted(entry.fields.names() - wanted.known)
        if unknown:
            raise Refusal("UnknownParameter", f"The parameter {unknown[0]} is not recognized")
        if entry.service == "ec2":
            self._throttle(entry, account)
        return wanted.do(Asked(self._desk, account, entry.fields))

    def _account(self, asking: Signer | None) -> tuple[str, str]:
        if asking is None:
            raise Refusal("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
        sts = asking.service == "sts"
        if asking.access_key in self.expired:
            raise Refusal("ExpiredToken" if sts else "RequestExpired", "The security token included in the request is expired")
        account = self.keys.get(asking.access_key)
        if account is None and sts:
            raise Refusal("InvalidClientTokenId", "The security token included in the request is invalid.", 403)
        if account is None:
            raise Refusal("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
        return self.world.settings.answers_for.get(account, account), asking.region

    def _throttle(self, entry: _Entry, account: tuple[str, str]) -> None:
        filtered = any(entry.fields.has(each) for each in ("Filter", "MaxResults", "NextToken"))
        name, limit = buckets.request_limit(entry.action, filtered=filtered)
        if self.behaviour.throttles and not self._desk.buckets.take((name, *account), limit):
            raise Refusal("RequestLimitExceeded", "Request limit exceeded.", 503)

    def _note(self, entry: _Entry, outcome: str, ids: tuple[str, ...]) -> None:
        self.world.ledger.append(Call(entry.number, self.world.clock(), entry.action, entry.token, ids, outcome))


def _caller(asked: Asked) -> Done:
    account = asked.account[0]
    arn = f"arn:aws:iam::{account}:user/occopus"
    return Done(element("Arn", arn) + element("UserId", "AIDA0000000000000001") + element("Account", account))


# --- wording --------------------------------------------------------------------------------------------------------
def _reply(error: errors.CloudError, entry: _Entry) -> Reply:
    if isinstance(error, errors.Transient):
        return Dropped()
    if isinstance(error, Garbage):
        return Response(error.status, error.body, "text/html")
    return _error(refusal(error), entry)


def _request_id(entry: _Entry) -> str:
    return f"00000000-0000-4000-8000-{entry.number:012x}"


def _success(done: Done, entry: _Entry) -> Response:
    name, request = f"{entry.action}Response", _request_id(entry)
    if entry.service == "sts":
        result = f"<{entry.action}Result>{done.body}</{entry.action}Result>"
        text = f'<{name} xmlns="{_STS}">{result}<ResponseMetadata><RequestId>{request}</RequestId></ResponseMetadata></{name}>'
    else:
        text = f'{_XML}<{name} xmlns="{_EC2}"><requestId>{request}</requestId>{done.body}</{name}>'
    return Response(200, text.encode())


def _error(refused: Refusal, entry: _Entry) -> Response:
    said = element("Code", refused.code) + element("Message", refused.message)
    if entry.service == "sts":
        inside = f"<Error><Type>Sender</Type>{said}</Error><RequestId>{_request_id(entry)}</RequestId>"
        text = f'<ErrorResponse xmlns="{_STS}">{inside}</ErrorResponse>'
    else:
        text = f"{_XML}<Response><Errors><Error>{said}</Error></Errors><RequestID>{_request_id(entry)}</RequestID></Response>"
    return Response(refused.status, text.encode())
