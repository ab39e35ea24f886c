"""When requests go: within the quota, without delay beyond it, in turns, and no more at once than may be."""

import asyncio
from collections import Counter
from math import ceil, inf

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from buildkite_connector.buildkite.rate_limit import (
    RESETS_ON_TIME,
    Lane,
    Permit,
    RateLimiter,
    RequestQueue,
    WindowReading,
    WindowReadings,
)
from fakes.rate_limited_setup import Limit, Setup
from fakes.virtual_time import VirtualClock, virtual_time
from harness.examples import examples

PLENTY = WindowReadings(WindowReading(1000, 999, 60.0), WindowReading(1000, 999, 60.0))


def windows_needed(requests: int, share: int, others: int) -> int:
    return ceil(requests / max(1, share - others))


def opened(limiter: RateLimiter) -> RateLimiter:
    """A limiter that knows of windows with plenty left."""
    permit = limiter.join(Lane(80), "acme")
    limiter.grant(0.0)
    limiter.answered(permit, PLENTY, 0.01)
    limiter.leave(permit, 0.01)
    return limiter


def granted_lanes(limiter: RateLimiter, now: float) -> list[Lane]:
    return [permit.lane for permit in limiter.grant(now)]


def test_a_user_limit_of_50_lets_80_percent_through_each_minute() -> None:
    user = Limit(50)
    setup = Setup(user, Limit(200))
    took = setup.play([(Lane(80), 234)])
    assert set(user.ours.values()) == {40, 234 - 5 * 40}
    assert setup.refused == 0
    assert took <= 5 * 60 * 1.05


def test_a_second_tool_that_eats_half_of_the_window_slows_it_down_and_is_never_in_its_way() -> None:
    user = Limit(50, others=25)
    setup = Setup(user, Limit(200, others=25))
    took = setup.play([(Lane(80), 150)])
    assert set(user.ours.values()) == {15}
    assert setup.refused == 0
    assert took <= 9 * 60 * 1.05


def test_the_narrower_of_the_two_windows_counts() -> None:
    organization = Limit(60)
    setup = Setup(Limit(500), organization)
    setup.play([(Lane(50), 100)])
    assert max(organization.ours.values()) == 30


def test_the_share_goes_out_at_once_where_the_window_allows() -> None:
    setup = Setup(Limit(50), Limit(200))
    setup.play([(Lane(80), 60)])
    first_window = [at for at, _ in setup.sent if at < 30]
    assert len(first_window) == 40
    assert max(first_window) < 1


