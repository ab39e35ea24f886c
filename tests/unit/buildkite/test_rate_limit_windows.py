"""One rate-limit window: what is known of it, and when the next request may go."""

from math import inf

import pytest

from buildkite_connector.buildkite.rate_limit import (
    MARGIN,
    ORGANIZATION,
    RESETS_ON_TIME,
    UNHEARD,
    USER,
    Reservation,
    Window,
    WindowReading,
    WindowReadings,
    read_window,
    read_windows,
)

MINUTE = 60.0


def answer(
    window: Window, stamp: Reservation, remaining: int, reset: float, now: float, *, refused: bool = False
) -> None:
    window.settle(stamp, WindowReading(50, remaining, reset), now, heard=True, refused=refused)


def lose(window: Window, stamp: Reservation, now: float) -> None:
    window.settle(stamp, None, now, heard=False, refused=False)


def known(remaining: int = 49, reset: float = 60.0, now: float = 0.0) -> Window:
    """A window of 50 whose first answer came at `now`."""
    window = Window()
    answer(window, window.take(now), remaining, reset, now)
    return window


def room(window: Window, percent: int, now: float) -> int:
    """How many requests may go at once."""
    sent = 0
    while window.opens_at(percent, now) <= now:
        window.take(now)
        sent += 1
    return sent


def test_one_request_asks_before_others_go_while_nothing_is_known() -> None:
    window = Window()
    assert room(window, 80, 0.0) == 1
    assert window.opens_at(80, 0.0) == inf


def test_all_of_the_share_may_go_at_once_when_the_window_is_known() -> None:
    assert room(known(remaining=49), 80, 1.0) == 39


def test_what_others_used_counts_as_used() -> None:
    assert room(known(remaining=20), 80, 1.0) == 10


def test_nothing_goes_before_the_reset_once_the_share_is_used() -> None:
    window = known(remaining=10, reset=30)
    assert window.opens_at(80, 1.0) == 30 + MARGIN
    assert window.opens_at(100, 1.0) < 1.0


def test_requests_that_are_out_count_as_used_until_their_answers_tell() -> None:
    window = known(remaining=12)
    first, second = window.take(1.0), window.take(1.0)
    assert window.opens_at(80, 1.0) > 1.0
    answer(window, second, 10, 59, 1.1)
    answer(window, first, 11, 59, 1.2)
    assert window.opens_at(80, 1.3) > 1.3


def test_answers_out_of_order_do_not_give_back_what_is_used() -> None:
    window = known(remaining=40)
    first, second = window.take(1.0), window.take(1.0)
    answer(window, second, 11, 59, 1.1)
    answer(window, first, 39, 59, 1.2)
    assert room(window, 80, 1.3) == 1


def test_one_request_asks_whether_the_window_has_turned() -> None:
    window = known(remaining=10, reset=30)
    assert room(window, 80, 30.5) == 1


def test_the_new_window_opens_with_the_answer_that_tells_of_it() -> None:
    window = known(remaining=10, reset=30)
    answer(window, window.take(30.5), 49, 60, 30.6)
    assert room(window, 80, 30.6) == 39


def test_a_request_sent_in_the_old_window_may_be_counted_in_the_new() -> None:
    window = known(remaining=12, reset=30)
    window.take(29.9)
    answer(window, window.take(30.5), 49, 60, 30.6)
    assert room(window, 80, 30.6) == 38


def test_a_late_answer_of_the_old_window_changes_nothing_in_the_new() -> None:
    window = known(remaining=12, reset=30)
    late = window.take(29.9)
    answer(window, window.take(30.5), 49, 60, 30.6)
    answer(window, late, 11, 1, 31.0)
    assert room(window, 80, 31.0) == 39


def test_an_answer_to_a_request_sent_before_the_reset_counts_where_it_was_counted() -> None:
    window = known(remaining=12, reset=30)
    late = window.take(29.9)
    answer(window, window.take(30.5), 49, 60, 30.6)
    answer(window, late, 30, 60, 31.0)
    assert room(window, 80, 31.0) == 20


def test_a_new_window_that_others_have_almost_used_up_is_told_from_the_old_by_its_reset() -> None:
    window = known(remaining=10, reset=30)
    answer(window, window.take(30.5), 2, 60, 30.6)
    assert window.opens_at(80, 31.0) == pytest.approx(90.6 + MARGIN)


def test_a_request_without_an_answer_counts_as_used() -> None:
    window = known(remaining=12)
    lose(window, window.take(1.0), 2.0)
    assert room(window, 80, 2.0) == 1


def test_a_request_that_was_not_counted_after_all_is_not_held_against_the_share_for_long() -> None:
    window = known(remaining=20)
    lose(window, window.take(1.0), 2.0)
    answer(window, window.take(3.0), 19, 57, 3.1)
    assert room(window, 80, 3.1) == 9


