"""What EC2 and STS answer instead of doing what was asked, in the engine's words: one table.

`controller.clouds.ec2.driver` passes in whatever botocore raised; this module decides which of `controller.errors` it is and how it
reads. Messages land in conditions, so they are one line, without request ids, object addresses or anything of the credentials.

Codes: "Error codes for the Amazon EC2 API" (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html) and
"Common error types" (https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html). The first says that 4xx is an error
of the client's, which refuses the request: nothing was made. Of a 5xx nothing follows, save where the code itself says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from controller import errors

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_MESSAGE_LENGTH = 400
#: However long an answer asks for.
_AFTER_MOST_SECONDS = 60.0
#: The field named where nothing tells which it is.
WHOLE = "ec2"

#: Said of a wrong key, and also of a thing that is not the account's to use: "trying to use an AMI for which you do not have permissions".
_AUTH_FAILURE = "AuthFailure"
#: What its words hold where it is the key: "AWS was not able to validate the provided access credentials".
_OF_KEY = re.compile(r"credential|signature|access key|token|^\W*$", re.IGNORECASE)
#: The credentials. EC2's own words are not shown: some of them hold the key's id or the signature.
_CREDENTIALS: dict[str, str] = {
    _AUTH_FAILURE: "the access key is not accepted, or the region is not enabled for the account",
    "InvalidClientTokenId": "there is no such access key, or the region is not enabled for the account",
    "InvalidAccessKeyId": "there is no such access key",
    "UnrecognizedClientException": "the access key or the session token is not accepted",
    "SignatureDoesNotMatch": "the secret access key is not that of the access key",
    "InvalidSignatureException": "the secret access key is not that of the access key",
    "IncompleteSignature": "the access key or the secret access key is malformed",
    "MissingAuthenticationToken": "the request was not signed",
    "ExpiredToken": "the session token has expired",
    "ExpiredTokenException": "the session token has expired",
    "InvalidToken": "the session token is not accepted",
    "RequestExpired": "the session token has expired, or the controller's clock is wrong",
    "InvalidSecurity.RequestHasExpired": "the session token has expired, or the controller's clock is wrong",
}
#: What STS's words hold where it is not the signature but its time: "Signature expired: … is now earlier than …".
_OF_CLOCK = re.compile(r"expired|not yet current", re.IGNORECASE)
_CLOCK = "RequestExpired"
#: Calls that the SDK makes by itself for the controller's own credentials. An answer to them is none to the call that waits for it.
_OF_SDK = frozenset(
    {"AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "CreateOAuth2Token", "CreateToken", "GetRoleCredentials"}
)
#: Said of a machine that is protected, whoever asks; not of a right that lacks.
PROTECTED = "OperationNotPermitted"
_NOT_GOT = "the AWS SDK could not get the controller's own credentials"
_SSO_OVER = "the controller's own AWS single sign-on has expired: log in again"
#: An image of the marketplace whose terms nobody of the account has accepted, in place of a service that was not signed up for.
_OF_IMAGE = re.compile(r"marketplace|accept terms", re.IGNORECASE)
#: In order; the first pattern that the code matches decides.
_KINDS: tuple[tuple[type[errors.CloudError], tuple[str, ...]], ...] = (
    (errors.TokenSpent, ("IdempotentParameterMismatch", "IdempotentInstanceTerminated")),
    (errors.Throttled, ("RequestLimitExceeded", "*Throttl*", "TooManyRequests*", "SlowDown", "BandwidthLimitExceeded")),
    # `Unsupported` is said of a type that the zone does not have; Karpenter (pkg/errors) counts it here too.
    (errors.NoCapacity, ("Insufficient*", "*CapacityExceeded", "SpotMaxPriceTooLow", "Unsupported", "UnfulfillableCapacity")),
    (errors.NoCapacity, ("VolumeTypeNotAvailableInZone",)),
    # Permissions, and what the account's owner must do first.
    (errors.Denied, ("UnauthorizedOperation", "AccessDenied*", "NotAuthorized", PROTECTED, "RegionDisabledException")),
    (errors.Denied, ("OptInRequired", "Blocked", "PendingVerification")),
    (errors.MachineNotFound, ("InvalidInstanceID*",)),
    (
        errors.Transient,
        (
            "Internal*",
            "ServiceUnavailable",
            "Unavailable",
            "RequestTimeout*",
            "InvalidPaginationToken",
            "InvalidNextToken",
            "ConcurrentTagAccess",
        ),
    ),
)
#: Of a lack of capacity: it is of the kind of machine, however few are asked for.
_OF_KIND = ("Unsupported", "VolumeTypeNotAvailableInZone", "SpotMaxPriceTooLow")
#: Limits that a field is over, and not the account.
_OF_FIELD = ("TagLimitExceeded", "AttachmentLimitExceeded", "SecurityGroups*", "InvalidInterface*")
_QUOTA = ("*LimitExceeded", "*CountExceeded", "VolumeIOPSLimit")
#: What is wrong of a read too; other strange refusals of a read are asked again.
_WRONG = ("UnsupportedOperation", "InvalidParameterCombination")
#: Which of our fields a code is about.
_FIELDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("image", ("InvalidAMI*", "InvalidUserID*")),
    ("subnet", ("InvalidSubnet*", "MissingInput", "VPC*NotSpecified", "DefaultVpcDoesNotExist")),
    ("securityGroups", ("InvalidSecurityGroup*", "InvalidGroup*", "SecurityGroup*")),
    ("keyName", ("InvalidKey*",)),
    ("instanceType", ("InvalidInstanceType*", "IncompatibleArchitecture*")),
    ("iamInstanceProfile", ("InvalidIamInstanceProfile*",)),
    ("rootVolume", ("BootForVolumeTypeUnsupported",)),
    ("volumes", ("InvalidBlockDeviceMapping*", "InvalidVolume*", "UnknownVolumeType", "InvalidSnapshot*", "AttachmentLimitExceeded")),
    ("volumes", ("EncryptedVolumesNotSupported", "CustomerKeyHasBeenRevoked", "InvalidDevice*")),
    ("zone", ("InvalidZone*", "InvalidAvailabilityZone*")),
    ("spot", ("InvalidSpot*", "LimitPriceExceeded")),
    ("userData", ("InvalidUserData*",)),
    ("tags", ("InvalidTag*", "TagLimitExceeded")),
    ("publicAddress", ("InvalidInterface*", "InvalidNetworkInterface*")),
)
#: Which it is by the message, where the code says only that some parameter is wrong: words of RunInstances, in order.
_WORDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("iamInstanceProfile", ("iaminstanceprofile", "instance profile")),
    ("instanceType", ("instancetype", "instance type")),
    ("image", ("imageid", "for image")),
    ("zone", ("availabilityzone", "availability zone")),
    ("subnet", ("subnet",)),
    ("securityGroups", ("securitygroup", "security group", "groupid")),
    ("keyName", ("keyname", "key pair")),
    ("userData", ("user data", "userdata")),
    ("volumes", ("blockdevice", "volume")),
    ("spot", ("spot", "maxprice")),
    ("publicAddress", ("associatepublicip",)),
    ("tags", ("tag",)),
)
#: What botocore raises by itself, by the names of its classes, so that nothing of it is imported here.
_NO_CREDENTIALS = {
    "NoCredentialsError": "the AWS SDK found no credentials of the controller's own",
    "PartialCredentialsError": "the AWS SDK found only a part of the controller's own credentials",
    "CredentialRetrievalError": _NOT_GOT,
    # The SDK asks for a code at the terminal: where there is one, and only once.
    "EOFError": "the controller's own profile asks for a code of a device (mfa_serial), and nobody is there to give it",
    "RefreshWithMFAUnsupportedError": "the code of a device (mfa_serial) is good for no longer: start the controller again",
    # Of a file that holds a token, or a configuration.
    **dict.fromkeys(("FileNotFoundError", "PermissionError", "ConfigParseError", "InvalidConfigError"), _NOT_GOT),
    "ProfileNotFound": "the profile that AWS_PROFILE names is in no configuration file of the controller",
    # Of the token of an `sso-session`, and of one without.
    **dict.fromkeys(("TokenRetrievalError", "SSOError"), _SSO_OVER),
    "LoginError": "the controller's own AWS login has expired: log in again",
    "MissingDependencyException": "the AWS SDK needs one more package for the controller's own AWS login: pip install 'botocore[crt]'",
}
#: The words of a RuntimeError of botocore's, before it sends anything.
_STILL_EXPIRED = "refreshed credentials are still expired"
_NOT_EC2 = "the answer is none of EC2's"
_NO_ANSWER = {
    # Of an answer that is not as the API's description has it, botocore's parsers say so or trip over it.
    **dict.fromkeys(("ResponseParserError", "LookupError", "ValueError", "TypeError", "AttributeError"), _NOT_EC2),
    "ConnectTimeoutError": "connecting took too long",
    "ReadTimeoutError": "the answer took too long",
    "ConnectionClosedError": "the connection was closed without an answer",
    "ProxyConnectionError": "the proxy could not be reached",
    "SSLError": "TLS failed, or the certificate is not accepted",
    "EndpointConnectionError": "it could not be reached",
}


def no_answer(where: str, error: Exception) -> errors.CloudError:
    """What botocore raised without an answer that can be read; `where` is who was asked.

    The SDK asks others by itself, and STS is another one than EC2: whoever did not answer is named, where the error says so.
    """
    where = _asked(error) or where
    names = [each.__name__ for each in type(error).__mro__]
    if isinstance(error, RuntimeError) and _STILL_EXPIRED in str(error):
        return errors.Denied(_NOT_GOT)
    for name in names:
        if name in _NO_CREDENTIALS:
            return errors.Denied(_NO_CREDENTIALS[name])
        if name in _NO_ANSWER:
            return errors.Transient(f"{where}: {_NO_ANSWER[name]}")
    if "ParamValidationError" in names:
        # Its own words hold the values, and user data may be one of them.
        named = sorted(set(re.findall(r"parameter ([\w.\[\]]+),", str(error))))
        return errors.Invalid(WHOLE, f"the AWS SDK refuses the parameters of the call: {', '.join(named)}".removesuffix(": "))
    return errors.Transient(f"{where}: {names[0]}")


def _asked(error: Exception) -> str:
    """The host that an error of the connection is about; empty where that is not said."""
    said: Mapping[str, object] = getattr(error, "kwargs", {})
    return urlsplit(str(said.get("endpoint_url", ""))).netloc


def answered(where: str, error: ClientError, *, mutation: bool) -> errors.CloudError:
    """An error answer of EC2's or STS's. A strange one that is the client's fault refuses a mutation; a read tries again."""
    response: Mapping[str, Any] = error.response
    said: Mapping[str, Any] = response.get("Error") or {}
    code, words = str(said.get("Code") or "").removeprefix("Client.").removeprefix("Server."), str(said.get("Message") or "")
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    if error.operation_name in _OF_SDK:
        return _of_sdk(where, code, status)
    if code in _CREDENTIALS and (code != _AUTH_FAILURE or _OF_KEY.search(words)):
        clock = code == "SignatureDoesNotMatch" and _OF_CLOCK.search(words)
        return errors.Denied(f"{code}: {_CREDENTIALS[_CLOCK if clock else code]}")
    if code == "OptInRequired" and _OF_IMAGE.search(words):
        return errors.Invalid("image", f"{code}: {_line(words)}")
    kind, message = _kind(code, status), f"{code}: {_line(words)}".removesuffix(": ")
    if kind is errors.Throttled:
        return errors.Throttled(message, _after_seconds(response))
    if kind is errors.MachineNotFound:
        return kind(f"{code}: {words}")  # Whole, because it may name many; it lands in no condition.
    if kind is errors.NoCapacity:
        # More sentences name the zones that have room at the moment: they would change from answer to answer.
        return errors.NoCapacity(message.partition(". ")[0], fewer=not _matches(code, _OF_KIND))
    if kind is not errors.Invalid:
        return kind(f"{where}: {message}") if kind is errors.Transient else kind(message)
    field = _field(code, words)
    if mutation or field != WHOLE or _matches(code, _WRONG):
        return errors.Invalid(field, message)
    if code == _AUTH_FAILURE:
        return errors.Denied(message)
    return errors.Transient(f"{where}: {message}")


