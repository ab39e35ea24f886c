"""What each connector's status says, as gauges.

One table for both ways out: `observe` for the SDK, which exports by OTLP, and `StatusText` for `/metrics`. The SDK's
Prometheus exporter makes every series anew at each scrape, which for a thousand connectors takes half a second of a
core; a status seldom changes between two scrapes, so `StatusText` keeps its lines. A connector that is gone has no
series at the next scrape. A status that cannot be shown costs its own connector's series, not those of the others. No
label holds what a server sent but names that are bounded by the number of resources.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from prometheus_client.utils import floatToGoString

from buildkite_connector.model.status import ConditionStatus, ConditionType, ConnectorStatus, Phase

PREFIX = "buildkite_connector."
_logger = logging.getLogger(__name__)

_CONDITIONS = (
    ConditionType.READY,
    ConditionType.CREDENTIALS_VALID,
    ConditionType.SYNCED,
    ConditionType.DELIVERED,
    ConditionType.PROVISIONING_READY,
    ConditionType.RECONCILING,
    ConditionType.STALLED,
)
_SUFFIXES = {"s": "_seconds", "By": "_bytes"}
"""Of a Prometheus name, by the unit: as the OpenTelemetry specification has it."""


@dataclass(frozen=True, slots=True)
class Report:
    """One connector that this process acts for."""

    namespace: str
    name: str
    status: ConnectorStatus
    suspended: bool


Reading = tuple[float, Mapping[str, str]]
"""A value, and its labels beside the connector's."""


@dataclass(frozen=True, slots=True)
class StatusGauge:
    """`read` gives its series for one connector; none for what a status does not know."""

    name: str
    unit: str
    text: str
    read: Callable[[Report], Iterable[Reading]]

    @property
    def prometheus_name(self) -> str:
        return (PREFIX + self.name).replace(".", "_") + _SUFFIXES.get(self.unit, "")


def observe(meter: Meter, reports: Callable[[], Iterable[Report]]) -> None:
    """Make the gauges instruments of `meter`, which asks for `reports` at each collection."""
    logged: set[str] = set()

    def callback(gauge: StatusGauge) -> Callable[[CallbackOptions], Iterator[Observation]]:
        def read(_: CallbackOptions) -> Iterator[Observation]:
            for report in reports():
                own = {"namespace": report.namespace, "name": report.name}
                try:
                    readings = list(gauge.read(report))
                except Exception as error:
                    _log_once(report, error, logged)
                    continue
                for value, labels in readings:
                    yield Observation(value, {**own, **labels})

        return read

    for gauge in GAUGES:
        meter.create_observable_gauge(PREFIX + gauge.name, [callback(gauge)], gauge.unit, gauge.text)


class StatusText:
    """The gauges in Prometheus' text format; called at each scrape."""

    def __init__(self, reports: Callable[[], Iterable[Report]]) -> None:
        self._reports = reports
        self._logged: set[str] = set()
        self._kept: dict[tuple[str, str], tuple[Report, list[str]]] = {}

    def __call__(self) -> bytes:
        kept, self._kept = self._kept, {}
        for report in self._reports():
            key = (report.namespace, report.name)
            before = kept.get(key)
            self._kept[key] = before if before is not None and before[0] == report else (report, self._lines(report))
        columns = zip(*(lines for _, lines in self._kept.values()), strict=True)
        text = (_HEADS[gauge] + lines for gauge, column in enumerate(columns) if (lines := "".join(column)))
        return "".join(text).encode(errors="replace")

    def _lines(self, report: Report) -> list[str]:
        """None of a connector whose status cannot be shown."""
        try:
            return _lines(report)
        except Exception as error:
            _log_once(report, error, self._logged)
            return [""] * len(GAUGES)


def _log_once(report: Report, error: Exception, logged: set[str]) -> None:
    """Once for each connector."""
    connector = f"{report.namespace}.{report.name}"
    if connector not in logged:
        logged.add(connector)
        _logger.error("a status cannot be shown in the metrics", extra={"connector": connector}, exc_info=error)


