"""A connector's settings and credentials, whether they come from a resource or from flags.

The Kubernetes adapter fills them from a resource (its model has the limits), the command from flags.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NewType
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from buildkite_connector.model.credential_forms import with_line_breaks
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
    """Seconds and percents. `max_drop_percent` 0 disables the shrink guard. `portal`: a portal's slug, "" for none."""

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
    portal: str = ""
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "private_key", with_line_breaks(self.private_key))

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
    `api_token` is set, `token_exchange` is not used, and was not checked. `portal_token` belongs to `spec.portal`.
    """

    client_id: str
    client_secret: str
    api_token: str
    organization: OrganizationChoice | None = None
    write_api_token: str = ""
    token_exchange: TokenExchange | None = None
    portal_token: str = ""

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
                "spec.organization is required with token exchange, which issues tokens for one organization: set it,"
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
        secrets = (self.api_token, self.write_api_token, self.portal_token, *self._parts_of_the_client())
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
