"""The table of EC2's errors: each code, what it says to the engine, and that its words stand still."""

from __future__ import annotations

from typing import Any

import pytest
from botocore import exceptions
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from controller import errors
from controller.clouds.ec2 import error_codes
from controller.clouds.ec2.error_codes import WHOLE


def _answered(code: str, message: str = "x", status: int = 400, *, mutation: bool = True) -> errors.CloudError:
    metadata = {"HTTPStatusCode": status, "RequestId": "r-1", "HTTPHeaders": {"retry-after": "7"}, "HostId": "", "RetryAttempts": 0}
    answer = ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}, "RunInstances")  # pyright: ignore[reportArgumentType] -- as botocore makes it
    return error_codes.answered("EC2 in eu-west-1", answer, mutation=mutation)


_CODES: dict[type[errors.CloudError], tuple[str, ...]] = {
    errors.Throttled: (
        *("RequestLimitExceeded", "Throttling", "ThrottlingException", "RequestThrottled", "RequestThrottledException"),
        *("EC2ThrottledException", "TooManyRequestsException", "SlowDown", "BandwidthLimitExceeded"),
    ),
    errors.NoCapacity: (
        *("InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientReservedInstanceCapacity", "InsufficientCapacity"),
        *("InsufficientCapacityOnHost", "InsufficientFreeAddressesInSubnet", "InsufficientAddressCapacity", "InsufficientVolumeCapacity"),
        *("ReservationCapacityExceeded", "SpotMaxPriceTooLow", "UnfulfillableCapacity", "Unsupported", "VolumeTypeNotAvailableInZone"),
    ),
    errors.QuotaExceeded: (
        *("InstanceLimitExceeded", "VcpuLimitExceeded", "MaxSpotInstanceCountExceeded", "ResourceLimitExceeded", "ResourceCountExceeded"),
        *("VolumeLimitExceeded", "MaxIOPSLimitExceeded", "VolumeIOPSLimit", "NetworkInterfaceLimitExceeded", "AddressLimitExceeded"),
        "PrivateIpAddressLimitExceeded",
    ),
    errors.Denied: (
        *("UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "InvalidClientTokenId", "RequestExpired"),
        *("UnrecognizedClientException", "SignatureDoesNotMatch", "IncompleteSignature", "MissingAuthenticationToken", "ExpiredToken"),
        *("ExpiredTokenException", "OptInRequired", "PendingVerification", "Blocked", "InvalidSecurity.RequestHasExpired"),
        *("OperationNotPermitted", "RegionDisabledException"),
    ),
    errors.TokenSpent: ("IdempotentParameterMismatch", "IdempotentInstanceTerminated", "Client.IdempotentParameterMismatch"),
    errors.MachineNotFound: ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed", "InvalidInstanceID"),
    errors.Transient: (
        *("InternalError", "InternalFailure", "InternalServerError", "ServiceUnavailable", "Unavailable", "Server.InternalError"),
        *("RequestTimeout", "InvalidPaginationToken", "InvalidNextToken", "ConcurrentTagAccess", "503", "403", ""),
    ),
}


@pytest.mark.parametrize(
    ("code", "kind"), [pytest.param(code, kind, id=code or "none") for kind, codes in _CODES.items() for code in codes]
)
@pytest.mark.parametrize("status", [pytest.param(400, id="as the client's"), pytest.param(500, id="as the server's")])
def test_what_a_code_means(code: str, kind: type[errors.CloudError], status: int) -> None:
    assert type(_answered(code, status=status)) is kind


@pytest.mark.parametrize(
    ("code", "message", "field"),
    [
        pytest.param("InvalidAMIID.NotFound", "The image id '[ami-1]' does not exist", "image", id="image"),
        pytest.param("InvalidAMIID.Unavailable", "x", "image", id="image not there yet"),
        pytest.param("InvalidSubnetID.NotFound", "x", "subnet", id="subnet"),
        pytest.param("MissingInput", "No subnets found for the default VPC", "subnet", id="no default subnet"),
        pytest.param("VPCIdNotSpecified", "No default VPC for this user", "subnet", id="no default VPC"),
        pytest.param("InvalidGroup.NotFound", "x", "securityGroups", id="group"),
        pytest.param("InvalidSecurityGroupID.NotFound", "x", "securityGroups", id="group's id"),
        pytest.param("SecurityGroupsPerInterfaceLimitExceeded", "x", "securityGroups", id="groups, too many"),
        pytest.param("InvalidKeyPair.NotFound", "x", "keyName", id="key"),
        pytest.param("InvalidParameterValue", "Invalid value 't9.tiny' for InstanceType.", "instanceType", id="type"),
        pytest.param(
            "InvalidParameterValue",
            "The architecture 'arm64' of the specified instance type does not match the architecture 'x86_64' of the specified AMI",
            "instanceType",
            id="architecture",
        ),
        pytest.param(
            *("InvalidParameterValue", "Value (web) for parameter iamInstanceProfile.name is invalid.", "iamInstanceProfile"), id="profile"
        ),
        pytest.param("InvalidIamInstanceProfileArn.Malformed", "x", "iamInstanceProfile", id="profile's ARN"),
        pytest.param("InvalidBlockDeviceMapping", "Volume of size 4GB is smaller than snapshot", "rootVolume", id="root volume"),
        pytest.param("InvalidBlockDeviceMapping", "Invalid device name /dev/xx", "volumes", id="volume"),
        pytest.param("InvalidUserID.Malformed", 'Invalid user id: "canonical"', "image", id="owner"),
        pytest.param(
            "OptInRequired", "In order to use this AWS Marketplace product you need to accept terms", "image", id="not subscribed"
        ),
        pytest.param("AttachmentLimitExceeded", "x", "volumes", id="volumes, too many"),
        pytest.param("InvalidParameterValue", "Invalid availability zone: [eu-west-1z]", "zone", id="zone"),
        pytest.param("InvalidParameterValue", "User data is limited to 16384 bytes", "userData", id="user data"),
        pytest.param("InvalidSpotFleetRequestConfig", "x", "spot", id="spot"),
        pytest.param("TagLimitExceeded", "x", "tags", id="tags"),
        pytest.param("InvalidParameterCombination", "x", WHOLE, id="no word of which"),
        pytest.param("Strange", "x", WHOLE, id="never heard of"),
    ],
)
def test_a_refusal_names_our_field(code: str, message: str, field: str) -> None:
    refused = _answered(code, message)
    assert isinstance(refused, errors.Invalid)
    assert (refused.field, refused.why) == (field, f"{code}: {message.rstrip('.')}")


_OWNERS = "Not authorized for images: [ami-0a000000000000001]"


@pytest.mark.parametrize("code", [pytest.param(each, id=each) for each in ("AuthFailure", "Client.AuthFailure")])
@pytest.mark.parametrize(
    ("message", "status", "kind", "field"),
    [
        pytest.param("AWS was not able to validate the provided access credentials", 401, errors.Denied, None, id="the key"),
        pytest.param("", 401, errors.Denied, None, id="no word"),
        pytest.param("The request signature we calculated does not match", 403, errors.Denied, None, id="the signature"),
        pytest.param(_OWNERS, 400, errors.Invalid, "image", id="another's image"),
        pytest.param("Not authorized for image:ami-0a000000000000001", 400, errors.Invalid, "image", id="another's image, one"),
        pytest.param("You do not have permission to access the specified resource.", 400, errors.Invalid, WHOLE, id="another's thing"),
    ],
)
def test_a_thing_that_is_anothers_is_no_wrong_key(
    code: str, message: str, status: int, kind: type[errors.CloudError], field: str | None
) -> None:
    found = _answered(code, message, status)
    assert type(found) is kind
    assert getattr(found, "field", None) == field
    assert ("access key" in str(found)) is (kind is errors.Denied)
    assert kind is errors.Denied or message.rstrip(".") in str(found)


def test_what_a_read_may_not_see_is_denied_in_its_own_words() -> None:
    assert isinstance(_answered("AuthFailure", _OWNERS, mutation=False), errors.Invalid)
    denied = _answered("AuthFailure", "Unauthorized attempt to access restricted resource", mutation=False)
    assert isinstance(denied, errors.Denied)
    assert "restricted resource" in str(denied)


def test_a_strange_refusal_of_a_read_is_asked_again() -> None:
    assert isinstance(_answered("Strange", mutation=False), errors.Transient)
    assert isinstance(_answered("InvalidAMIID.NotFound", mutation=False), errors.Invalid)
    assert isinstance(_answered("UnsupportedOperation", mutation=False), errors.Invalid)
    assert isinstance(_answered("Strange", status=429, mutation=False), errors.Throttled)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param("The request signature we calculated does not match the signature you provided.", "secret access key", id="key"),
        pytest.param("Signature expired: 20261128T090000Z is now earlier than 20261128T093000Z", "clock", id="slow clock"),
        pytest.param("Signature not yet current: 20261128T120000Z is still later than 20261128T100000Z", "clock", id="fast clock"),
    ],
)
def test_a_wrong_clock_is_no_wrong_key(words: str, told: str) -> None:
    denied = _answered("SignatureDoesNotMatch", words, 403)
    assert isinstance(denied, errors.Denied)
    assert told in str(denied)


