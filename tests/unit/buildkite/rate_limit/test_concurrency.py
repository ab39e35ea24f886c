"""How many requests to have out at once: as many as help."""

from buildkite_connector.buildkite.rate_limit.concurrency import FIRST, Concurrency
from buildkite_connector.buildkite.rate_limit.limiter import Lane, RateLimiter
from fakes.rate_limited_world import Limit, World

BOUNDLESS = 1_000_000


def at_work(concurrency: Concurrency, answers: int, took: float, *, full: bool = True) -> int:
    """The limit after so many answers that each took so many seconds."""
    for number in range(answers):
        concurrency.answered(float(number), number + took, full=full)
    return concurrency.limit


def test_it_grows_while_answers_come_as_quickly_as_ever() -> None:
    assert at_work(Concurrency(most=64), 200, 0.02) == 64


def test_it_does_not_grow_when_there_was_nothing_more_to_ask() -> None:
    assert at_work(Concurrency(), 200, 0.02, full=False) == FIRST


def test_it_shrinks_when_answers_begin_to_queue_though_not_below_where_it_started() -> None:
    concurrency = Concurrency(most=64)
    at_work(concurrency, 200, 0.02)
    assert at_work(concurrency, 10_000, 0.2) == FIRST


def test_it_is_halved_when_the_server_fails_to_answer() -> None:
    concurrency = Concurrency(most=64)
    at_work(concurrency, 200, 0.02)
    concurrency.overloaded(300.0, 310.0)
    assert concurrency.limit == 32


def test_requests_that_failed_together_halve_it_once() -> None:
    concurrency = Concurrency(most=64)
    at_work(concurrency, 200, 0.02)
    for failed in range(10):
        concurrency.overloaded(300.0, 310.0 + failed / 100)
    assert concurrency.limit == 32


def test_one_request_always_may_go() -> None:
    concurrency = Concurrency()
    for number in range(20):
        concurrency.overloaded(float(number), number + 0.5)
    assert concurrency.limit == 1


def test_it_may_be_told_to_start_with_less() -> None:
    assert Concurrency(most=3).limit == 3


def test_a_far_server_gets_more_requests_at_once_than_one_that_queues_them() -> None:
    far = World(Limit(BOUNDLESS), latency=lambda _: (0.1, 0.1))
    far.play([(Lane(80), 2000)])
    assert far.most_out == 64

    near = World(Limit(BOUNDLESS), limiter=RateLimiter())
    near.latency = lambda _: (0.001, 0.002 * near.out)  # each request that is out makes all of them wait
    near.play([(Lane(80), 2000)])
    assert near.most_out < 16
