"""What a status says is the same by either way out, and a scrape says what is so now."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest

from buildkite_connector.model.directory import Counts, Organization, OrganizationSlug
from buildkite_connector.model.failure import Reason
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.status import (
    Condition,
    ConditionStatus,
    ConditionType,
    ConnectorStatus,
    DeliveryRecord,
    Phase,
    SnapshotFile,
    SyncRecord,
    TokenStatus,
    Trigger,
)
from buildkite_connector.model.tasks import TaskID
from buildkite_connector.telemetry.status_gauges import GAUGES, Report, StatusText, observe

NOW = datetime(2026, 11, 28, 9, 0, 0, 123456, tzinfo=UTC)
COUNTS = Counts(120_000, 2_000, 480_000)
FULL = ConnectorStatus(
    phase=Phase.CONNECTED,
    conditions=tuple(
        Condition(kind, status, Reason.READY, "all well", 1, last_transition_time=NOW)
        for kind, status in (
            (ConditionType.READY, ConditionStatus.TRUE),
            (ConditionType.SYNCED, ConditionStatus.UNKNOWN),
            (ConditionType.STALLED, ConditionStatus.FALSE),
        )
    ),
    organization=Organization("1", OrganizationSlug("acme-inc"), "Acme"),
    token=TokenStatus(datetime(2026, 12, 1, tzinfo=UTC)),
    last_successful_sync_time=NOW,
    next_sync_time=NOW,
    consecutive_failures=3,
    last_sync=SyncRecord(SyncID("s"), Trigger.SCHEDULE, NOW, NOW, COUNTS, 5_000, 0.0, SnapshotFile("ab", 123_456_789)),
    last_delivery=DeliveryRecord(NOW, TaskID("t"), SyncID("s"), "ab", 123_456_789, COUNTS),
)


def by_the_sdk(reports: Iterable[Report]) -> set[str]:
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=registry)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    observe(provider.get_meter("test"), lambda: reports)
    text = generate_latest(registry).decode()
    provider.shutdown()
    return set(text.splitlines())


REPORTS = {
    "nothing known": Report("ns", "a", ConnectorStatus(), suspended=False),
    "all known": Report("ns", "a", FULL, suspended=True),
    "syncing": Report("ns", "a", replace(FULL, phase=Phase.SYNCING), suspended=False),
    "a slug to be quoted": Report(
        "ns", "a", replace(FULL, organization=Organization("1", OrganizationSlug('a"\\\nb'), "Acme")), suspended=False
    ),
}


@pytest.mark.parametrize("title", REPORTS)
def test_the_text_is_the_sdks(title: str) -> None:
    report = REPORTS[title]
    lines = StatusText(lambda: [report])().decode().splitlines()
    assert set(lines) == by_the_sdk([report])
    assert len(lines) == len(set(lines))


def test_each_gauge_is_one_family_whatever_its_connectors_know() -> None:
    reports = [replace(report, name=f"c{number}") for number, report in enumerate(REPORTS.values())]
    lines = StatusText(lambda: reports)().decode().splitlines()
    assert set(lines) == by_the_sdk(reports)
    names = [line.split("{")[0] for line in lines if not line.startswith("#")]
    assert names == sorted(names, key=[gauge.prometheus_name for gauge in GAUGES].index)


@pytest.mark.parametrize("way", ["text", "SDK"])
def test_a_status_that_cannot_be_shown_costs_its_connector_alone_its_series(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = replace(FULL, token=TokenStatus("yesterday"))  # type: ignore[arg-type]  # that is what is wrong with it
    reports = [Report("ns", name, broken if name == "odd" else FULL, suspended=False) for name in ("odd", "other")]
    text = StatusText(lambda: reports)
    for _ in range(2):
        lines = set(text().decode().splitlines()) if way == "text" else by_the_sdk(reports)
        assert by_the_sdk(reports[1:]) <= lines
    told = {vars(each)["connector"] for each in caplog.records if each.levelname == "ERROR"}
    assert told == {"ns.odd"}


def test_the_text_of_a_broken_status_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    broken = replace(FULL, token=TokenStatus("yesterday"))  # type: ignore[arg-type]  # as above
    reports = [Report("ns", "odd", broken, suspended=False)]
    text = StatusText(lambda: reports)
    for suspended in (False, True, False):
        reports[0] = replace(reports[0], suspended=suspended)
        assert text() == b""
    assert len(caplog.records) == 1


def test_a_scrape_says_what_is_so_now() -> None:
    one, other = Report("ns", "one", FULL, suspended=False), Report("ns", "other", FULL, suspended=False)
    reports = [one, other]
    text = StatusText(lambda: reports)
    assert text() == text()
    reports[0] = replace(one, suspended=True)
    assert set(text().decode().splitlines()) == by_the_sdk(reports)
    condition = Condition(
        ConditionType.READY, ConditionStatus.FALSE, Reason.BUILDKITE_UNREACHABLE, "", 2, last_transition_time=NOW
    )
    reports[0] = replace(one, status=replace(FULL, conditions=(condition,), next_sync_time=NOW))
    assert set(text().decode().splitlines()) == by_the_sdk(reports)
    del reports[0]
    assert "one" not in text().decode().replace("connector", "")
    reports.clear()
    assert text() == b""


def test_what_did_not_change_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def lines(report: Report) -> list[str]:
        made.append(report.name)
        return []

    monkeypatch.setattr("buildkite_connector.telemetry.status_gauges._lines", lines)
    text = StatusText(lambda: [Report("ns", name, FULL, suspended=False) for name in ("a", "b")])
    text()
    text()
    assert made == ["a", "b"]
