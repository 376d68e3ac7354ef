"""The way to AWS: one session, clients that retry, errors in one sentence.

boto3 has no types, so clients are `Any` from here on; the shapes of answers are botocore's service models,
against which the tests check every canned answer.
"""

import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from lampstand.errors import EngineMissingError, LampstandError, TimedOutError
from lampstand.site import Aws

ATTEMPTS = 8
"""Of each request, with waiting times that double (botocore's retry mode `standard`)."""
THROTTLED = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "RequestThrottled",
    }
)


class AwsError(LampstandError):
    """AWS refused a request."""


def error_code(error: Exception) -> str:
    """`AccessDenied` and the like of a botocore ClientError; empty for another error."""
    response: Any = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


class Cloud:
    """Clients of one account and region."""

    def __init__(
        self,
        region: str,
        *,
        profile: str | None = None,
        endpoint: str | None = None,
        attempts: int = ATTEMPTS,
        make: Callable[[str, str], Any] | None = None,
    ) -> None:
        """`endpoint` replaces AWS's (a stand-in in tests); `make(service, region)` replaces boto3
        altogether."""
        self.region = region
        self.profile = profile
        self.endpoint = endpoint
        self._attempts = attempts
        self._make = make or self._boto3
        self._clients: dict[tuple[str, str], Any] = {}

    def client(self, service: str, region: str | None = None) -> Any:  # noqa: ANN401 - boto3 has no types
        """The client of a service; `region` only where it is not the site's (CloudFront's certificates)."""
        key = (service, region or self.region)
        if key not in self._clients:
            self._clients[key] = self._make(*key)
        return self._clients[key]

    def _boto3(self, service: str, region: str) -> Any:  # noqa: ANN401
        boto3, config = _boto3()
        session = boto3.session.Session(profile_name=self.profile)
        retries = {"mode": "standard", "total_max_attempts": self._attempts}
        return session.client(
            service,
            region_name=region,
            endpoint_url=self.endpoint,
            config=config(retries=retries, connect_timeout=10, read_timeout=60),
        )

    @property
    def account(self) -> str:
        """Number of the account that the credentials belong to."""
        with explained("asking for the account"):
            return str(self.client("sts").get_caller_identity()["Account"])

    def pages(self, service: str, operation: str, result: str, **arguments: Any) -> Iterator[Any]:  # noqa: ANN401
        """All items of an answer in pages."""
        paginator = self.client(service).get_paginator(operation)
        for page in paginator.paginate(**arguments):
            yield from page.get(result) or ()


def _boto3() -> tuple[Any, Any]:
    try:
        boto3: Any = import_module("boto3")
        config: Any = import_module("botocore.config")
    except ImportError:
        raise EngineMissingError(
            "boto3 is not installed", mend="install it with `pip install 'lampstand[aws]'`"
        ) from None
    return boto3, config.Config


def open_cloud(aws: Aws, *, endpoint: str | None = None) -> Cloud:
    """The account that the site file names. Raises LampstandError without a region or when the account is
    another."""
    # botocore itself reads AWS_DEFAULT_REGION only; every other tool of Amazon's reads AWS_REGION first.
    region = aws.region or os.environ.get("AWS_REGION")
    if not region:
        boto3, _ = _boto3()
        region = boto3.session.Session(profile_name=aws.profile).region_name
    if not region:
        raise LampstandError(
            "no region is given", "targets.aws.region", "write `region: eu-central-1` or set AWS_REGION"
        )
    cloud = Cloud(region, profile=aws.profile, endpoint=endpoint)
    if aws.account is not None and (found := cloud.account) != aws.account:
        raise LampstandError(
            f"these credentials belong to account {found}, and the site to {aws.account}",
            "targets.aws.account",
            "choose other credentials with `profile`, AWS_PROFILE or `aws sso login`",
        )
    return cloud


MENDS: Mapping[str, str] = {
    "ExpiredToken": "log in again (`aws sso login`, or new temporary credentials)",
    "ExpiredTokenException": "log in again (`aws sso login`, or new temporary credentials)",
    "InvalidClientTokenId": "the access key does not exist; see `aws configure list`",
    "UnrecognizedClientException": "the access key does not exist; see `aws configure list`",
    "AccessDenied": "give the deployer the policy that `lampstand aws policy` prints",
    "AccessDeniedException": "give the deployer the policy that `lampstand aws policy` prints",
    "UnauthorizedOperation": "give the deployer the policy that `lampstand aws policy` prints",
    "LimitExceededException": "raise the quota in Service Quotas, or make the site smaller",
}


@contextmanager
def explained(doing: str) -> Generator[None]:
    """Turns botocore's errors into AwsError: what was being done, what AWS said, how to mend it."""
    _boto3()
    known: Any = import_module("botocore.exceptions")
    parsers: Any = import_module("botocore.parsers")  # an error page of something on the way
    try:
        yield
    except known.NoCredentialsError:
        raise AwsError(
            "there are no AWS credentials", mend="run `aws configure` or `aws sso login`"
        ) from None
    except known.WaiterError as error:
        raise TimedOutError(f"{doing}: {error}") from error
    except known.ClientError as error:
        code = error_code(error)
        message = str(error.response.get("Error", {}).get("Message", error))
        raise AwsError(f"{doing}: {message} ({code})", mend=MENDS.get(code)) from error
    except (known.BotoCoreError, parsers.ResponseParserError) as error:
        raise AwsError(f"{doing}: {error}") from error
