"""The process's metrics: what work took, counted as it ends, and what the process says of itself.

What it says of its connectors is in `status_gauges`.
"""

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from buildkite_connector import __version__
from buildkite_connector.model.observer import Fact, Result, Work
from buildkite_connector.telemetry.status_gauges import PREFIX, Report

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds of the histograms of calls."""
LONG_SECONDS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
"""Bounds of the histograms of syncs and deliveries."""


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
        self._syncs = meter.create_counter(PREFIX + "syncs", "{sync}", "Syncs that ended.")
        self._sync_seconds = meter.create_histogram(
            PREFIX + "sync.duration",
            "s",
            "How long syncs took, from their first request to the staged snapshot.",
            explicit_bucket_boundaries_advisory=LONG_SECONDS,
        )
        self._quota_wait = meter.create_counter(
            PREFIX + "buildkite.quota.wait", "s", "How long syncs waited for Buildkite's rate-limit windows."
        )
        self._deliveries = meter.create_counter(PREFIX + "deliveries", "{delivery}", "Uploads to C1 that ended.")
        self._delivery_seconds = meter.create_histogram(
            PREFIX + "delivery.duration",
            "s",
            "How long uploads to C1 took.",
            explicit_bucket_boundaries_advisory=LONG_SECONDS,
        )
        self._tasks = meter.create_counter(PREFIX + "c1.tasks", "{task}", "C1's tasks that ended.")
        self._changes = meter.create_counter(
            PREFIX + "membership.changes", "{task}", "C1's grant and revoke tasks that ended, by what came of them."
        )
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
            case Work.CHANGE:
                self._changes.add(1, {"action": facts["action"], "result": result})
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

    meter.create_observable_gauge(PREFIX + "build_info", [build], "", "1, with the version of the operator.")
    meter.create_observable_gauge(PREFIX + "leader", [leader], "", "1 while this process leads, 0 on standby.")
    meter.create_observable_gauge(
        PREFIX + "event_loop.lag", [lag], "s", "The longest delay of the event loop since the last collection."
    )
    meter.create_observable_gauge(
        PREFIX + "kubernetes.watch.age", [age], "s", "Time since the watch last showed that it is alive."
    )
