"""This process's own identity: its service-account token, from a file, which C1 exchanges for an access token.

Kubernetes projects the token into the file and renews it there, so the file is read for each exchange. The token is not
verified here, as C1 does that: what it claims decides whether it is sent at all, and explains a refusal.
"""

import os
import re
import stat
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

import jwt

from buildkite_connector.c1.credentials import NOTHING, parse_client_id
from buildkite_connector.c1.hosts import Endpoint
from buildkite_connector.c1.settings import TOKEN_FILE_VARIABLE
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import LONGEST_SECRET, Redactor

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:jwt"  # noqa: S105
OLDEST_TOKEN = timedelta(minutes=10)
"""How long ago C1 lets the token be issued."""

_JWT = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_FILL = (
    f"Set the chart value c1.workloadIdentity.enabled, which mounts the token, or set {TOKEN_FILE_VARIABLE} to the "
    "file of a projected service-account token."
)


@dataclass(frozen=True, slots=True)
class WorkloadIdentity:
    """A client ID of C1's workload federation, `NAME@HOST/wfe`, and the file with the token that proves it."""

    proof: ClassVar[str] = "subject_token"
    shown_as: ClassVar[str] = "service-account token"
    rejected: ClassVar[Reason] = Reason.WORKLOAD_IDENTITY_REJECTED
    needs_clock: ClassVar[bool] = False
    remedy: ClassVar[str] = "Check in C1 that the trust and its service principal still exist and are enabled."

    client_id: str = field(repr=False)
    endpoint: Endpoint = field(repr=False)
    token_file: str = field(repr=False)
    redactor: Redactor = field(default=NOTHING, repr=False, compare=False)

    @classmethod
    def parse(cls, client_id: str, token_file: str) -> "WorkloadIdentity":
        """Raises Failure CLIENT_ID_INVALID, or WORKLOAD_IDENTITY_REJECTED without a file."""
        name, endpoint = parse_client_id(client_id)
        if not name.endswith("/wfe"):
            raise Failure(
                Reason.CLIENT_ID_INVALID,
                "The client ID does not end with /wfe, so it does not belong to a trust of C1's workload federation. "
                "Copy the trust's client ID, or use a client with a secret.",
                remedy=Remedy.CREDENTIALS,
            )
        if not token_file:
            raise _unusable(f"There is no service-account token for C1: {TOKEN_FILE_VARIABLE} is not set.")
        return cls(name, endpoint, token_file)

    def form(self, now: datetime) -> dict[str, str]:  # noqa: ARG002
        token, tenant = _read(self.token_file), self.endpoint.host
        audience = _claims(token).get("aud")
        named = audience if isinstance(audience, list) else [audience]
        if tenant.lower() not in (str(each).lower() for each in named):
            # Whoever gets a token can use it where its audience is; a client ID must not choose who gets it.
            raise Failure(
                self.rejected,
                f"The service-account token was not sent to C1. The token's audience is not {tenant}: set "
                "c1.workloadIdentity.audience of the chart to it.",
                remedy=Remedy.CREDENTIALS,
            )
        return {
            "client_id": self.client_id,
            "grant_type": GRANT_TYPE,
            "subject_token": token,
            "subject_token_type": TOKEN_TYPE,
        }

    def advice(self, form: dict[str, str], now: datetime) -> str:
        claims = _claims(form["subject_token"])
        who = Redactor([form["subject_token"]]).quote(
            f"issuer {claims.get('iss', '(none)')}, subject {claims.get('sub', '(none)')}", 200
        )
        return " ".join(
            (
                *self._wrong(claims, now),
                f"Check that the trust in C1 fits this token ({who}), and that C1 can fetch the issuer's keys.",
            )
        )

    @staticmethod
    def _wrong(claims: dict[str, Any], now: datetime) -> list[str]:
        """A sentence for each claim about time that C1 cannot accept."""
        wrong = []
        if (expired := _seconds_since(claims.get("exp"), now)) is not None and expired >= 0:
            wrong.append(f"The token expired {expired} s ago: check that the kubelet renews {TOKEN_FILE_VARIABLE}.")
        age = _seconds_since(claims.get("iat"), now)
        if age is not None and age > OLDEST_TOKEN.total_seconds():
            wrong.append(
                f"The token was issued {age} s ago, and C1 accepts {OLDEST_TOKEN.total_seconds():g} s: set "
                "expirationSeconds of its volume to 600."
            )
        return wrong


def _seconds_since(claim: object, now: datetime) -> int | None:
    if isinstance(claim, bool) or not isinstance(claim, int | float) or not abs(claim) < 1e12:
        return None
    return round(now.timestamp() - claim)


def _claims(token: str) -> dict[str, Any]:
    """What the token claims, unverified; empty where that cannot be read."""
    try:
        return dict(jwt.decode(token, options={"verify_signature": False}))
    except (jwt.PyJWTError, ValueError, RecursionError):
        return {}


def _read(path: str) -> str:
    """The token in the file. It never blocks, whatever is there. Raises Failure."""
    # A token that was set in place of its path has no slash, and must not be shown.
    name = Redactor().quote(path, 200) if "/" in path else "of the service-account token"
    named = f"The file {name} ({TOKEN_FILE_VARIABLE})"
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _unusable(f"{named} is not a regular file.")
            content = file.read(LONGEST_SECRET + 1)
    except FileNotFoundError:
        raise _unusable(f"{named} does not exist.") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise _unusable(f"{named} cannot be read ({why}).") from None
    if len(content) > LONGEST_SECRET:
        raise _unusable(f"{named} has more than {LONGEST_SECRET} bytes.")
    token = content.strip()
    if not token:
        raise _unusable(f"{named} is empty.")
    if not _JWT.fullmatch(token):
        raise _unusable(f"{named} does not hold a service-account token (a JWT).")
    return token.decode("ascii")


def _unusable(what: str) -> Failure:
    return Failure(Reason.WORKLOAD_IDENTITY_REJECTED, f"{what} {_FILL}", remedy=Remedy.CREDENTIALS)
