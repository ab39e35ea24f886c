"""A connector's settings and credentials, whether they come from a resource or from flags.

The Kubernetes adapter fills them from a resource (its model has the limits), the command from flags.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from functools import lru_cache
from itertools import pairwise
from typing import NewType
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from buildkite_connector.model.directory import DEFAULT_KINDS, OrganizationSlug, ResourceKind, Role
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor, held_in_base64

_DURATION = re.compile(r"(?:(?P<h>[0-9]{1,9})h)?(?:(?P<m>[0-9]{1,9})m)?(?:(?P<s>[0-9]{1,9})s)?")


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `90s`, `5m`, `1h30m`.

    Raises ValueError with a sentence for the person who wrote it.
    """
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is not a duration: use hours, minutes and seconds, such as 1h30m, 10m or 0s")
    hours, minutes, seconds = (int(match[unit] or 0) for unit in "hms")
    return float(hours * 3600 + minutes * 60 + seconds)


# The schedule


JITTER = 0.05
"""Intervals are stretched or shortened by at most this share, so that connectors spread out."""
MIN_CRON_MINUTES = 5
MAX_CRON_LENGTH = 128
"""Characters of a cron expression; a longer one is not parsed."""

_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)
_CALENDAR = range(date(2000, 1, 1).toordinal(), date(2028, 1, 2).toordinal())
"""28 years show each month with each of its first weekdays and each leap day; the day after them repeats the first."""


@dataclass(frozen=True, slots=True)
class Interval:
    seconds: float


@dataclass(frozen=True, slots=True)
class Cron:
    """Five fields, in an IANA time zone. Daylight saving as in Debian's cron (see cronsim)."""

    expression: str
    time_zone: str = "UTC"


Schedule = Interval | Cron


def check_schedule(schedule: Schedule) -> None:
    """Raises Failure (remedy: edit) for a cron that never fires or fires too often, and for an unknown time zone.

    A cron may fire every 5 minutes, as an interval may be 5 minutes, and not more often.
    """
    if not isinstance(schedule, Cron):
        return
    _zone(schedule.time_zone)
    _parse(schedule.expression, _ANY_TIME)
    gap = shortest_gap(schedule.expression)
    if gap is None:
        raise _never_fires(schedule.expression)
    if gap < MIN_CRON_MINUTES:
        raise _cron_invalid(
            schedule.expression,
            f"it fires {gap} minute{'s' if gap > 1 else ''} apart; the minimum is {MIN_CRON_MINUTES} minutes",
            "Write one that fires less often, for example '*/5 * * * *'",
        )


def next_time(schedule: Schedule, last: datetime, share: float = 0.5) -> datetime:
    """The first due time after `last` (the start of the sync before, UTC). `share`, 0.0 to 1.0, spreads an interval.

    Raises Failure (CronInvalid, TimeZoneInvalid; remedy: edit).
    """
    if isinstance(schedule, Interval):
        stretch = JITTER * (2 * share - 1)
        return last + timedelta(seconds=schedule.seconds * (1 + stretch))
    zone = _zone(schedule.time_zone)
    try:
        due: datetime = next(_parse(schedule.expression, last.astimezone(zone)))
    except StopIteration:
        raise _never_fires(schedule.expression) from None
    return due.astimezone(UTC)


@lru_cache(maxsize=1024)
def shortest_gap(expression: str) -> int | None:
    """Minutes between the closest two times at which a valid expression fires; 60 stands for 60 or more.

    None: it never fires. Changes of the clocks do not count: they may bring two times of a year closer together, of an
    hourly cron too.
    """
    cron = CronSim(expression, _ANY_TIME)
    if not any(_matches(cron, day) for day in _CALENDAR):
        return None
    minutes = sorted(cron.minutes)
    gaps = [later - earlier for earlier, later in pairwise(minutes)]
    adjacent_hours = any(hour + 1 in cron.hours for hour in cron.hours)
    if adjacent_hours or ({0, 23} <= cron.hours and _matches_two_days_in_a_row(cron)):
        gaps.append(60 - minutes[-1] + minutes[0])
    return min(gaps, default=60)


def _matches_two_days_in_a_row(cron: CronSim) -> bool:
    return any(_matches(cron, day) and _matches(cron, day + 1) for day in _CALENDAR)


def _matches(cron: CronSim, ordinal: int) -> bool:
    day = date.fromordinal(ordinal)
    return day.month in cron.months and cron.match_day(day)