def test_a_service_that_was_not_signed_up_for_is_the_accounts() -> None:
    assert isinstance(
        _answered("OptInRequired", "You are not subscribed to this service. Please go to http://aws.amazon.com to subscribe."),
        errors.Denied,
    )


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        pytest.param("InvalidIdentityToken", 400, errors.Denied, id="refused"),
        pytest.param("ValidationError", 400, errors.Denied, id="wrong"),
        pytest.param("IDPCommunicationError", 400, errors.Transient, id="not reached"),
        pytest.param("Throttling", 400, errors.Transient, id="throttled"),
        pytest.param("ServiceUnavailable", 503, errors.Transient, id="away"),
    ],
)
def test_what_the_sdk_is_answered_when_it_gets_credentials_is_no_answer_to_the_launch(
    code: str, status: int, kind: type[errors.CloudError]
) -> None:
    response: Any = {"Error": {"Code": code, "Message": "token eyJhbGciOi"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    found = error_codes.answered("EC2", exceptions.ClientError(response, "AssumeRoleWithWebIdentity"), mutation=True)
    assert type(found) is kind
    assert code in str(found)
    assert "eyJ" not in str(found)


def test_nobody_is_left_alone_for_longer_than_a_minute() -> None:
    assert _after("7") == 7
    assert _after("9" * 40) == 60
    assert _after("Wed, 21 Oct 2026 07:28:00 GMT") is None


def _after(said: str) -> float | None:
    headers = {"HTTPStatusCode": 503, "HTTPHeaders": {"retry-after": said}}
    response: Any = {"Error": {"Code": "RequestLimitExceeded", "Message": ""}, "ResponseMetadata": headers}
    throttled = error_codes.answered("EC2", exceptions.ClientError(response, "RunInstances"), mutation=True)
    assert isinstance(throttled, errors.Throttled)
    return throttled.after_seconds


def test_how_long_to_wait_is_told() -> None:
    throttled = _answered("RequestLimitExceeded", status=503)
    assert isinstance(throttled, errors.Throttled)
    assert throttled.after_seconds == 7


@pytest.mark.parametrize(
    ("code", "first", "second"),
    [
        pytest.param(
            "UnauthorizedOperation",
            "You are not authorized to perform this operation. User: arn:aws:iam::1:user/x is not authorized to perform:"
            " ec2:RunInstances. Encoded authorization failure message: 4GIOHlTkIaWHQ",
            "You are not authorized to perform this operation. User: arn:aws:iam::1:user/x is not authorized to perform:"
            " ec2:RunInstances. Encoded authorization failure message: 9-fQz",
            id="denied",
        ),
        pytest.param("Strange", "No.  (Request ID: 1a2b)", "No.\n(Request ID: 3c4d)", id="request id"),
        pytest.param(
            "InsufficientInstanceCapacity",
            "We currently do not have sufficient t3.small capacity in eu-west-1a. You can get it in eu-west-1b.",
            "We currently do not have sufficient t3.small capacity in eu-west-1a. You can get it in eu-west-1c.",
            id="capacity",
        ),
    ],
)
def test_the_same_fault_reads_the_same_each_time(code: str, first: str, second: str) -> None:
    words = str(_answered(code, first))
    assert words == str(_answered(code, second))
    assert len(words) > len(code) + 4
    assert "\n" not in words


@pytest.mark.parametrize("code", [pytest.param(code, id=code) for code in ("IncompleteSignature", "AuthFailure", "SignatureDoesNotMatch")])
def test_what_is_said_of_credentials_shows_none(code: str) -> None:
    message = "Authorization=AWS4-HMAC-SHA256 Credential=AKIDMAIN/20290101/eu-west-1, Signature=0a1b2c"
    words = str(_answered(code, message))
    assert "AKIDMAIN" not in words
    assert "0a1b2c" not in words


def test_a_message_is_not_endless() -> None:
    assert len(str(_answered("Strange", "x" * 10_000))) < 500


_URL = "https://ec2.eu-west-1.amazonaws.com/"


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        pytest.param(exceptions.EndpointConnectionError(endpoint_url=_URL, error=OSError()), errors.Transient, id="unreachable"),
        pytest.param(exceptions.ConnectTimeoutError(endpoint_url=_URL), errors.Transient, id="connect timeout"),
        pytest.param(exceptions.ReadTimeoutError(endpoint_url=_URL), errors.Transient, id="read timeout"),
        pytest.param(exceptions.ConnectionClosedError(endpoint_url=_URL), errors.Transient, id="closed"),
        pytest.param(exceptions.SSLError(endpoint_url=_URL, error=OSError()), errors.Transient, id="TLS"),
        pytest.param(exceptions.ProxyConnectionError(proxy_url="http://me:secret@proxy"), errors.Transient, id="proxy"),
        pytest.param(exceptions.HTTPClientError(error=object()), errors.Transient, id="some other"),
        pytest.param(ResponseParserError("no element found"), errors.Transient, id="unreadable"),
        pytest.param(KeyError("GetCallerIdentityResult"), errors.Transient, id="unreadable in another way"),
        pytest.param(exceptions.NoCredentialsError(), errors.Denied, id="no credentials"),
        pytest.param(exceptions.PartialCredentialsError(provider="env", cred_var="x"), errors.Denied, id="half credentials"),
        pytest.param(exceptions.CredentialRetrievalError(provider="x", error_msg="x"), errors.Denied, id="credentials not to be had"),
        pytest.param(exceptions.ProfileNotFound(profile="x"), errors.Denied, id="no profile"),
        pytest.param(exceptions.UnauthorizedSSOTokenError(), errors.Denied, id="single sign-on"),
        pytest.param(exceptions.LoginRefreshRequired(), errors.Denied, id="login"),
        pytest.param(exceptions.MissingDependencyException(msg="pip install"), errors.Denied, id="no package for a login"),
        pytest.param(EOFError("EOF when reading a line"), errors.Denied, id="no code of a device"),
        pytest.param(FileNotFoundError("/var/run/secrets/token"), errors.Denied, id="no file of a token"),
        pytest.param(
            RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired."), errors.Denied, id="expired"
        ),
        pytest.param(RuntimeError("can't start new thread"), errors.Transient, id="a defect elsewhere"),
        pytest.param(
            exceptions.ParamValidationError(report="Invalid type for parameter UserData, value: secret\nUnknown parameter in input: x"),
            *(errors.Invalid,),
            id="parameters",
        ),
    ],
)
def test_what_no_answer_means(raised: Exception, kind: type[errors.CloudError]) -> None:
    found = error_codes.no_answer("EC2 in eu-west-1", raised)
    assert type(found) is kind
    assert "\n" not in str(found)
    assert " at 0x" not in str(found)
    assert "secret" not in str(found)