def test_a_probe_that_meets_the_old_window_shows_that_resets_are_rounded_down() -> None:
    window = known(remaining=10, reset=30)
    answer(window, window.take(30.1), 9, 0, 30.2)
    assert window.opens_at(80, 30.3) == pytest.approx(31.2 + MARGIN)
    answer(window, window.take(31.3), 49, 59, 31.4)
    answer(window, window.take(31.5), 10, 59, 31.6)
    assert window.opens_at(80, 31.7) == pytest.approx(91.4 - 1 + 1 + MARGIN)


def test_a_probe_that_meets_the_old_window_waits_as_long_as_its_answer_says() -> None:
    window = known(remaining=10, reset=30)
    answer(window, window.take(30.1), 9, 1, 30.2)
    assert window.opens_at(80, 30.3) == pytest.approx(32.2 + MARGIN)


def test_a_share_of_all_keeps_its_last_request_to_ask_until_the_rounding_is_known() -> None:
    window = known(remaining=49, reset=60)
    allowed = []
    for number in range(RESETS_ON_TIME + 1):
        opened = number * 60.5
        allowed.append(room(window, 100, opened + 0.1))
        for left in range(allowed[-1]):
            answer(window, Reservation(number + 1, 50, 0, False, opened), 49 - left - 1, 60, opened + 0.2)
        answer(window, window.take(opened + 60.5), 49, 60, opened + 60.5)
    assert allowed == [48, 48, 49]


def test_when_others_used_the_last_request_a_whole_second_is_added_to_the_reset() -> None:
    window = known(remaining=0, reset=30)
    assert window.opens_at(80, 1.0) == pytest.approx(31 + MARGIN)


def test_resets_told_in_fractions_are_waited_for_to_the_fraction() -> None:
    window = Window()
    window.settle(window.take(0.0), WindowReading(50, 0, 2.125, 0.001), 0.0, heard=True, refused=False)
    assert window.opens_at(80, 0.1) == pytest.approx(2.126 + MARGIN)


def test_a_refusal_closes_the_window_until_its_reset() -> None:
    window = known(remaining=30, reset=60)
    answer(window, window.take(1.0), 0, 42, 1.1, refused=True)
    assert window.opens_at(100, 2.0) == pytest.approx(43.1 + 1 + MARGIN)


def test_without_headers_there_is_no_limit_once_several_answers_had_none() -> None:
    window = Window()
    for number in range(UNHEARD):
        assert room(window, 80, float(number)) == 1, "each asks whether there is a limit"
        window.settle(Reservation(0, 0, 0, True, number), None, number + 0.5, heard=True, refused=False)
    window.take(10.0)
    assert window.opens_at(10, 10.0) == -inf


def test_an_error_page_without_headers_says_nothing_about_the_limit() -> None:
    window = Window()
    for number in range(2 * UNHEARD):
        lose(window, window.take(number), number + 0.5)
    assert room(window, 80, 100.0) == 1


def test_headers_that_come_back_are_heeded_again() -> None:
    window = Window()
    for number in range(UNHEARD):
        window.settle(window.take(number), None, number + 0.5, heard=True, refused=False)
    answer(window, window.take(10.0), 10, 30, 10.1)
    assert window.opens_at(80, 11.0) == pytest.approx(40.1 + MARGIN)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (("50", "49", "42"), WindowReading(50, 49, 42.0, 1.0)),
        (("50", "49", "41.25"), WindowReading(50, 49, 41.25, 0.01)),
        (("50", "99", "42"), WindowReading(50, 50, 42.0)),
        (("50", "49", "-7"), WindowReading(50, 49, 0.0)),
        (("50", "49", "999999999"), WindowReading(50, 49, 60.0)),
        (("50", "49", "inf"), WindowReading(50, 49, 60.0)),
        (("50", "49", "nan"), None),
        (("50", "-14", "36"), WindowReading(50, 0, 36.0)),
        (("1", "0", "42"), WindowReading(1, 0, 42.0)),
        (("0", "0", "42"), None),
        (("-50", "1", "42"), None),
        (("", "49", "42"), None),
        (("fifty", "49", "42"), None),
        (("50", "49", "soon"), None),
    ],
)
def test_headers_are_believed_only_as_far_as_they_make_sense(
    headers: tuple[str, str, str], expected: WindowReading | None
) -> None:
    for prefix in (USER, ORGANIZATION):
        named = dict(zip((f"{prefix}-limit", f"{prefix}-remaining", f"{prefix}-reset"), headers, strict=True))
        assert read_window(named, prefix, MINUTE) == expected
        assert read_window({}, prefix, MINUTE) is None


@pytest.mark.parametrize(
    ("status", "refused", "failed"), [(200, False, False), (429, True, False), (499, False, False), (500, False, True)]
)
def test_an_answer_has_readings_of_both_windows_and_what_its_status_means(
    status: int, refused: bool, failed: bool
) -> None:
    headers = {f"{prefix}-{name}": "7" for prefix in (USER, ORGANIZATION) for name in ("limit", "remaining", "reset")}
    headers[f"{USER}-limit"] = "50"
    assert read_windows(status, headers, MINUTE) == WindowReadings(
        WindowReading(50, 7, 7.0), WindowReading(7, 7, 7.0), refused, failed
    )
