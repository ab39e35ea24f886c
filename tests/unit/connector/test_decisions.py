"""What a connector begins, ends and answers, and when it looks again: single states and moments."""

from dataclasses import replace

import pytest

from buildkite_connector.connector import transitions
from buildkite_connector.connector.conditions import derive_status
from buildkite_connector.connector.decisions import Answer, farthest_next_sync, next_look, why_sync
from buildkite_connector.connector.state import C1Identity, C1Phase, Check, ConnectorState
from buildkite_connector.model.directory import ALL_KINDS, DEFAULT_KINDS, Counts, ResourceKind, SyncScope, TokenFacts
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.spec import Credentials, Cron, Interval
from buildkite_connector.model.status import ConditionType, ConnectorStatus, Trigger
from buildkite_connector.model.tasks import TaskID
from buildkite_connector.timing.clock import Instant
from fakes.connector_states import (
    DOWN,
    NEVER,
    PREFLIGHT,
    REJECTED,
    START,
    after,
    asked,
    checked,
    desired,
    due,
    failed,
    greeted,
    new,
    ready,
    running,
    synced,
)

HOUR = 3600.0
LATER = after(1000)
USERS, TEAMS = SyncScope(frozenset({ResourceKind.USER})), SyncScope(frozenset({ResourceKind.TEAM}))
PIPELINES = DEFAULT_KINDS | {ResourceKind.PIPELINE}
HERS, OTHERS = C1Identity("client", "secret", "default.acme"), C1Identity("client", "older", "default.acme")


def with_request(state: ConnectorState, value: str = "now") -> ConnectorState:
    return replace(state, desired=replace(state.desired, sync_request=value))


def with_check(state: ConnectorState, **changes: object) -> ConnectorState:
    return replace(state, check=replace(state.check, **changes))  # type: ignore[arg-type]  # checked by the dataclass


def with_session(**changes: object) -> ConnectorState:
    state = ready()
    return replace(state, c1=replace(state.c1, **changes))  # type: ignore[arg-type]  # checked by the dataclass


def suspended(state: ConnectorState) -> ConnectorState:
    return replace(state, desired=replace(state.desired, spec=replace(state.desired.spec, suspend=True)))


def requested_twice() -> ConnectorState:
    return with_request(synced(with_request(ready()), after(10), "sync2"), "again")


def limited(retry_after: float) -> ConnectorState:
    """Buildkite said 429 at 10 s; a person asks again."""
    failure = Failure(Reason.BUILDKITE_RATE_LIMITED, "Buildkite said 429.", retry_after=retry_after)
    return with_request(failed(with_request(ready(), "first"), after(10), failure), "second")


# Why to sync


@pytest.mark.parametrize(
    ("state", "seconds", "why"),
    [
        pytest.param(ready(), HOUR - 0.001, None, id="before the schedule's time"),
        pytest.param(ready(), HOUR, Trigger.SCHEDULE, id="at the schedule's time"),
        pytest.param(with_request(ready()), 10, Trigger.REQUEST, id="a request"),
        pytest.param(synced(with_request(ready()), after(10), "sync2"), 20, None, id="a request, but once"),
        pytest.param(requested_twice(), 19.999, None, id="a request within ten seconds of the last"),
        pytest.param(requested_twice(), 20, Trigger.REQUEST, id="a request ten seconds after the last"),
        pytest.param(
            with_check(ready(), credentials=Credentials("client", "secret", "other")), 10, Trigger.CHANGE, id="a Secret"
        ),
        pytest.param(asked(ready(), LATER), 1000, Trigger.TASK, id="a task that finds the snapshot old"),
        pytest.param(asked(ready(), after(10)), 10, None, id="a task that finds it fresh"),
        pytest.param(asked(failed(ready(), after(HOUR)), after(HOUR)), HOUR + 22.4, None, id="a task amid the backoff"),
        pytest.param(asked(ready(kinds=USERS.kinds), LATER, TEAMS), 1000, None, id="a task for none of the kinds"),
        pytest.param(limited(50.0), 10 + 50 - 0.001, None, id="what Buildkite said holds for a request"),
        pytest.param(limited(50.0), 10 + 50, Trigger.REQUEST, id="to that second"),
        pytest.param(limited(1e6), 10 + 6 * HOUR - 0.001, None, id="what Buildkite said"),
        pytest.param(limited(1e6), 10 + 6 * HOUR, Trigger.REQUEST, id="holds for six hours at most"),
    ],
)
def test_why_a_connector_syncs(state: ConnectorState, seconds: float, why: Trigger | None) -> None:
    assert why_sync(state, after(seconds)) is why


