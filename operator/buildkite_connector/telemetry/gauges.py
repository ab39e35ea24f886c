"""Gauges that are read when metrics are collected: of each connector, by its status, and of the process.

`StatusCollector` shows the connectors at `/metrics`, `observe` hands the same to the SDK, which exports by OTLP: the
SDK's own Prometheus exporter takes three times as long for a thousand connectors. A connector that is gone has no
series at the next collection. A status that cannot be shown costs its own connector's series, not those of the others.
No label holds what a server sent but names that are bounded by the number of resources.
"""

import logging
import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import chain

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from prometheus_client import Metric
from prometheus_client.registry import Collector

from buildkite_connector import __version__
from buildkite_connector.model.status import ConditionStatus, ConditionType, ConnectorStatus, Phase

PREFIX = "buildkite_connector."
logger = logging.getLogger(__name__)

STATUS_GAUGES = {
    "status.condition": ("", "1 for the status that each condition has now."),
    "info": ("", "1 for each connector, with its organization and Ready's reason."),
    "suspended": ("", "1 while spec.suspend is true."),
    "syncing": ("", "1 while a sync runs."),
    "sync.last_success.timestamp": ("s", "When the last successful sync ended. Seconds since 1970."),
    "sync.next.timestamp": ("s", "When the next sync is due by the schedule. Seconds since 1970."),
    "delivery.last.timestamp": ("s", "When C1 last took a snapshot. Seconds since 1970."),
    "c1.state": ("", "1 for the connector's state in C1."),
    "c1.last_completed.timestamp": ("s", "When C1's last sync of the connector ended. Seconds since 1970."),
    "token.expiry.timestamp": ("s", "When the Buildkite API token expires. Seconds since 1970."),
    "snapshot.accounts": ("{account}", "Accounts in the newest snapshot."),
    "snapshot.teams": ("{team}", "Teams in the newest snapshot."),
    "snapshot.memberships": ("{membership}", "Memberships in the newest snapshot."),
    "snapshot.organization_roles": ("{account}", "Accounts whose organization role is in the newest snapshot."),
    "snapshot.pipelines": ("{pipeline}", "Pipelines in the newest snapshot."),
    "snapshot.pipeline_access": ("{grant}", "Grants of access to a pipeline to a team in the newest snapshot."),
    "snapshot.clusters": ("{cluster}", "Clusters in the newest snapshot."),
    "snapshot.cluster_maintainers": ("{maintainer}", "Accounts that maintain a cluster in the newest snapshot."),
    "snapshot.cluster_team_maintainers": ("{maintainer}", "Teams that maintain a cluster in the newest snapshot."),
    "snapshot.api_tokens": ("{token}", "API tokens of people in the newest snapshot."),
    "snapshot.last_logins": ("{account}", "Accounts with a last login in the newest snapshot."),
    "snapshot.size": ("By", "Size of the newest snapshot's file."),
    "sync.consecutive_failures": ("{failure}", "Syncs that failed since the last that succeeded."),
}
"""Unit and description by name."""
_SUFFIXES = {"s": "_seconds", "By": "_bytes"}
"""Suffix of a Prometheus name by unit, as in the OpenTelemetry specification."""


@dataclass(frozen=True, slots=True)
class Report:
    """One connector that this process acts for."""

    namespace: str
    name: str
    status: ConnectorStatus
    suspended: bool


@dataclass(frozen=True, slots=True)
class ProcessGauges:
    """The process's own gauges, read at each collection. Times in seconds; `leader` is None without an election,
    `watch_age` without a watch."""

    reports: Callable[[], Iterable[Report]]
    leader: Callable[[], bool | None]
    loop_lag: Callable[[], float]
    watch_age: Callable[[], float | None]


def observe_process(meter: Meter, gauges: ProcessGauges) -> None:
    """Make the process's own gauges instruments of `meter`."""

    def add(name: str, unit: str, text: str, read: Callable[[], float | None], **labels: str) -> None:
        def callback(_: CallbackOptions) -> Iterator[Observation]:
            if (value := read()) is not None:
                yield Observation(value, labels)

        meter.create_observable_gauge(PREFIX + name, [callback], unit, text)

    about = {"version": __version__, "python": platform.python_version()}
    add("build_info", "", "1, with the version of the operator.", lambda: 1, **about)
    add("leader", "", "1 while this process leads, 0 on standby.", gauges.leader)
    add("event_loop.lag", "s", "The longest delay of the event loop since the last collection.", gauges.loop_lag)
    add("kubernetes.watch.age", "s", "Time since the watch last showed that it is alive.", gauges.watch_age)