@pytest.mark.parametrize(
    ("raised", "who"),
    [
        pytest.param(exceptions.ConnectTimeoutError(endpoint_url="https://sts.eu-west-1.amazonaws.com/"), "sts.eu-west-1", id="STS"),
        pytest.param(exceptions.ReadTimeoutError(endpoint_url=_URL), "ec2.eu-west-1", id="EC2"),
        pytest.param(exceptions.ProxyConnectionError(proxy_url="http://me:secret@proxy"), "EC2 in eu-west-1", id="not said"),
    ],
)
def test_who_did_not_answer_is_named(raised: Exception, who: str) -> None:
    assert str(error_codes.no_answer("EC2 in eu-west-1", raised)).startswith(who)


@pytest.mark.parametrize(
    ("raised", "way_out"),
    [
        pytest.param(exceptions.UnauthorizedSSOTokenError(), "log in again", id="single sign-on, refused"),
        pytest.param(
            exceptions.TokenRetrievalError(provider="sso", error_msg="Token has expired"), "log in again", id="single sign-on, over"
        ),
        pytest.param(exceptions.LoginRefreshRequired(), "log in again", id="login"),
        pytest.param(exceptions.RefreshWithMFAUnsupportedError(), "start the controller again", id="code of a device"),
    ],
)
def test_who_has_to_log_in_again_is_told_so(raised: Exception, way_out: str) -> None:
    denied = error_codes.no_answer("EC2 in eu-west-1", raised)
    assert isinstance(denied, errors.Denied)
    assert way_out in str(denied)
