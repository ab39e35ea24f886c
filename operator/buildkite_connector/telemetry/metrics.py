"""The process's metrics: what work took, counted as it ends, and what each connector's status says, read at scrapes.

A connector that is gone has no series at the next scrape, since its status is not read any more. No label holds what a
server sent but names that are bounded by the number of resources.
"""

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from buildkite_connector import __version__
from buildkite_connector.model.observer import Fact, Result, Work
from buildkite_connector.model.status import ConditionStatus, ConditionType, ConnectorStatus, Phase

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds of the histograms of calls."""
LONG_SECONDS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
"""Bounds of the histograms of syncs and deliveries."""

_CONDITIONS = (
    ConditionType.READY,
    ConditionType.CREDENTIALS_VALID,
    ConditionType.SYNCED,
    ConditionType.DELIVERED,
    ConditionType.RECONCILING,
    ConditionType.STALLED,
)
_PREFIX = "buildkite_connector."


@dataclass(frozen=True, slots=True)
class Report:
    """One connector that this process acts for."""

    namespace: str
    name: str
    status: ConnectorStatus
    suspended: bool

    @property
    def labels(self) -> dict[str, str]:
        return {"namespace": self.namespace, "name": self.name}


@dataclass(frozen=True, slots=True)
class ProcessGauges:
    """What the process says of itself at each scrape. Seconds; `leader` is None where nobody is elected, `watch_age`
    where nothing is watched."""

    reports: Callable[[], Iterable[Report]]
    leader: Callable[[], bool | None]
    loop_lag: Callable[[], float]
    watch_age: Callable[[], float | None]


class Metrics:
    """`record` is called at the end of each piece of work; the gauges are read when metrics are collected."""

    def __init__(self, meter: Meter, gauges: ProcessGauges) -> None:
        self._syncs = meter.create_counter(_PREFIX + "syncs", "{sync}", "Syncs that ended.")
        self._sync_seconds = meter.create_histogram(
            _PREFIX + "sync.duration",
            "s",
            "How long syncs took, from their first request to the staged snapshot.",
            explicit_bucket_boundaries_advisory=LONG_SECONDS,
        )
        self._quota_wait = meter.create_counter(
            _PREFIX + "buildkite.quota.wait", "s", "How long syncs waited for Buildkite's rate-limit windows."
        )
        self._deliveries = meter.create_counter(_PREFIX + "deliveries", "{delivery}", "Uploads to C1 that ended.")
        self._delivery_seconds = meter.create_histogram(
            _PREFIX + "delivery.duration",
            "s",
            "How long uploads to C1 took.",
            explicit_bucket_boundaries_advisory=LONG_SECONDS,
        )
        self._tasks = meter.create_counter(_PREFIX + "c1.tasks", "{task}", "C1's tasks that ended.")
        self._http_seconds = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "Requests to Buildkite and to C1's token endpoint.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._rpc_seconds = meter.create_histogram(
            "rpc.client.call.duration",
            "s",
            "Calls to C1.",
            explicit_bucket_boundaries_advisory=(*SECONDS, 60.0, 300.0),
        )
        _StatusGauges(meter, gauges.reports)
        _process_gauges(meter, gauges)

    def record(self, work: Work, seconds: float, facts: dict[str, Fact]) -> None:
        result = facts.get("result", Result.FAILED.value if "error" in facts else Result.SUCCESS.value)
        match work:
            case Work.SYNC:
                labels = {"result": result, "trigger": facts["trigger"], "reason": facts.get("reason", "")}
                self._syncs.add(1, labels)
                self._sync_seconds.record(seconds, {"result": result})
                self._quota_wait.add(float(facts.get("throttled_seconds", 0.0)))
            case Work.DELIVERY:
                self._deliveries.add(1, {"result": result})
                self._delivery_seconds.record(seconds, {"result": result})
            case Work.TASK:
                self._tasks.add(1, {"kind": facts["kind"], "result": result})
            case Work.C1_CALL:
                self._rpc_seconds.record(
                    seconds,
                    {
                        "rpc.method": facts["method"],
                        "rpc.response.status_code": facts.get("code", facts.get("error", "")),
                    },
                )
            case Work.BUILDKITE_REQUEST | Work.C1_TOKEN:
                server = "buildkite" if work is Work.BUILDKITE_REQUEST else "c1"
                labels = {"http.request.method": facts["method"], "server": server}
                for fact, label in (("status", "http.response.status_code"), ("error", "error.type")):
                    if fact in facts:
                        labels[label] = facts[fact]
                self._http_seconds.record(seconds, labels)


class _StatusGauges:
    """One gauge for each figure of a status; a figure that a status has not got is no series."""

    def __init__(self, meter: Meter, reports: Callable[[], Iterable[Report]]) -> None:
        self._meter = meter
        self._reports = reports
        self._observable("status.condition", "", "1 for the status that each condition has now.", _conditions)
        self._observable("info", "", "1 for each connector, with its organization and Ready's reason.", _info)
        self._gauge("suspended", "", "1 while spec.suspend is true.", lambda report: float(report.suspended))
        self._gauge("syncing", "", "1 while a sync runs.", lambda report: float(report.status.phase is Phase.SYNCING))
        for name, text, moment in (
            ("sync.last_success", "When the last successful sync ended.", _last_success),
            ("sync.next", "When the next sync is due by the schedule.", _next_sync),
            ("delivery.last", "When C1 last took a snapshot.", _last_delivery),
            ("token.expiry", "When the Buildkite API token expires.", _token_expiry),
        ):
            self._gauge(f"{name}.timestamp", "s", f"{text} Seconds since 1970.", moment)
        self._gauge("snapshot.accounts", "{account}", "Accounts in the newest snapshot.", _count("accounts"))
        self._gauge("snapshot.teams", "{team}", "Teams in the newest snapshot.", _count("teams"))
        self._gauge(
            "snapshot.memberships", "{membership}", "Memberships in the newest snapshot.", _count("memberships")
        )
        self._gauge("snapshot.size", "By", "Size of the newest snapshot's file.", _size)
        self._gauge(
            "sync.consecutive_failures",
            "{failure}",
            "Syncs that failed since the last that succeeded.",
            lambda report: float(report.status.consecutive_failures),
        )

    def _gauge(self, name: str, unit: str, text: str, value: Callable[[Report], float | None]) -> None:
        def read(report: Report) -> Iterator[Observation]:
            found = value(report)
            if found is not None:
                yield Observation(found, report.labels)

        self._observable(name, unit, text, read)

    def _observable(self, name: str, unit: str, text: str, read: Callable[[Report], Iterator[Observation]]) -> None:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            for report in self._reports():
                yield from read(report)

        self._meter.create_observable_gauge(_PREFIX + name, [observe], unit, text)


def _process_gauges(meter: Meter, gauges: ProcessGauges) -> None:
    def build(_: CallbackOptions) -> Iterator[Observation]:
        yield Observation(1, {"version": __version__, "python": platform.python_version()})

    def leader(_: CallbackOptions) -> Iterator[Observation]:
        leads = gauges.leader()
        if leads is not None:
            yield Observation(int(leads))

    def lag(_: CallbackOptions) -> Iterator[Observation]:
        yield Observation(gauges.loop_lag())

    def age(_: CallbackOptions) -> Iterator[Observation]:
        seconds = gauges.watch_age()
        if seconds is not None:
            yield Observation(seconds)

    meter.create_observable_gauge(_PREFIX + "build_info", [build], "", "1, with the version of the operator.")
    meter.create_observable_gauge(_PREFIX + "leader", [leader], "", "1 while this process leads, 0 on standby.")
    meter.create_observable_gauge(
        _PREFIX + "event_loop.lag", [lag], "s", "The longest delay of the event loop since the last collection."
    )
    meter.create_observable_gauge(
        _PREFIX + "kubernetes.watch.age", [age], "s", "Time since the watch last showed that it is alive."
    )


def _conditions(report: Report) -> Iterator[Observation]:
    for kind in _CONDITIONS:
        condition = report.status.condition(kind)
        if condition is not None:
            yield Observation(1, {**report.labels, "type": kind.value, "status": condition.status.value})


def _info(report: Report) -> Iterator[Observation]:
    ready, organization = report.status.condition(ConditionType.READY), report.status.organization
    yield Observation(
        1,
        {
            **report.labels,
            "organization": organization.slug if organization is not None else "",
            "ready": (ready.status if ready is not None else ConditionStatus.UNKNOWN).value,
            "reason": ready.reason.value if ready is not None else "",
        },
    )


def _last_success(report: Report) -> float | None:
    return _seconds(report.status.last_successful_sync_time)


def _next_sync(report: Report) -> float | None:
    return _seconds(report.status.next_sync_time)


def _last_delivery(report: Report) -> float | None:
    delivery = report.status.last_delivery
    return _seconds(delivery.time) if delivery is not None else None


def _token_expiry(report: Report) -> float | None:
    expires = report.status.token_expires_at
    return datetime.fromisoformat(expires).timestamp() if expires else None


def _count(what: str) -> Callable[[Report], float | None]:
    def read(report: Report) -> float | None:
        sync = report.status.last_sync
        return float(getattr(sync.counts, what)) if sync is not None else None

    return read


def _size(report: Report) -> float | None:
    sync = report.status.last_sync
    return float(sync.snapshot_bytes) if sync is not None else None


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment is not None else None