def test_a_task_begins_no_sync_before_the_backoff_ends_when_its_own_reason_has_gone_in_the_queue() -> None:
    state = asked(failed(ready(), after(HOUR)), after(HOUR))
    assert transitions.sync_admitted(state, SyncID("sync2"), after(HOUR)).sync is None


@pytest.mark.parametrize(
    ("spec", "failures", "seconds"),
    [
        ({}, 0, HOUR * 1.05),
        ({"schedule": Cron("30 9 * * *")}, 0, 1800),
        ({}, 1, 6 * HOUR),
        ({"schedule": Interval(86400.0)}, 1, 86400 * 1.05),
        ({"schedule": Cron("nonsense")}, 0, 0),
    ],
    ids=["interval and jitter", "cron", "failing", "failing, with a longer interval", "no schedule: at once"],
)
def test_how_far_ahead_a_next_sync_can_be(spec: dict[str, object], failures: int, seconds: float) -> None:
    status = ConnectorStatus(consecutive_failures=failures)
    assert farthest_next_sync(desired(**spec), status, START) == after(seconds).wall  # type: ignore[arg-type]  # the spec's fields


# What begins and ends


WANTED = running(asked(ready(), LATER), LATER, "sync2")
"""A task alone wanted this sync."""
REJECTED_LONG = with_check(checked(ready(), START, REJECTED), forced_due=NEVER)
HELD_OFF = with_request(replace(REJECTED_LONG, sync_blocked_until=after(100).monotonic))
ENDED = {"phase": C1Phase.CLOSED, "ended": True}
HOLDER = "BuildkiteConnector default/older"


@pytest.mark.parametrize(
    ("state", "seconds", "begun", "expected"),
    [
        pytest.param(new(), 0, (), ["check"], id="new: it checks first"),
        pytest.param(checked(new()), 0, (), [HERS], id="checked: it opens a session and awaits its answer"),
        pytest.param(greeted(checked(new())), 0, (), ["sync"], id="greeted: it syncs"),
        pytest.param(ready(), 10, (), [], id="ready: nothing"),
        pytest.param(new(suspend=True), 0, (), [], id="new and suspended: nothing"),
        pytest.param(replace(WANTED, requests=()), 1000, (), ["the task that asked for it was cancelled"], id="alone"),
        pytest.param(WANTED, 1000, (), [], id="a sync that another task wants goes on"),
        pytest.param(replace(WANTED, requests=()), HOUR, (), [], id="a sync that the schedule wants meanwhile goes on"),
        pytest.param(running(with_request(ready()), after(10)), 20, (), [], id="a person's goes on"),
        pytest.param(ready(), 20, ("sync",), [], id="a sync in the queue goes on although nothing asks for it"),
        pytest.param(replace(ready(), desired=desired(2)), 10, (), ["check"], id="an edit is checked"),
        pytest.param(replace(ready(), desired=desired(2)), 10, ("check",), [], id="unless a check is under way"),
        pytest.param(HELD_OFF, 99.999, (), [], id="a request: what blocks is checked again"),
        pytest.param(HELD_OFF, 100, (), ["check"], id="once Buildkite allows it"),
        pytest.param(with_check(HELD_OFF, sync_request="now"), 100, (), [], id="but once"),
        pytest.param(with_check(REJECTED_LONG, forced_due=after(300).monotonic), 299.999, (), [], id="failed, before"),
        pytest.param(with_check(REJECTED_LONG, forced_due=after(300).monotonic), 300, (), ["check"], id="at its time"),
        pytest.param(with_check(ready(), forced_due=START.monotonic), 300, (), [], id="a good check is not repeated"),
        pytest.param(with_session(ended=True), 10, (), ["close C1"], id="open and ended"),
        pytest.param(with_session(identity=OTHERS), 10, (), ["close C1"], id="open with an old secret"),
        pytest.param(with_session(identity=OTHERS, ended=True), 10, (), ["close C1"], id="ended with an old secret"),
        pytest.param(with_session(identity=replace(HERS, client_id="x")), 10, (), ["close C1"], id="another client"),
        pytest.param(with_session(identity=replace(HERS, host_id="x")), 10, (), ["close C1"], id="another host"),
        pytest.param(with_session(identity=replace(HERS, provisions=True)), 10, (), ["close C1"], id="with changes"),
        pytest.param(with_session(phase=C1Phase.CLOSING, ended=True), 10, (), [], id="closing"),
        pytest.param(with_session(phase=C1Phase.CLOSED), 10, (), [HERS], id="closed"),
        pytest.param(with_session(**ENDED, reopen_at=after(10.001).monotonic), 10, (), [], id="ended"),
        pytest.param(with_session(**ENDED, reopen_at=after(10).monotonic), 10, (), [HERS], id="due again"),
        pytest.param(with_session(**ENDED, identity=OTHERS, reopen_at=NEVER), 10, (), [HERS], id="ended as another"),
        pytest.param(replace(ready(), host_id_holder=HOLDER), 10, (), ["close C1"], id="another has the host ID"),
        pytest.param(
            replace(with_session(phase=C1Phase.CLOSED), host_id_holder=HOLDER), 10, (), [], id="and opens none"
        ),
    ],
)
def test_what_begins_and_ends(
    state: ConnectorState, seconds: float, begun: tuple[str, ...], expected: list[object]
) -> None:
    assert due(state, after(seconds), *begun) == expected


def test_a_suspended_connector_checks_nothing_and_cancels_a_sync_that_waits_for_a_slot() -> None:
    assert "check" not in due(replace(ready(), desired=desired(2, suspend=True)), after(10))
    assert "the connector is suspended" in due(suspended(greeted(checked(new()))), START, "sync")


# Answers to C1's tasks


def refusal(state: ConnectorState, now: Instant) -> Failure:
    [refused] = [each for each in due(state, now) if isinstance(each, Failure)]
    return refused


def answers(state: ConnectorState, now: Instant) -> bool:
    return any(isinstance(each, Answer) for each in due(state, now))


def delivered(state: ConnectorState) -> ConnectorState:
    assert state.staged is not None
    return transitions.delivered(state, TaskID("task0"), state.staged, after(20).wall)


def held() -> ConnectorState:
    return asked(synced(delivered(ready()), after(HOUR), "sync2", Counts(10, 10, 300)), after(HOUR + 10))


def test_a_fresh_snapshot_answers_with_what_the_task_asks_for() -> None:
    state = asked(ready(), after(10), USERS)
    assert state.staged is not None
    assert due(state, after(10)) == [Answer(state.staged, USERS)]


@pytest.mark.parametrize(
    ("kinds", "asked_for", "answered"),
    [
        # C1 names no types: those of the spec are meant, and what cannot be expanded is not
        (DEFAULT_KINDS, SyncScope(ALL_KINDS, expanded=True), SyncScope()),
        (ALL_KINDS, SyncScope(ALL_KINDS, expanded=True), SyncScope(ALL_KINDS, expanded=True)),
        (ALL_KINDS, SyncScope(ALL_KINDS), SyncScope(ALL_KINDS)),
        (PIPELINES, SyncScope(ALL_KINDS, expanded=True), SyncScope(PIPELINES, expanded=True)),
        # C1 names types: of those, the ones that the spec has
        (PIPELINES, SyncScope(DEFAULT_KINDS, expanded=True), SyncScope()),
        (PIPELINES, SyncScope(USERS.kinds | {ResourceKind.CLUSTER}, expanded=True), USERS),
    ],
)
def test_a_task_gets_of_what_it_asks_for_what_the_spec_has(
    kinds: frozenset[ResourceKind], asked_for: SyncScope, answered: SyncScope
) -> None:
    state = asked(ready(kinds=kinds), after(10), asked_for)
    assert state.staged is not None
    assert due(state, after(10)) == [Answer(state.staged, answered)]


EDITED = asked(replace(ready(), desired=desired(2)), after(10))
ACCEPTED = replace(held(), desired=replace(held().desired, accept_shrink="sync2"))


