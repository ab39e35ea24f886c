"""An API token that expires soon: the sentence, when it changes, and where people see it."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from buildkite_connector.connector.conditions import expires_soon, sentence_changes
from buildkite_connector.model.status import ConditionType
from fakes.connector_setup import HOUR, MINUTE, Setup
from fakes.virtual_time import virtual_time

ENDS = "2026-03-20T12:00:00Z"
END = datetime(2026, 3, 20, 12, tzinfo=UTC)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


@pytest.mark.parametrize(
    ("before", "says"),
    [
        (14 * DAY + SECOND, None),
        (14 * DAY, "in 14 days"),
        (13 * DAY + SECOND, "in 14 days"),
        (13 * DAY, "in 13 days"),
        (DAY + SECOND, "in 2 days"),
        (DAY, "within a day"),
        (SECOND, "within a day"),
        (-SECOND, "now"),
    ],
)
def test_people_are_warned_from_two_weeks_before_with_the_days_that_are_left(
    before: timedelta, says: str | None
) -> None:
    sentence = expires_soon(END, END - before)
    assert (sentence is None) if says is None else (sentence is not None and f"expires {says} ({ENDS})" in sentence)


def test_the_warning_says_what_to_do() -> None:
    assert expires_soon(END, END - 3 * DAY) == (
        "The Buildkite API token expires in 3 days (2026-03-20T12:00:00Z). Create a new one with the same scopes"
        " and replace it before then."
    )


def test_a_token_that_never_expires_is_no_news() -> None:
    assert (expires_soon(None, END), sentence_changes(None, END)) == (None, None)


@pytest.mark.parametrize("days", range(1, 15))
def test_the_sentence_changes_exactly_when_it_is_said_to(days: int) -> None:
    now = END - days * DAY - SECOND
    at = sentence_changes(END, now)
    assert at == END - days * DAY
    assert expires_soon(END, now) == expires_soon(END, at - SECOND / 2) != expires_soon(END, at)


def test_it_changes_last_when_the_token_ends() -> None:
    assert sentence_changes(END, END - SECOND) == END
    assert sentence_changes(END, END) is None


@virtual_time
async def test_the_status_says_so_once_a_day_until_a_new_token_is_in_the_secret() -> None:
    setup = Setup()
    setup.buildkite.token_expires_at = datetime(2026, 3, 16, 12, tzinfo=UTC)  # 14 days and 3 hours after the start
    async with setup.running():
        await asyncio.sleep(3 * HOUR - MINUTE)
        assert setup.condition(ConditionType.CREDENTIALS_VALID) == ("True", "Valid")
        said = []
        for hours in (1, 24):
            await asyncio.sleep(hours * HOUR)
            condition = setup.status.condition(ConditionType.CREDENTIALS_VALID)
            assert condition is not None
            said.append((condition.reason.value, condition.message[:44]))
        begins = "The Buildkite API token expires in"
        assert said == [("TokenExpires", f"{begins} {days} days (") for days in (14, 13)]
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        setup.buildkite.token_expires_at = None
        setup.rotate(api_token="fresh")
        await asyncio.sleep(2 * MINUTE)
        assert setup.condition(ConditionType.CREDENTIALS_VALID) == ("True", "Valid")
