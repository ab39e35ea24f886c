"""Sync ids have the form of the reference's."""

import secrets
from datetime import UTC, datetime, timedelta

import pytest

from buildkite_connector.c1z import new_sync_id, read_sync_run
from harness.organization import ACME_REFERENCE

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def test_the_references_id_is_what_its_time_and_random_bytes_give() -> None:
    run = read_sync_run(ACME_REFERENCE)
    number = 0
    for digit in run.sync_id:
        number = number * 62 + ALPHABET.index(digit)
    random_bytes = number.to_bytes(20, "big")[4:]
    assert new_sync_id(run.started_at, lambda _: random_bytes) == run.sync_id


def test_ids_sort_by_time() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    ids = [new_sync_id(start + timedelta(seconds=n), secrets.token_bytes) for n in range(100)]
    assert ids == sorted(ids)


def test_ids_of_one_moment_differ() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert len({new_sync_id(now, secrets.token_bytes) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("now", "expected"),
    [(datetime(1970, 1, 1, tzinfo=UTC), "0" * 27), (datetime(9999, 1, 1, tzinfo=UTC), "aWgEPL")],
)
def test_a_clock_beyond_what_the_form_holds_gives_the_nearest_time(now: datetime, expected: str) -> None:
    found = new_sync_id(now, bytes)
    assert len(found) == 27
    assert found.startswith(expected)