@pytest.mark.parametrize(
    ("state", "now", "answered"),
    [
        pytest.param(asked(ready(), after(5)), after(5), True, id="from its end on"),
        pytest.param(asked(ready(), after(5.5)), after(5.5), True, id="after its end"),
        pytest.param(asked(ready(), after(604.9)), after(604.9), True, id="younger than the maximum"),
        pytest.param(asked(ready(), after(605)), after(605), False, id="as old as the maximum"),
        pytest.param(
            asked(ready(), Instant(after(4).wall, 200.0)), Instant(after(4).wall, 200.0), False, id="of the future"
        ),
        pytest.param(asked(ready(max_snapshot_age=0.0), after(-0.001)), after(10), True, id="asked before it began"),
        pytest.param(asked(ready(max_snapshot_age=0.0), after(0)), after(10), True, id="asked as it began"),
        pytest.param(asked(ready(max_snapshot_age=0.0), after(0.001)), after(10), False, id="asked after it began"),
        pytest.param(EDITED, after(10), False, id="from before an edit"),
        pytest.param(suspended(asked(ready(), after(10))), after(10), False, id="suspended"),
        pytest.param(held(), after(HOUR + 10), False, id="held"),
        pytest.param(ACCEPTED, after(HOUR + 10), True, id="held, and let go by a person"),
    ],
)
def test_which_snapshot_answers_a_task(state: ConnectorState, now: Instant, answered: bool) -> None:
    assert answers(state, now) is answered


@pytest.mark.parametrize("what", ["no file", "no record", "another sync's record", "less than it asks for"])
def test_a_task_that_no_file_can_answer_asks_for_a_sync(what: str) -> None:
    state = asked(ready(), after(10))
    assert state.staged is not None
    assert state.records.last_sync is not None
    other = replace(state.records.last_sync, id=SyncID("sync2"))
    lacking = {
        "no file": replace(state, staged=None),
        "no record": replace(state, records=replace(state.records, last_sync=None)),
        "another sync's record": replace(state, records=replace(state.records, last_sync=other)),
        "less than it asks for": replace(state, staged=replace(state.staged, scope=USERS)),
    }
    assert why_sync(lacking[what], after(10)) is Trigger.TASK
    assert due(lacking[what], after(10)) == ["sync"]


FAILING = asked(failed(replace(ready(), desired=desired(1, max_snapshot_age=0.0)), after(HOUR)), after(HOUR + 1))
GONE = replace(asked(ready(), after(10)), check=Check(generation=1, failure=REJECTED))
NONE_OF_THEM = asked(ready(kinds=USERS.kinds), after(10), TEAMS)
FOUND = derive_status(held(), after(HOUR + 10)).condition(ConditionType.DELIVERED)


@pytest.mark.parametrize(
    ("state", "now", "expected"),
    [
        pytest.param(GONE, after(10), REJECTED, id="the Secret is gone"),
        pytest.param(checked(asked(ready(), LATER), LATER, REJECTED), LATER, REJECTED, id="what blocks syncs"),
        pytest.param(FAILING, after(HOUR + 22.499), DOWN, id="the last failure, until the backoff ends"),
        pytest.param(
            NONE_OF_THEM,
            after(10),
            Failure(
                Reason.SPEC_INVALID,
                "The task asks for team, the connector is set to sync user only (spec.sync.resourceTypes).",
                remedy=Remedy.EDIT,
            ),
            id="none of the kinds",
        ),
        pytest.param(
            asked(ready(), after(10), SyncScope(ALL_KINDS - DEFAULT_KINDS)),
            after(10),
            Failure(
                Reason.SPEC_INVALID,
                "The task asks for api_token, cluster, organization and pipeline, the connector is set to sync team and"
                " user only (spec.sync.resourceTypes).",
                remedy=Remedy.EDIT,
            ),
            id="opt-in kinds alone",
        ),
        pytest.param(
            asked(ready(), after(10), SyncScope(frozenset())),
            after(10),
            Failure(
                Reason.SPEC_INVALID,
                "The task asks for , the connector is set to sync team and user only (spec.sync.resourceTypes).",
                remedy=Remedy.EDIT,
            ),
            id="nothing at all",
        ),
        pytest.param(
            asked(replace(ready(), sync_blocked_until=after(1100).monotonic), LATER),
            LATER,
            Failure(
                Reason.BUILDKITE_RATE_LIMITED,
                "Buildkite asked the connector to wait another 100 seconds; the next sync starts then.",
                retry_after=100.0,
            ),
            id="what Buildkite told a check",
        ),
        pytest.param(
            held(),
            after(HOUR + 10),
            Failure(Reason.SHRINK_HELD, FOUND.message if FOUND is not None else ""),
            id="held, in the status's words",
        ),
    ],
)
def test_why_a_task_is_refused(state: ConnectorState, now: Instant, expected: Failure) -> None:
    told = refusal(state, now)
    assert (told.reason, told.message, told.remedy, told.retry_after) == (
        expected.reason,
        expected.message,
        expected.remedy,
        expected.retry_after,
    )


