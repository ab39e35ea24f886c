"""What a status says is the same by either way out, and a scrape says what is so now."""

from collections.abc import Callable, Iterable
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
    C1Record,
    C1State,
    C1SyncState,
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
from buildkite_connector.telemetry.gauges import STATUS_GAUGES, Report, StatusCollector, observe

NOW = datetime(2026, 11, 28, 9, 0, 0, 123456, tzinfo=UTC)
COUNTS = Counts(120_000, 2_000, 480_000, 119_000, 700, 1_300, 4, 11, 5, 310, 90_000)
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
    c1=C1Record("2app", "2connector", C1State(C1SyncState.ERROR, NOW, NOW, "no data")),
)
BROKEN = replace(FULL, token=TokenStatus("yesterday"))  # type: ignore[arg-type]  # that is what is wrong with it


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


def text(reports: Iterable[Report]) -> set[str]:
    lines = generate_latest(StatusCollector(lambda: reports)).decode().splitlines()
    assert len(lines) == len(set(lines))
    return set(lines)


def test_the_series_of_a_status() -> None:
    """Those of docs/metrics.md."""
    series = {line.removeprefix("buildkite_connector_") for line in text([REPORTS["all known"]]) if line[0] != "#"}
    own = 'name="a",namespace="ns"'
    assert series == {
        f'status_condition{{{own},status="True",type="Ready"}} 1.0',
        f'status_condition{{{own},status="Unknown",type="Synced"}} 1.0',
        f'status_condition{{{own},status="False",type="Stalled"}} 1.0',
        f'info{{{own},organization="acme-inc",ready="True",reason="Ready"}} 1.0',
        f"suspended{{{own}}} 1.0",
        f"syncing{{{own}}} 0.0",
        f"sync_last_success_timestamp_seconds{{{own}}} 1.795856400123456e+09",
        f"sync_next_timestamp_seconds{{{own}}} 1.795856400123456e+09",
        f"delivery_last_timestamp_seconds{{{own}}} 1.795856400123456e+09",
        f'c1_state{{{own},state="ERROR"}} 1.0',
        f"c1_last_completed_timestamp_seconds{{{own}}} 1.795856400123456e+09",
        f"token_expiry_timestamp_seconds{{{own}}} 1.7960832e+09",
        f"snapshot_accounts{{{own}}} 120000.0",
        f"snapshot_teams{{{own}}} 2000.0",
        f"snapshot_memberships{{{own}}} 480000.0",
        f"snapshot_organization_roles{{{own}}} 119000.0",
        f"snapshot_pipelines{{{own}}} 700.0",
        f"snapshot_pipeline_access{{{own}}} 1300.0",
        f"snapshot_clusters{{{own}}} 4.0",
        f"snapshot_cluster_maintainers{{{own}}} 11.0",
        f"snapshot_cluster_team_maintainers{{{own}}} 5.0",
        f"snapshot_api_tokens{{{own}}} 310.0",
        f"snapshot_last_logins{{{own}}} 90000.0",
        f"snapshot_size_bytes{{{own}}} 1.23456789e+08",
        f"sync_consecutive_failures{{{own}}} 3.0",
    }


def test_a_type_that_is_not_synced_has_no_series() -> None:
    assert FULL.last_sync is not None
    plain = replace(FULL, last_sync=replace(FULL.last_sync, counts=Counts(3, 2, 1, pipelines=0)))
    series = {line.partition("{")[0] for line in text([Report("ns", "a", plain, suspended=False)]) if line[0] != "#"}
    assert {each.removeprefix("buildkite_connector_snapshot_") for each in series if "_snapshot_" in each} == {
        "accounts",
        "teams",
        "memberships",
        "pipelines",
        "size_bytes",
    }


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (C1Record("2app", "2connector"), set()),
        (C1Record("2app", "2connector", C1State()), set()),
        (C1Record("2app", "2connector", C1State(C1SyncState.RUNNING, NOW)), {"c1_state"}),
        (C1Record("2app", "2connector", C1State(completed_at=NOW)), {"c1_last_completed_timestamp_seconds"}),
    ],
    ids=["not read yet", "no state that is known", "syncing for the first time", "a state of a later version"],
)
def test_what_c1_does_not_say_has_no_series(record: C1Record, expected: set[str]) -> None:
    lines = text([Report("ns", "a", replace(FULL, c1=record), suspended=False)])
    series = {line.partition("{")[0].removeprefix("buildkite_connector_") for line in lines if line[0] != "#"}
    assert {each for each in series if each.startswith("c1_")} == expected


def test_the_series_of_a_status_that_knows_nothing() -> None:
    series = {line.removeprefix("buildkite_connector_") for line in text([REPORTS["nothing known"]]) if line[0] != "#"}
    own = 'name="a",namespace="ns"'
    assert series == {
        f'info{{{own},organization="",ready="Unknown",reason=""}} 1.0',
        f"suspended{{{own}}} 0.0",
        f"syncing{{{own}}} 0.0",
        f"sync_consecutive_failures{{{own}}} 0.0",
    }


def test_the_text_is_the_sdks_and_each_gauge_is_one_family_whatever_its_connectors_know() -> None:
    reports = [replace(report, name=f"c{number}") for number, report in enumerate(REPORTS.values())]
    assert text(reports) == by_the_sdk(reports)
    assert len(list(StatusCollector(lambda: reports).collect())) == len(STATUS_GAUGES)


@pytest.mark.parametrize("way", [text, by_the_sdk])
def test_a_status_that_cannot_be_shown_costs_its_connector_alone_its_series(
    way: Callable[[Iterable[Report]], set[str]], caplog: pytest.LogCaptureFixture
) -> None:
    reports = [Report("ns", name, BROKEN if name == "odd" else FULL, suspended=False) for name in ("odd", "other")]
    assert way(reports) == way(reports[1:])
    [logged] = caplog.records
    assert (vars(logged)["connector"], logged.levelname) == ("ns.odd", "ERROR")


def test_a_broken_status_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    collector = StatusCollector(lambda: [Report("ns", "odd", BROKEN, suspended=False)])
    for _ in range(3):
        assert generate_latest(collector) == b""
    assert len(caplog.records) == 1


def test_a_scrape_says_what_is_so_now() -> None:
    one, other = Report("ns", "one", FULL, suspended=False), Report("ns", "other", FULL, suspended=False)
    reports = [one, other]
    collector = StatusCollector(lambda: reports)
    assert b'suspended{name="one",namespace="ns"} 0.0' in generate_latest(collector)
    reports[0] = replace(one, suspended=True)
    assert b'suspended{name="one",namespace="ns"} 1.0' in generate_latest(collector)
    del reports[0]
    assert b'"one"' not in generate_latest(collector)
    reports.clear()
    assert generate_latest(collector) == b""


def test_a_slug_that_is_no_utf_8_is_shown_as_far_as_it_can_be() -> None:
    odd = replace(FULL, organization=Organization("1", OrganizationSlug("a\udcff"), "Acme"))
    [line] = [each for each in text([Report("ns", "a", odd, suspended=False)]) if "_info{" in each]
    assert 'organization="a?"' in line
