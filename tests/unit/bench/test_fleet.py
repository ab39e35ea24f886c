"""The bench of many connectors counts what it says, and its verdicts are right."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bench.command import main
from bench.fleet.cluster import Seen
from bench.fleet.measurement import (
    Busy,
    FleetMeasurement,
    Idle,
    Reaction,
    Restart,
    Start,
    busiest_second,
    count,
    use_of,
)
from bench.fleet.page import write_page
from bench.fleet.promises import fleet_verdicts
from bench.machine import Machine
from harness.audit import Request, read_requests
from harness.control_plane import ASSETS_VARIABLE, CLUSTER_VARIABLE

OPERATOR = "system:serviceaccount:fleet:operator"
BEGIN, END = datetime(2026, 11, 24, 12, 0, tzinfo=UTC), datetime(2026, 11, 24, 12, 1, tzinfo=UTC)

START = Start(
    first_ready=2.0,
    all_ready=40.0,
    all_delivered=41.0,
    writes_until_ready=(2.5, 3),
    writes_until_delivered=(3.5, 4),
    events=(2.0, 2),
    warnings=0,
    failures={},
    hellos_at_once=16,
    cpu=30.0,
    peak=250_000_000,
)
IDLE = Idle(
    seconds=100.0,
    memory=200_000_000,
    cpu=4.0,
    requests={"get secrets": 500, "watch buildkiteconnectors": 1},
    writes=0,
    secret_reads_busiest_second=6,
    polls=1_700,
)
QUICK = Reaction(5, 0.2, 0.4)
RESTART = Restart(all_greeted=20.0, writes=(0.1, 1), failures={})
REACTIONS = {"annotation": QUICK, "edit": QUICK, "Secret": Reaction(5, 100.0, 205.0)}
KEPT = FleetMeasurement(1_000, START, IDLE, REACTIONS, RESTART, Busy(50, REACTIONS, 290_000_000), 0, 0.1)


def audited(
    verb: str, resource: str, second: str, *, user: str = OPERATOR, stage: str = "ResponseComplete", **about: str
) -> str:
    event = {
        "verb": verb,
        "stage": stage,
        "user": {"username": user},
        "requestURI": "/",
        "objectRef": {"resource": resource, **about},
        "requestReceivedTimestamp": f"2026-11-24T12:00:{second}Z",
        "responseStatus": {"code": 200},
    }
    return json.dumps(event) + "\n"


def status(**reasons: tuple[str, str]) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": value[0], "reason": value[1]} for kind, value in reasons.items()]}


def missed(measured: FleetMeasurement) -> list[str]:
    return [verdict.promise for verdict in fleet_verdicts(measured) if not verdict.kept]


def test_the_operators_requests_are_counted_by_verb_and_resource(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(
        audited("get", "secrets", "01.000000", name="a")
        + audited("get", "secrets", "01.900000", name="b")
        + audited("get", "secrets", "02.100000", name="c", user="system:serviceaccount:fleet:other")
        + audited("patch", "buildkiteconnectors", "03.000000", subresource="status", name="a")
        + audited("watch", "buildkiteconnectors", "04.000000", stage="ResponseStarted")
        + audited("watch", "buildkiteconnectors", "04.000000")
        + audited("get", "secrets", "05.000000")[:40]
    )
    requests = read_requests(log, OPERATOR)
    assert count(requests, BEGIN, END) == {
        "get secrets": 2,
        "patch buildkiteconnectors/status": 1,
        "watch buildkiteconnectors": 1,
    }
    assert count(requests, END, END) == {}
    assert requests[2] == Request(
        datetime(2026, 11, 24, 12, 0, 3, tzinfo=UTC), "patch", "buildkiteconnectors/status", "a", 200
    )
    assert busiest_second(requests, "get secrets", BEGIN, END) == 2


def test_writes_are_counted_up_to_the_one_that_says_ready() -> None:
    seen = Seen()
    seen.take(status(Ready=("Unknown", "Pending")), 1.0)
    seen.take(status(Ready=("True", "Ready")), 2.0)
    seen.take(status(Ready=("True", "Ready"), Delivered=("True", "Delivered")), 3.0)
    assert (seen.ready_at, seen.writes_until_ready, seen.writes, seen.failures) == (2.0, 2, 3, set())


def test_a_failure_that_was_reported_once_is_remembered() -> None:
    seen = Seen()
    seen.take(status(Ready=("False", "C1Unreachable"), Synced=("Unknown", "AwaitingSync")), 1.0)
    seen.take(status(Ready=("True", "Ready")), 2.0)
    assert seen.failures == {"C1Unreachable"}


def test_all_promises_can_be_kept() -> None:
    assert missed(KEPT) == []
    in_c1 = replace(KEPT, idle=replace(IDLE, rest_requests=366))
    assert missed(in_c1) == []


def with_start(**change: Any) -> FleetMeasurement:
    return replace(KEPT, start=replace(START, **change))


def with_idle(**change: Any) -> FleetMeasurement:
    return replace(KEPT, idle=replace(IDLE, **change))


def slow(what: str, longest: float) -> dict[str, Reaction]:
    return {**REACTIONS, what: Reaction(5, 0.5, longest)}


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (with_start(writes_until_ready=(5.1, 6)), ["status writes"]),
        (with_start(events=(2.1, 3)), ["events"]),
        (with_start(failures={"C1Unreachable": 1}), ["no failure"]),
        (with_start(warnings=1), ["no failure"]),
        (with_idle(memory=301_000_000), ["memory"]),
        (with_idle(cpu=5.1), ["core"]),
        (with_idle(writes=1), ["no write"]),
        (with_idle(requests={"get secrets": 520}), ["reads of Secrets"]),
        (with_idle(rest_requests=367), ["C1's REST API"]),
        (replace(KEPT, restart=Restart(20.0, (3.5, 4), {"C1Unreachable": 7})), ["restart", "restart"]),
        (replace(KEPT, busy=replace(KEPT.busy, reactions=slow("annotation", 1.1))), ["annotation"]),
        (replace(KEPT, busy=replace(KEPT.busy, reactions=slow("edit", 3.1))), ["edit"]),
        (replace(KEPT, busy=replace(KEPT.busy, reactions=slow("Secret", 205.1))), ["Secret"]),
        (replace(KEPT, reactions=slow("annotation", 1.1), violations=1), ["annotation", "contract"]),
    ],
)
def test_a_missed_promise_is_said_to_be(measured: FleetMeasurement, words: list[str]) -> None:
    promises = missed(measured)
    assert len(promises) == len(words)
    assert all(word in promise for word, promise in zip(words, promises, strict=True))


def test_the_page_and_the_numbers_hold_what_was_measured(tmp_path: Path) -> None:
    measured = replace(KEPT, start=replace(START, failures={"C1Unreachable": 444}))
    write_page(tmp_path, measured, fleet_verdicts(measured), Machine.this(), BEGIN, 60.0)
    page = (tmp_path / "benchmarks-fleet.md").read_text()
    assert "C1Unreachable of 444" in page
    assert page.count("**missed**") == 1
    assert "| API server: `get secrets` | 500 (5.00 a second) |" in page
    numbers = json.loads((tmp_path / "benchmarks-fleet.json").read_text())
    assert numbers["connectors"] == 1_000
    assert numbers["idle"]["requests"]["get secrets"] == 500


def test_what_a_process_uses_is_read_from_the_system() -> None:
    before = use_of(os.getpid())
    ballast = bytes(50_000_000)
    sum(range(3_000_000))
    after = use_of(os.getpid())
    assert after.cpu > before.cpu
    assert after.peak >= after.memory > 10_000_000
    assert ballast[-1] == 0


def test_without_a_control_plane_the_fleet_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(ASSETS_VARIABLE, str(tmp_path))
    monkeypatch.delenv(CLUSTER_VARIABLE, raising=False)
    assert main(["--fleet", "2"]) == 2
    assert "setup-envtest" in capsys.readouterr().out