@settings(max_examples=examples(150))
@example(
    size=10,
    percent=100,
    others=0.875,
    requests=5,
    aligned=False,
    rounds_up=False,
    start=1000.0,
    latencies=[(0.125, 0.125)],
)
@given(
    size=st.integers(10, 120),
    percent=st.integers(10, 100),
    others=st.floats(0, 0.9),
    requests=st.integers(1, 400),
    aligned=st.booleans(),
    rounds_up=st.booleans(),
    start=st.floats(1000, 1060),
    latencies=st.lists(st.tuples(st.floats(0.0005, 0.2), st.floats(0.0005, 0.2)), min_size=1, max_size=5),
)
def test_whatever_the_server_is_like_it_refuses_nothing_and_no_time_is_lost(
    *,
    size: int,
    percent: int,
    others: float,
    requests: int,
    aligned: bool,
    rounds_up: bool,
    start: float,
    latencies: list[tuple[float, float]],
) -> None:
    share = max(1, size * percent // 100)
    taken = int(share * others)
    user = Limit(size, aligned=aligned, rounds_up=rounds_up, others=taken)
    setup = Setup(user, Limit(10 * size), lambda n: latencies[n % len(latencies)], start)
    took = setup.play([(Lane(percent), requests)])

    assert setup.refused == 0
    over = [used + taken - share for used in user.ours.values() if used + taken > share]
    # A server that rounds down is found out once, by one request of the others' share.
    assert over in ([], [1]), user.ours
    assert not (over and rounds_up)
    kept = RESETS_ON_TIME if share == size else 0
    windows = windows_needed(requests + kept, share, taken)
    last_burst = 6  # seconds that the answers themselves take, in the last window
    assert took <= (windows - 1) * 60 * 1.05 + last_burst


@settings(max_examples=examples(60))
@given(
    window=st.floats(2, 6),
    decimals_latency=st.floats(0.001, 0.02),
    others=st.integers(0, 25),
    requests=st.integers(1, 300),
)
def test_a_short_window_is_used_as_well_as_a_long_one(
    window: float, decimals_latency: float, others: int, requests: int
) -> None:
    user = Limit(50, window=window, others=others, step=0.001)
    setup = Setup(user, Limit(1000, window=window, step=0.001), lambda _: (decimals_latency,) * 2)
    took = setup.play([(Lane(80), requests)])
    windows = windows_needed(requests, 40, others)
    assert setup.refused == 0
    assert took <= (windows - 1) * window * 1.05 + 1


def test_connectors_that_share_a_token_take_turns() -> None:
    limiter = opened(RateLimiter(most_at_once=6))
    first, second = Lane(80), Lane(80)
    for lane in (first, first, first, first, second, second):
        limiter.join(lane, "acme")
    assert granted_lanes(limiter, 1.0) == [first, second, first, second, first, first]


def test_a_connector_that_has_used_its_share_does_not_hold_up_one_that_has_not() -> None:
    user = Limit(50)
    modest, greedy = Lane(20), Lane(80)
    setup = Setup(user, Limit(200))
    setup.play([(modest, 30), (greedy, 60)])
    first_window = Counter(lane for at, lane in setup.sent if at < 30)
    assert first_window[modest] <= 10
    assert first_window[modest] + first_window[greedy] == 40
    assert setup.refused == 0


def test_connectors_that_share_a_token_get_like_shares_of_each_window() -> None:
    lanes = [Lane(80) for _ in range(4)]
    setup = Setup(Limit(50), Limit(200))
    setup.play([(lane, 50) for lane in lanes])
    first_window = Counter(lane for at, lane in setup.sent if at < 30)
    assert set(first_window.values()) == {10}


def test_waiting_for_a_window_is_counted_once_however_many_wait() -> None:
    lane = Lane(80)
    setup = Setup(Limit(50), Limit(200))
    took = setup.play([(lane, 120)])
    assert lane.throttled_seconds(setup.done) == pytest.approx(took, abs=1.0)


def test_a_request_given_up_while_it_waits_leaves_its_place_to_the_next() -> None:
    limiter = opened(RateLimiter(most_at_once=1))
    lane = Lane(80)
    out, given_up, next_one = (limiter.join(lane, "acme") for _ in range(3))
    assert limiter.grant(1.0) == [out]
    limiter.leave(given_up, 1.1)
    limiter.answered(out, PLENTY, 1.2)
    limiter.leave(out, 1.2)
    assert limiter.grant(1.2) == [next_one]


def test_a_lane_whose_last_request_was_given_up_is_passed_by() -> None:
    limiter = opened(RateLimiter(most_at_once=1))
    gone, here = Lane(80), Lane(80)
    given_up = limiter.join(gone, "acme")
    wanted = limiter.join(here, "acme")
    limiter.leave(given_up, 1.0)
    assert limiter.grant(1.0) == [wanted]


def test_a_lane_is_throttled_while_it_waits_for_a_window_and_no_longer() -> None:
    limiter, lane = opened(RateLimiter(32)), Lane(80)
    limiter.hold(60.0)
    waiting = limiter.join(lane, "acme")
    limiter.grant(1.0)
    limiter.grant(2.0)
    assert lane.throttled_seconds(2.5) == 1.5
    limiter.leave(waiting, 3.0)
    assert lane.throttled_seconds(10.0) == 2.0


def test_a_lane_that_waits_for_an_answer_about_the_window_is_not_throttled() -> None:
    limiter, lane = RateLimiter(32), Lane(80)
    limiter.join(lane, "acme")
    limiter.join(lane, "acme")
    assert len(limiter.grant(0.0)) == 1
    assert lane.throttled_seconds(5.0) == 0.0


def test_a_probe_that_gets_no_answer_is_followed_by_another() -> None:
    limiter = RateLimiter(32)
    lane = Lane(80)
    first, second, third = (limiter.join(lane, "acme") for _ in range(3))
    assert limiter.grant(0.0) == [first]
    limiter.leave(first, 10.0)
    assert limiter.grant(10.0) == [second]
    assert third in lane.waiting


def test_nobody_goes_while_the_server_asked_everybody_to_wait() -> None:
    limiter = opened(RateLimiter(32))
    permit = limiter.join(Lane(80), "acme")
    limiter.hold(7.0)
    assert limiter.grant(1.0) == []
    assert limiter.wakes_at == 7.0
    assert limiter.grant(7.0) == [permit]


def test_each_organization_has_a_window_of_its_own() -> None:
    limiter = RateLimiter(32)
    lane = Lane(80)
    permit = limiter.join(lane, "acme")
    limiter.grant(0.0)
    limiter.answered(permit, WindowReadings(WindowReading(50, 49, 60.0), WindowReading(200, 0, 60.0)), 0.1)
    limiter.leave(permit, 0.1)
    other_lane = Lane(80)
    blocked, free = limiter.join(lane, "acme"), limiter.join(other_lane, "umbrella")
    assert limiter.grant(0.2) == [free]
    assert blocked in lane.waiting


def test_requests_on_no_organization_wait_for_the_user_window_alone() -> None:
    limiter = opened(RateLimiter(32))
    assert len(granted(limiter, [limiter.join(Lane(80), None) for _ in range(3)], 1.0)) == 3


def granted(limiter: RateLimiter, turns: list[Permit], now: float) -> list[Permit]:
    return [permit for permit in limiter.grant(now) if permit in turns]


def test_an_urgent_request_goes_before_those_that_came_first() -> None:
    limiter = opened(RateLimiter(most_at_once=1))
    sync, change = Lane(80), Lane(100, urgent=True)
    for lane in (sync, sync, change):
        limiter.join(lane, "acme")
    assert granted_lanes(limiter, 1.0) == [change], "and none beside it where only one may be out"


def test_an_urgent_request_goes_although_as_many_are_out_as_may_be() -> None:
    limiter = opened(RateLimiter(most_at_once=1))
    sync, change = Lane(80), Lane(100, urgent=True)
    limiter.join(sync, "acme")
    limiter.join(sync, "acme")
    assert granted_lanes(limiter, 1.0) == [sync]
    limiter.join(change, "acme")
    assert granted_lanes(limiter, 1.0) == [change]


def test_an_urgent_request_may_use_what_a_sync_leaves_and_no_more() -> None:
    limiter = RateLimiter(32)
    sync, change = Lane(80), Lane(100, urgent=True)
    permit = limiter.join(sync, "acme")
    limiter.grant(0.0)
    limiter.answered(permit, WindowReadings(WindowReading(50, 10, 60.0), WindowReading(200, 160, 60.0)), 0.01)
    limiter.leave(permit, 0.01)
    limiter.join(sync, "acme")
    for _ in range(12):
        limiter.join(change, "acme")
    granted = granted_lanes(limiter, 1.0)
    assert set(granted) == {change}
    assert len(granted) in {9, 10}, "the last may be kept for the window's reset"


def test_an_urgent_request_that_is_given_up_leaves_the_queue() -> None:
    limiter = opened(RateLimiter(32))
    change = Lane(100, urgent=True)
    permit = limiter.join(change, "acme")
    limiter.leave(permit, 0.5)
    assert granted_lanes(limiter, 1.0) == []


NOTHING_SAID = WindowReadings()
FAILED = WindowReadings(failed=True)


@pytest.mark.parametrize(
    ("answer", "at_once"), [(NOTHING_SAID, 3), (FAILED, 1), (None, 1)], ids=["the API", "a failing server", "nobody"]
)
def test_only_answers_of_the_api_without_headers_mean_that_there_is_no_limit(
    answer: WindowReadings | None, at_once: int
) -> None:
    limiter, lane = RateLimiter(32), Lane(80)
    for now in range(4):
        limiter.join(lane, "acme")
        (permit,) = limiter.grant(now)
        if answer is not None:
            limiter.answered(permit, answer, now + 0.1)
        limiter.leave(permit, now + 0.1)
    for _ in range(3):
        limiter.join(lane, "acme")
    assert len(limiter.grant(5.0)) == at_once


@pytest.mark.parametrize("times", [1, 2])
def test_an_answer_that_is_told_of_twice_counts_once(times: int) -> None:
    limiter, lane = RateLimiter(32), Lane(100)
    permit = limiter.join(lane, None)
    limiter.answered(permit, PLENTY, 0.0)  # it has not gone yet
    limiter.grant(0.0)
    for _ in range(times):
        limiter.answered(permit, WindowReadings(WindowReading(10, 5, 60.0)), 0.1)
    limiter.leave(permit, 0.1)
    for _ in range(8):
        limiter.join(lane, None)
    assert len(limiter.grant(1.0)) == 4, "the last is kept for the window's reset"


# On the event loop


def told(remaining: int, reset: float = 60.0) -> WindowReadings:
    return WindowReadings(WindowReading(50, remaining, reset), WindowReading(200, 199, reset))


async def ask(queue: RequestQueue, lane: Lane, answer: WindowReadings, seconds: float = 0.02) -> float:
    """One request and its answer; gives when it went."""
    async with queue.permit(lane, "acme") as permit:
        went = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
        queue.answered(permit, answer)
        return went


@virtual_time
async def test_the_first_request_goes_at_once_and_the_others_with_its_answer() -> None:
    queue, lane = RequestQueue(RateLimiter(32), VirtualClock()), Lane(80)
    went = await asyncio.gather(*(ask(queue, lane, told(45)) for _ in range(4)))
    assert went == pytest.approx([0, 0.02, 0.02, 0.02], abs=1e-4)


@virtual_time
async def test_requests_beyond_the_share_go_when_the_window_has_turned() -> None:
    queue, lane = RequestQueue(RateLimiter(32), VirtualClock()), Lane(80)
    await ask(queue, lane, told(10))
    went = await ask(queue, lane, told(49))
    assert 60 < went < 60.1
    assert lane.throttled_seconds(asyncio.get_running_loop().time()) == pytest.approx(60, abs=0.1)


@virtual_time
async def test_a_wait_is_as_short_as_the_window_and_is_counted_while_it_lasts() -> None:
    queue, lane = RequestQueue(RateLimiter(32), VirtualClock()), Lane(80)
    await ask(queue, lane, told(10, reset=0.5))
    waiting = asyncio.create_task(ask(queue, lane, told(49)))
    await asyncio.sleep(0.3)
    assert lane.throttled_seconds(asyncio.get_running_loop().time()) == pytest.approx(0.3, abs=0.01)
    assert await waiting == pytest.approx(0.51, abs=0.02)


@virtual_time
async def test_a_cancelled_wait_leaves_the_gate_to_the_others() -> None:
    queue, lane = RequestQueue(RateLimiter(32), VirtualClock()), Lane(80)
    await ask(queue, lane, told(10))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(ask(queue, lane, told(49)))
        next_one = group.create_task(ask(queue, lane, told(49)))
        await asyncio.sleep(1)
        waiting.cancel()
    assert waiting.cancelled()
    assert 60 < next_one.result() < 60.1


@virtual_time
async def test_a_request_that_is_let_through_as_it_is_cancelled_leaves_its_place() -> None:
    queue, lane = RequestQueue(RateLimiter(1), VirtualClock()), Lane(80)
    async with queue.permit(lane, "acme") as permit:
        cancelled = asyncio.create_task(ask(queue, lane, told(48)))
        await asyncio.sleep(0.01)
        queue.answered(permit, told(49))
        waiting = asyncio.create_task(ask(queue, lane, told(47)))
        await asyncio.sleep(0.01)
        cancelled.cancel()
    await waiting
    assert cancelled.cancelled()


@virtual_time
async def test_a_request_cancelled_on_its_way_frees_its_place() -> None:
    queue, lane = RequestQueue(RateLimiter(most_at_once=1), VirtualClock()), Lane(80)
    async with asyncio.TaskGroup() as group:
        stuck = group.create_task(ask(queue, lane, told(49), seconds=1000))
        next_one = group.create_task(ask(queue, lane, told(49)))
        await asyncio.sleep(1)
        stuck.cancel()
    assert next_one.result() == pytest.approx(1, abs=1e-3)


@virtual_time
async def test_all_wait_as_long_as_the_server_asked() -> None:
    queue, lane = RequestQueue(RateLimiter(32), VirtualClock()), Lane(80)
    queue.hold(5)
    assert await ask(queue, lane, told(49)) == pytest.approx(5, abs=1e-3)


@virtual_time
async def test_nothing_stays_scheduled_when_nobody_waits() -> None:
    limiter, lane = RateLimiter(32), Lane(80)
    queue = RequestQueue(limiter, VirtualClock())
    await ask(queue, lane, told(10))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(ask(queue, lane, told(49)))
        await asyncio.sleep(1)
        assert limiter.wakes_at == pytest.approx(60, abs=0.1)
        waiting.cancel()
    assert limiter.wakes_at == inf
    assert queue._alarm is None


@pytest.mark.parametrize(("of_user", "granted"), [({}, 1), ({"of_user": True}, 1), ({"of_user": False}, 3)])
def test_what_is_nobodys_waits_for_no_users_window(of_user: dict[str, bool], granted: int) -> None:
    limiter, lane = RateLimiter(32, **of_user), Lane(80)
    for _ in range(3):
        limiter.join(lane, None)
    assert granted_lanes(limiter, 0.0) == [lane] * granted