def _parse(expression: str, start: datetime) -> CronSim:
    """The times after `start`, in its zone."""
    why = "it needs five fields: minute hour day-of-month month day-of-week"
    if len(expression) > MAX_CRON_LENGTH:
        why = f"it has {len(expression)} characters; the maximum is {MAX_CRON_LENGTH}"
    elif len(fields := expression.split()) == 5:
        try:
            return CronSim(expression, start)
        except CronSimError as error:
            if _is_valid(*fields[:3], "*", fields[4]) and _is_valid(*fields[:2], "*", *fields[3:]):
                raise _never_fires(expression) from None  # as on 30 February: each field is valid by itself
            why = str(error)
    raise _cron_invalid(expression, why, "Write five fields, for example '0 3 * * *'")


def _is_valid(*fields: str) -> bool:
    try:
        CronSim(" ".join(fields), _ANY_TIME)
    except CronSimError:
        return False
    return True


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Failure(
            Reason.TIME_ZONE_INVALID,
            f"spec.schedule.timeZone {name!r} is not a known IANA time zone: use a name such as Europe/Berlin or UTC",
            remedy=Remedy.EDIT,
        ) from None


def _never_fires(expression: str) -> Failure:
    return _cron_invalid(
        expression,
        "it never fires: no date matches its day of month, month and day of week",
        "Correct one of the three",
    )


def _cron_invalid(expression: str, why: str, advice: str) -> Failure:
    shown = expression if len(expression) <= MAX_CRON_LENGTH else f"{expression[:MAX_CRON_LENGTH]}…"
    return Failure(
        Reason.CRON_INVALID, f"spec.schedule.cron {shown!r} cannot be used: {why}. {advice}", remedy=Remedy.EDIT
    )


# Mistakes in a credential's form; no answer quotes the value


class Credential(Enum):
    """The credentials of a connector; the value is what a message calls it."""

    CLIENT_ID = "C1's client ID"
    CLIENT_SECRET = "C1's client secret"  # noqa: S105
    API_TOKEN = "a Buildkite API token"  # noqa: S105
    EXCHANGE_CLIENT_ID = "the client ID of a token exchange app"
    EXCHANGE_KEY = "the private key of a token exchange app"
    EXCHANGE_SUBJECT = "the e-mail address or UUID of the person for whom tokens are exchanged"


_FORMS = {
    Credential.CLIENT_ID: re.compile(r"[^\s@:/]+@[^\s@/]+/\S*"),
    Credential.CLIENT_SECRET: re.compile(r"secret-token:\S+"),
    Credential.API_TOKEN: re.compile(r"bk(ua|tx)_\S+"),
    Credential.EXCHANGE_CLIENT_ID: re.compile(r"[0-9a-f]{20}"),
    Credential.EXCHANGE_SUBJECT: re.compile(
        r"[^\s@:/]+@[^\s@:/]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE
    ),
    Credential.EXCHANGE_KEY: re.compile(r"-----BEGIN ?[A-Z ]*PRIVATE ?KEY-----.*", re.DOTALL),
}
"""The usual forms. Other tokens are valid too: public-key tokens are JWTs, and old ones have no prefix."""
_OTHER_TOKENS = {"bkct_": "an agent token, with which agents register", "bkpat_": "a portal's token"}
_USER_TOKEN = re.compile(r"bkua_[0-9a-f]{40}", re.IGNORECASE)
_ENV_LINE = re.compile(r"(export\s*)?[A-Z][A-Z0-9_]*=[^=\s]")
_QUOTES = "\"'`\u2018\u2019\u201c\u201d"
_BYTE_ORDER_MARK = "\ufeff"
_PEM_LABEL = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_PRIVATE_KEYS = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")


def mistake(value: str, kind: Credential) -> str | None:
    """The end of a sentence about `value` ("The API token …"), None if its form is fine. Outer white space is."""
    text = value.strip()
    if kind is Credential.CLIENT_SECRET:
        text = "".join(text.split())  # the reference client skips line breaks: a secret wrapped at 76 columns works
    found, recognized = _in_form(text, kind), recognize(text)
    cut_short = kind is Credential.CLIENT_ID and recognized is Credential.EXCHANGE_SUBJECT  # without its /REST
    if found is None and recognized is not kind and not cut_short:
        found = _of_another_kind(text)
    if kind is Credential.EXCHANGE_KEY:
        return found or (_in_pem(text) if text else None)
    if text and found is None and kind is Credential.EXCHANGE_SUBJECT and recognized is not kind:
        found = "is neither an e-mail address nor a UUID"
    if found is None and not (text.isascii() and text.isprintable() and " " not in text):
        found = "has a space, line break or other character that is not part of a credential: keep only the value"
    return found


def recognize(text: str) -> Credential | None:
    """Which credential `text` is, by its form."""
    return next((kind for kind, form in _FORMS.items() if form.fullmatch(text)), None)


def token_hint(token: str) -> str:
    """What to add when Buildkite rejects a token that has the prefix, but not the length, of a user token."""
    if token.startswith("bkua_") and not _USER_TOKEN.fullmatch(token):
        return ": it is not bkua_ followed by 40 hexadecimal digits, so it was cut short or edited"
    return ""