def _lines(report: Report) -> list[str]:
    """One text for each of GAUGES: its lines for this connector."""
    own = {"namespace": report.namespace, "name": report.name}
    return [
        "".join(_line(gauge.prometheus_name, {**own, **labels}, value) for value, labels in gauge.read(report))
        for gauge in GAUGES
    ]


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in sorted(labels.items()))
    number: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return f"{name}{{{pairs}}} {number}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _conditions(report: Report) -> Iterator[Reading]:
    for kind in _CONDITIONS:
        condition = report.status.condition(kind)
        if condition is not None:
            yield 1, {"type": kind.value, "status": condition.status.value}


def _info(report: Report) -> Iterator[Reading]:
    ready, organization = report.status.condition(ConditionType.READY), report.status.organization
    labels = {
        "organization": organization.slug if organization is not None else "",
        "ready": (ready.status if ready is not None else ConditionStatus.UNKNOWN).value,
        "reason": ready.reason.value if ready is not None else "",
    }
    yield 1, labels


def _one(value: Callable[[Report], float | None]) -> Callable[[Report], Iterator[Reading]]:
    def read(report: Report) -> Iterator[Reading]:
        if (found := value(report)) is not None:
            yield found, {}

    return read


def _moment(moment: Callable[[ConnectorStatus], datetime | None]) -> Callable[[Report], Iterator[Reading]]:
    def seconds(report: Report) -> float | None:
        found = moment(report.status)
        return found.timestamp() if found is not None else None

    return _one(seconds)


def _delivered_at(status: ConnectorStatus) -> datetime | None:
    return status.last_delivery.time if status.last_delivery is not None else None


def _count(what: str) -> Callable[[Report], Iterator[Reading]]:
    def count(report: Report) -> float | None:
        sync = report.status.last_sync
        return float(getattr(sync.counts, what)) if sync is not None else None

    return _one(count)


def _size(report: Report) -> float | None:
    sync = report.status.last_sync
    return float(sync.snapshot.bytes) if sync is not None else None


_FAILURES = "Syncs that failed since the last that succeeded."
GAUGES = (
    StatusGauge("status.condition", "", "1 for the status that each condition has now.", _conditions),
    StatusGauge("info", "", "1 for each connector, with its organization and Ready's reason.", _info),
    StatusGauge("suspended", "", "1 while spec.suspend is true.", _one(lambda report: float(report.suspended))),
    StatusGauge(
        "syncing", "", "1 while a sync runs.", _one(lambda report: float(report.status.phase is Phase.SYNCING))
    ),
    StatusGauge(
        "sync.last_success.timestamp",
        "s",
        "When the last successful sync ended. Seconds since 1970.",
        _moment(lambda status: status.last_successful_sync_time),
    ),
    StatusGauge(
        "sync.next.timestamp",
        "s",
        "When the next sync is due by the schedule. Seconds since 1970.",
        _moment(lambda status: status.next_sync_time),
    ),
    StatusGauge(
        "delivery.last.timestamp",
        "s",
        "When C1 last took a snapshot. Seconds since 1970.",
        _moment(_delivered_at),
    ),
    StatusGauge(
        "token.expiry.timestamp",
        "s",
        "When the Buildkite API token expires. Seconds since 1970.",
        _moment(lambda status: status.token.expires_at),
    ),
    StatusGauge("snapshot.accounts", "{account}", "Accounts in the newest snapshot.", _count("accounts")),
    StatusGauge("snapshot.teams", "{team}", "Teams in the newest snapshot.", _count("teams")),
    StatusGauge("snapshot.memberships", "{membership}", "Memberships in the newest snapshot.", _count("memberships")),
    StatusGauge("snapshot.size", "By", "Size of the newest snapshot's file.", _one(_size)),
    StatusGauge(
        "sync.consecutive_failures",
        "{failure}",
        _FAILURES,
        _one(lambda report: float(report.status.consecutive_failures)),
    ),
)
_HEADS = tuple(
    f"# HELP {gauge.prometheus_name} {gauge.text}\n# TYPE {gauge.prometheus_name} gauge\n" for gauge in GAUGES
)