def _of_sdk(where: str, code: str, status: int) -> errors.CloudError:
    """Nothing was sent: the request could not be signed. Its words may hold parts of a token."""
    kind = _kind(code, status)
    if kind in (errors.Transient, errors.Throttled) or code == "IDPCommunicationError":
        return errors.Transient(f"{where}: {_NOT_GOT}: {code}")
    return errors.Denied(f"{_NOT_GOT}: {code}")


def _kind(code: str, status: int) -> type[errors.CloudError]:
    for kind, patterns in _KINDS:
        if _matches(code, patterns):
            return kind
    if _matches(code, _QUOTA) and not _matches(code, _OF_FIELD):
        return errors.QuotaExceeded
    if status == 429:
        return errors.Throttled
    # An error without a word of EC2's is a proxy's or a web server's, and says nothing of what EC2 did.
    return errors.Transient if status >= 500 or not code[:1].isalpha() else errors.Invalid


def _field(code: str, words: str) -> str:
    if "smaller than snapshot" in words:
        return "rootVolume"  # The others are empty.
    for field, patterns in _FIELDS:
        if _matches(code, patterns):
            return field
    words = words.lower()
    return next((field for field, some in _WORDS if any(word in words for word in some)), WHOLE)


def _matches(code: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(code, each) for each in patterns)


#: Which of many machines an answer names changes from answer to answer.
_RESOURCE = re.compile(r" on resource: \S+:instance/i-[0-9a-f]+")


def _line(text: str) -> str:
    """One line that is the same for the same fault: what changes with each answer is cut off."""
    text = re.split(r"Encoded authorization failure message|\(?Request ?ID:?", text, maxsplit=1, flags=re.IGNORECASE)[0]
    text = _RESOURCE.sub("", " ".join(text.split())).rstrip(" .(")
    return text if len(text) <= _MESSAGE_LENGTH else f"{text[:_MESSAGE_LENGTH]}…"


def _after_seconds(response: Mapping[str, Any]) -> float | None:
    said = str(response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after", ""))
    return min(float(said), _AFTER_MOST_SECONDS) if said.isdecimal() else None


__all__ = ["PROTECTED", "WHOLE", "answered", "no_answer"]
