"""Is this machine's clock right? Both sides say what time they have."""

from datetime import datetime, timedelta

MOST_OFF = timedelta(seconds=60)
"""C1 takes an assertion within two minutes of its own clock, and other servers within one."""


def describe(error: timedelta, whose: str, local: datetime) -> str:
    """What a person is told of a clock that is off by `error` (positive: behind)."""
    seconds = abs(round(error.total_seconds()))
    way = "behind" if error > timedelta() else "ahead of"
    return (
        f"This machine's clock says {local:%Y-%m-%d %H:%M:%S} UTC and is {seconds} s {way} {whose}. "
        "Set it by NTP (chrony, systemd-timesyncd; in a cluster: the node's)."
    )