def _in_form(text: str, kind: Credential) -> str | None:
    if text.startswith(_BYTE_ORDER_MARK):
        return "begins with a byte-order mark: save its file as UTF-8 without one"
    if text and (text[0] in _QUOTES or text[-1] in _QUOTES):
        return "has quotation marks around it: remove them"
    if _ENV_LINE.match(text):
        return "is a line of an env file: keep only what follows the ="
    if kind is Credential.API_TOKEN and text.lower().startswith("bearer "):
        return "begins with 'Bearer': keep only the token"
    if _is_encoded(text):
        return "is base64-encoded once too often: a Secret's data is encoded once, stringData and variables are not"
    return None


def _in_pem(text: str) -> str | None:
    """What is wrong with a private key, as far as it can be seen without reading the key itself."""
    labels = _PEM_LABEL.findall(text)
    keys = [label for label in labels if label in _PRIVATE_KEYS]
    end = f"-----END {keys[0] if keys else ''}-----"
    encrypted = "ENCRYPTED PRIVATE KEY" in labels or "Proc-Type: 4,ENCRYPTED" in text
    public = any(label.endswith("PUBLIC KEY") for label in labels)
    troubles = (
        ("\\n" in text, "has \\n in place of its line breaks: write real line breaks, in YAML below a |"),
        (encrypted, "is encrypted with a passphrase: decrypt it (openssl pkey -in FILE)"),
        (
            "OPENSSH PRIVATE KEY" in labels,
            "is in OpenSSH's format: convert a copy of it (ssh-keygen -p -m PKCS8 -f FILE)",
        ),
        (public and not keys, "is a public key: Buildkite gets the public key, and the private key belongs here"),
        ("CERTIFICATE" in labels and not keys, "is a certificate: its private key belongs here"),
        (not keys, "is not a private key in PEM format, which begins with -----BEGIN PRIVATE KEY-----"),
        (len(keys) > 1, "has several private keys: keep one of them"),
        (end not in text, f"is cut short: it has no {end}"),
        ("\n" not in text, "has lost its line breaks: write them, in YAML below a |"),
    )
    return next((what for is_so, what in troubles if is_so), None)


def _of_another_kind(text: str) -> str | None:
    for prefix, what in _OTHER_TOKENS.items():
        if text.startswith(prefix):
            return f"is {what}: create an API access token in Buildkite (Personal Settings, API Access Tokens)"
    other = recognize(text)
    return f"holds {other.value}: the two values are probably swapped" if other is not None else None


def _is_encoded(text: str) -> bool:
    """Whether `text` is base64 of a credential; `base64` wraps long values into lines."""
    try:
        decoded = base64.b64decode("".join(text.split()), validate=True).decode("ascii").strip()
    except (binascii.Error, ValueError):
        return False
    return recognize(decoded) is not None or decoded.startswith(tuple(_OTHER_TOKENS))


# The spec


@dataclass(frozen=True, slots=True)
class Provisioning:
    """Whether C1's grant and revoke tasks are carried out. `protected_teams` are slugs of teams never changed.

    `roles` are those that may be granted; a membership of any role may be revoked.
    """

    enabled: bool = False
    roles: tuple[Role, ...] = tuple(Role)
    protected_teams: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class C1Creation:
    """What to create in C1: a connector, in the app `app_id` or in a new one of the name `app_name`.

    `owners` are C1's user IDs. `secret_name`: the operator's own Secret, for the connector's client ID and secret.
    """

    secret_name: str
    app_name: str = ""
    app_id: str = ""
    display_name: str = ""
    owners: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class C1Spec:
    """The connector in C1, which C1's REST API shows and can be asked to sync.

    `force_sync`: C1 is asked after each sync, and not only after a requested one. With `create`, the IDs are those in
    the status (`status.C1Record`).
    """

    app_id: str = ""
    connector_id: str = ""
    force_sync: bool = True
    create: C1Creation | None = None


@dataclass(frozen=True, slots=True)
class C1Access:
    """Who asks C1's REST API: a client with its secret, or (no secret) the process's workload identity.

    `place`: a sentence that says where the values come from, for a failure of what they hold.
    """

    client_id: str = field(repr=False)
    client_secret: str = field(default="", repr=False)
    place: str = field(default="", compare=False)


ConnectorKey = NewType("ConnectorKey", str)
"""The connector's id in this process: `<namespace>.<name>` in Kubernetes."""


def namespace_of(key: ConnectorKey) -> str:
    """The part before the first dot: a namespace's name holds no dot."""
    return key.partition(".")[0]


HOURLY = Interval(3600.0)
_CLIENT_SECRET = "secret-token:conductorone.com:"  # noqa: S105


