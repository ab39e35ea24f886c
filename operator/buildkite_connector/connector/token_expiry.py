"""Warns of an API token that expires soon. Pure.

The sentence names whole days, so that it changes once a day: the status and one event with it.
"""

import math
from datetime import datetime, timedelta

WARNED_DAYS = 14
_DAY = timedelta(days=1)


def expires_soon(end: datetime | None, now: datetime) -> str | None:
    """The warning from `WARNED_DAYS` before `end` on (UTC; None: never), else None."""
    if end is None or end - now > WARNED_DAYS * _DAY:
        return None
    days = max(math.ceil((end - now) / _DAY), 0)
    when = f"in {days} days" if days > 1 else "within a day" if days else "now"
    return (
        f"The Buildkite API token expires {when} ({end:%Y-%m-%dT%H:%M:%SZ}). Create a new one with the same scopes"
        " and replace it before then."
    )


def sentence_changes(end: datetime | None, now: datetime) -> datetime | None:
    """When `expires_soon` next returns another sentence; None: never."""
    if end is None or end <= now:
        return None
    days = min(math.ceil((end - now) / _DAY) - 1, WARNED_DAYS)
    return end - days * _DAY
