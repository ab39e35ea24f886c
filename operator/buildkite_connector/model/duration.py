"""Durations as Kubernetes users write them: Go's notation, of hours, minutes and seconds."""

import re

_DURATION = re.compile(r"(?:(?P<h>[0-9]{1,9})h)?(?:(?P<m>[0-9]{1,9})m)?(?:(?P<s>[0-9]{1,9})s)?")


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `90s`, `5m`, `1h30m`.

    Raises ValueError with a sentence for the person who wrote it.
    """
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is not a duration: write hours, minutes and seconds such as 1h30m, 10m or 0s")
    hours, minutes, seconds = (int(match[unit] or 0) for unit in "hms")
    return float(hours * 3600 + minutes * 60 + seconds)