def test_a_task_waits_for_a_sync_that_is_under_way_or_begins() -> None:
    under_way = running(with_request(failed(ready(), after(HOUR))), after(HOUR + 1))
    assert due(asked(under_way, LATER), after(HOUR + 2)) == []
    assert due(FAILING, after(HOUR + 22.5)) == ["sync"]
    assert due(asked(replace(ready(), sync_blocked_until=LATER.monotonic), LATER), LATER) == ["sync"]


# When to look again


def with_end(seconds: float) -> ConnectorState:
    """The token expires then."""
    facts = replace(PREFLIGHT, token=TokenFacts("uuid", frozenset(), after(seconds).wall))
    return with_check(ready(schedule=Interval(30 * 24 * HOUR)), preflight=facts)


def between_syncs() -> ConnectorState:
    """A sync runs, and the time of the next is known."""
    state = running(ready(), after(HOUR))
    return replace(state, records=replace(ready().records, next_sync_time=after(2 * HOUR).wall))


DAY = 24 * HOUR
MISSING = checked(new(), START, Failure(Reason.SECRET_NOT_FOUND, "There is no Secret.", remedy=REJECTED.remedy))
OLD_REJECTED = greeted(replace(checked(new(), START, REJECTED), desired_since=float("-inf")))
WAITING = running(replace(asked(ready(), after(10)), desired=desired(2)), after(10), "sync2")


@pytest.mark.parametrize(
    ("state", "now", "at"),
    [
        pytest.param(ready(), 10, HOUR, id="the schedule"),
        pytest.param(new(suspend=True), 0, None, id="suspended"),
        pytest.param(suspended(ready()), 10, None, id="suspended later"),
        pytest.param(suspended(OLD_REJECTED), 10, None, id="suspended with a failure"),
        pytest.param(replace(ready(), sync_blocked_until=after(10).monotonic), 10, HOUR, id="not the moment itself"),
        pytest.param(replace(ready(), sync_blocked_until=after(2 * HOUR).monotonic), 10, 2 * HOUR, id="put off"),
        pytest.param(WAITING, 10, 605, id="a task waits: when the snapshot grows too old"),
        pytest.param(with_end(15 * DAY), 10, DAY, id="a token expires: when its days change"),
        pytest.param(with_end(15 * DAY), DAY, 2 * DAY, id="and again"),
        pytest.param(with_end(15 * DAY), 15 * DAY, 30 * DAY, id="until it has expired"),
        pytest.param(with_check(MISSING, forced_due=NEVER), 10, 180, id="a late Secret is late no more"),
        pytest.param(OLD_REJECTED, 10, 300, id="a failed check is repeated"),
        pytest.param(with_session(**ENDED, reopen_at=after(300).monotonic), 10, 300, id="a session may begin again"),
        pytest.param(with_session(ended=True, reopen_at=after(300).monotonic), 10, HOUR, id="it has not closed yet"),
        pytest.param(REJECTED_LONG, 200, NEVER - START.monotonic, id="blocked: not for the schedule"),
        pytest.param(between_syncs(), HOUR, None, id="syncing: not for the schedule"),
    ],
)
def test_when_a_connector_looks_again(state: ConnectorState, now: float, at: float | None) -> None:
    assert next_look(state, after(now)) == (None if at is None else after(at).monotonic)
