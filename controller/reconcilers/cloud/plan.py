"""Is the account reachable, authorised, and still the same one? And who still needs the Cloud? Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.api import meta
from controller.api.cloud import AccountStatus, Cloud
from controller.api.reasons import Reason
from controller.ports import Account

#: How often a Cloud that answers is asked for its identity again; credentials that expire show earlier, in its lists.
CONTACT_EVERY = timedelta(minutes=5)
#: How soon a Cloud that does not answer, or not as it should, is asked again: within one poll (design section 5, rule 8).
CONTACT_AGAIN = timedelta(seconds=10)
#: How often the Secret of a Cloud is read again: it is never watched on an API server, so nobody tells that it was changed.
SECRET_EVERY = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Contact:
    """The last answer to "who am I": an account, or what went wrong. `with_config` is a digest of what it was asked with.

    `doubted` since a call by these credentials was denied: they are asked again soon.
    """

    at: datetime
    with_config: str
    account: Account | None = None
    reason: Reason | None = None
    message: str = ""
    doubted: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known of one Cloud.

    `controller_id` is ours, `config` a digest of spec and Secret, `secret` the name of the Secret it names, `secret_problem`
    why that cannot be used, `guarded` whether our finalizer is on it; `users` counts the Instances made on one that is deleted;
    `launched_in` are the accounts in which its Instances were launched, where it has recorded none itself: it is new, under the name of
    one that was taken away from them. `machines`, `trouble` and what kind of trouble that is come from the newest list.
    """

    cloud: Cloud
    now: datetime
    controller_id: str = ""
    config: str = ""
    installed: bool = True
    secret: str = ""
    secret_problem: str = ""
    guarded: bool = True
    users: int = 0
    launched_in: tuple[AccountStatus, ...] = ()
    contact: Contact | None = None
    machines: int | None = None
    trouble: str = ""
    trouble_reason: Reason = Reason.CLOUD_UNREACHABLE


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    pass


@dataclass(frozen=True, slots=True)
class GuardSecret:
    """Put our finalizer on the Secret: without it the machines could not be ended."""

    name: str


@dataclass(frozen=True, slots=True)
class FreeSecret:
    """Take our finalizer off a Secret that the Cloud names no more, if no other one does."""

    name: str


@dataclass(frozen=True, slots=True)
class AskIdentity:
    pass


@dataclass(frozen=True, slots=True)
class Release:
    """Let the Cloud go, if a live list shows no Instance of it; its Secrets first, those that no other Cloud names."""

    secrets: tuple[str, ...]


Action = AddFinalizer | GuardSecret | FreeSecret | AskIdentity | Release


@dataclass(frozen=True, slots=True)
class Plan:
    """What is due, whether machines may be made and ended there, and the account that is recorded."""

    actions: tuple[Action, ...]
    ready: bool
    reason: Reason
    message: str
    account: AccountStatus | None
    again: datetime | None = None


def plan(o: Observed) -> Plan:
    """The acts that are due, and whether the account can be used."""
    recorded = o.cloud.status.account
    if o.cloud.metadata.deleting and not o.users:
        secrets = tuple(sorted({*o.cloud.status.secrets, o.secret} - {""}))
        return Plan((Release(secrets),), False, Reason.TERMINATING, "no Instance is left", recorded)
    if not o.cloud.metadata.deleting and meta.FINALIZER not in o.cloud.metadata.finalizers:
        return Plan((AddFinalizer(),), False, Reason.RECONCILING, "its finalizer is set first", recorded)
    kind, _ = o.cloud.spec.arm()
    if not o.installed:
        return Plan((), False, Reason.UNKNOWN_KIND, f"no driver for {kind or 'this kind'} is installed", recorded)
    if o.cloud.status.controller_id not in (None, o.controller_id):
        # Its list would be an honest empty one: all machines would be made again, and the old ones left running.
        message = f"its machines have the controller id {o.cloud.status.controller_id}; this controller has {o.controller_id}"
        return Plan((), False, Reason.CONTROLLER_CHANGED, message, recorded)
    freed = tuple(FreeSecret(each) for each in o.cloud.status.secrets if each != o.secret)
    if o.secret_problem:
        return Plan(freed, False, Reason.SECRET_NOT_FOUND, o.secret_problem, recorded, o.now + CONTACT_AGAIN)
    guard = () if o.guarded or not o.secret else (GuardSecret(o.secret),)
    return _contacted(o, (*freed, *guard))


def _contacted(o: Observed, secrets: tuple[Action, ...]) -> Plan:
    contact, recorded = o.contact, _recorded(o)
    if contact is None or contact.with_config != o.config:
        return Plan((*secrets, AskIdentity()), False, Reason.RECONCILING, "the account is being asked who it is", recorded)
    if contact.account is None:
        reason = contact.reason or Reason.CLOUD_UNREACHABLE
        due = _due(o, contact, CONTACT_AGAIN)
        actions = (*secrets, AskIdentity()) if o.now >= due else secrets
        return Plan(actions, False, reason, contact.message, recorded, due)
    account = account_status(contact.account)
    in_doubt = contact.doubted or bool(o.trouble) or recorded not in (None, account)
    due = _due(o, contact, CONTACT_AGAIN if in_doubt else CONTACT_EVERY)
    actions = (*secrets, AskIdentity()) if o.now >= due else secrets
    due = min(due, o.now + SECRET_EVERY) if o.secret else due
    if recorded is not None and recorded != account:
        message = f"the credentials answer for {_account(account)}; recorded is {_account(recorded)}"
        return Plan(actions, False, Reason.ACCOUNT_CHANGED, message, recorded, due)
    if o.trouble:
        return Plan(actions, False, o.trouble_reason, o.trouble, account, due)
    if o.machines is None:
        return Plan(actions, False, Reason.RECONCILING, "its machines are being listed", account, due)
    return Plan(actions, True, Reason.READY, _account(account), account, due)


def _due(o: Observed, contact: Contact, after: timedelta) -> datetime:
    """When the Cloud is asked again: at once where the clock was set back since."""
    return contact.at + after if contact.at <= o.now else o.now


def _recorded(o: Observed) -> AccountStatus | None:
    """The account that its machines are in, as far as anything says so."""
    if o.cloud.status.account is not None or o.contact is None or o.contact.account is None:
        return o.cloud.status.account
    account = account_status(o.contact.account)
    return min((each for each in o.launched_in if each != account), key=_account, default=None)


def _account(account: AccountStatus) -> str:
    """One line that tells two accounts apart."""
    return (
        f"account {account.id}"
        + (f" in {account.region}" if account.region else "")
        + (f" at {account.endpoint}" if account.endpoint else "")
    )


def account_status(account: Account) -> AccountStatus:
    """The account as objects record it."""
    return AccountStatus(kind=account.kind, id=account.id, region=account.region, endpoint=account.endpoint)