@dataclass(frozen=True, slots=True)
class ConnectorSpec:
    """Seconds and percents. `max_drop_percent` 0 disables the shrink guard."""

    host_id: str
    organization: OrganizationSlug | None = None
    schedule: Schedule = HOURLY
    suspend: bool = False
    kinds: frozenset[ResourceKind] = DEFAULT_KINDS
    sync_timeout: float = 7200.0
    quota_percent: int = 80
    max_snapshot_age: float = 600.0
    max_drop_percent: int = 50
    provisioning: Provisioning = field(default_factory=Provisioning)
    c1: C1Spec | None = None


@dataclass(frozen=True, slots=True)
class OrganizationChoice:
    """Which organization to read. `key`: the Secret's key that holds the slug; empty where a person chose it openly.

    A slug that only a Secret holds is not shown, since the key may be that of any value. Buildkite's answer makes it an
    `OrganizationSlug`.
    """

    slug: str = field(repr=False)
    key: str = ""

    def __str__(self) -> str:
        return f"with the slug in the Secret's key {self.key}" if self.key else repr(self.slug)


@dataclass(frozen=True, slots=True)
class TokenExchange:
    """A token exchange app in Buildkite, and the person (e-mail address or UUID) as whom its tokens act."""

    client_id: str
    private_key: str
    subject: str

    def __repr__(self) -> str:
        return "TokenExchange(…)"


@dataclass(frozen=True, slots=True)
class ExchangeRequest:
    """A token to be exchanged for, on one organization (its slug), with these scopes and no others."""

    exchange: TokenExchange
    organization: str = field(repr=False)
    scopes: frozenset[str]


BuildkiteCredential = str | ExchangeRequest
"""What a client of Buildkite is made from: an API token, or what to exchange for one."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The Secret's values. They never appear in a repr, a log or an error.

    `write_api_token` changes memberships where it is set, so that `api_token` may be one that only reads. Where
    `api_token` is set, `token_exchange` is not used, and was not checked.
    """

    client_id: str
    client_secret: str
    api_token: str
    organization: OrganizationChoice | None = None
    write_api_token: str = ""
    token_exchange: TokenExchange | None = None

    def __repr__(self) -> str:
        return "Credentials(…)"

    @property
    def exchanges(self) -> bool:
        """Whether tokens are exchanged for reading."""
        return self.token_exchange is not None and not self.api_token

    def for_reading(self, organization: str | None, scopes: Iterable[str]) -> BuildkiteCredential:
        """What to read with. Raises Failure where tokens are exchanged and no organization is chosen."""
        if self.token_exchange is None or not self.exchanges:
            return self.api_token
        if organization is None:
            raise Failure(
                Reason.SPEC_INVALID,
                "spec.organization is required with token exchange, which gives tokens for one organization: set it,"
                " or the slug in the Secret.",
                remedy=Remedy.EDIT,
            )
        return ExchangeRequest(self.token_exchange, organization, frozenset(scopes))

    def for_writing(self, organization: str | None, scopes: Iterable[str]) -> BuildkiteCredential:
        """What to change memberships with. Raises Failure as `for_reading` does."""
        return self.write_api_token or self.for_reading(organization, scopes)

    @property
    def redactor(self) -> Redactor:
        """Takes out all of them: each of the two servers may come to know a value that was meant for the other.

        Private are the client ID, whose host is public where calls go to it, the organization, which is public once
        Buildkite has confirmed it, and of token exchange what is no secret: its client ID and the person.
        """
        slug = self.organization.slug if self.organization is not None else ""
        secrets = (self.api_token, self.write_api_token, *self._parts_of_the_client())
        private = [self.client_id, slug]
        key = ""
        if self.token_exchange is not None:
            private += [self.token_exchange.client_id, self.token_exchange.subject]
            key = "".join(line for line in self.token_exchange.private_key.splitlines() if not line.startswith("-----"))
        return Redactor((*secrets, *map(held_in_base64, secrets), key), private)

    def _parts_of_the_client(self) -> Iterator[str]:
        """The parts of ID and secret that stay secret when the host is public, without C1's fixed prefix."""
        name, at, rest = self.client_id.partition("@")
        yield name
        if at:
            yield rest.partition("/")[2]
        is_usual = self.client_secret.startswith(_CLIENT_SECRET)
        yield self.client_secret.rpartition(":")[2] if is_usual else self.client_secret

    def fingerprint(self) -> bytes:
        """A hash by which a changed Secret is noticed; kept in memory only."""
        return hashlib.sha256(repr(astuple(self)).encode()).digest()


def repeats_credential(slug: str, credentials: Credentials) -> bool:
    """Whether a slug that was chosen openly holds a secret value, as by a mistake in pasting."""
    return credentials.redactor.holds_secret(slug)