Reading = tuple[str, float, dict[str, str]]
"""The name of a gauge, its value, and its labels."""


class StatusReadings:
    """The readings of all connectors; `read` is called at each collection."""

    def __init__(self, reports: Callable[[], Iterable[Report]]) -> None:
        self._reports = reports
        self._logged: set[tuple[str, str]] = set()

    def read(self) -> Iterator[Reading]:
        return chain.from_iterable(map(self._of, self._reports()))

    def _of(self, report: Report) -> list[Reading]:
        own = {"namespace": report.namespace, "name": report.name}
        try:
            return [(name, value, {**own, **labels}) for name, value, labels in _readings(report)]
        except Exception:
            if (key := (report.namespace, report.name)) not in self._logged:
                self._logged.add(key)
                connector = f"{report.namespace}.{report.name}"
                logger.exception("a status cannot be shown in the metrics", extra={"connector": connector})
            return []


def observe(meter: Meter, reports: Callable[[], Iterable[Report]]) -> None:
    """Make the connectors' gauges instruments of `meter`, which asks for `reports` once at each collection."""
    readings = StatusReadings(reports)
    found: dict[str, list[Observation]] = {}

    def callback(wanted: str) -> Callable[[CallbackOptions], list[Observation]]:
        def read(_: CallbackOptions) -> list[Observation]:
            if wanted not in found:  # the SDK asks each gauge once a collection: this one begins
                found.update({name: [] for name in STATUS_GAUGES})
                for name, value, labels in readings.read():
                    found[name].append(Observation(value, labels))
            return found.pop(wanted)

        return read

    for name, (unit, text) in STATUS_GAUGES.items():
        meter.create_observable_gauge(PREFIX + name, [callback(name)], unit, text)


class StatusCollector(Collector):
    """The connectors' gauges, for a registry of prometheus_client."""

    def __init__(self, reports: Callable[[], Iterable[Report]]) -> None:
        self._readings = StatusReadings(reports)

    def collect(self) -> Iterator[Metric]:
        families = {
            name: Metric((PREFIX + name).replace(".", "_") + _SUFFIXES.get(unit, ""), text, "gauge")
            for name, (unit, text) in STATUS_GAUGES.items()
        }
        for name, value, labels in self._readings.read():
            family = families[name]
            family.add_sample(family.name, labels, value)
        return (family for family in families.values() if family.samples)


def _readings(report: Report) -> Iterator[Reading]:
    """Omits what the status does not know."""
    status = report.status
    for kind in ConditionType:
        if condition := status.condition(kind):
            yield "status.condition", 1, {"type": kind.value, "status": condition.status.value}
    ready, organization = status.condition(ConditionType.READY), status.organization
    yield (
        "info",
        1,
        {
            "organization": organization.slug.encode(errors="replace").decode() if organization else "",
            "ready": (ready.status if ready else ConditionStatus.UNKNOWN).value,
            "reason": ready.reason.value if ready else "",
        },
    )
    yield "suspended", float(report.suspended), {}
    yield "syncing", float(status.phase is Phase.SYNCING), {}
    shown = status.c1.shown if status.c1 is not None else None
    if shown is not None and shown.state is not None:
        yield "c1.state", 1, {"state": shown.state.value}
    for name, moment in (
        ("sync.last_success.timestamp", status.last_successful_sync_time),
        ("sync.next.timestamp", status.next_sync_time),
        ("delivery.last.timestamp", status.last_delivery.time if status.last_delivery else None),
        ("c1.last_completed.timestamp", shown.completed_at if shown is not None else None),
        ("token.expiry.timestamp", status.token.expires_at),
    ):
        if moment is not None:
            yield name, moment.timestamp(), {}
    if sync := status.last_sync:
        for each in fields(sync.counts):
            if (amount := getattr(sync.counts, each.name)) is not None:
                yield f"snapshot.{each.name}", float(amount), {}
        yield "snapshot.size", float(sync.snapshot.bytes), {}
    yield "sync.consecutive_failures", float(status.consecutive_failures), {}
