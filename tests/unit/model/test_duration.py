"""Durations in Go's notation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkite_connector.model.duration import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("168h", 604800), ("1h0m1s", 3601)]
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "3x", "5", "-5m", "1.5h", "5m1h", " 5m", "5 m", "1d", "٣m"])
def test_what_is_no_duration_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration: write hours"):
        parse_duration(text)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_every_unit_counts(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds
