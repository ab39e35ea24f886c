"""What the log says, as people and machines read it: level, message, and the fields that are no part of logging."""

import logging
from collections.abc import Iterable

_ANY = {*vars(logging.makeLogRecord({})), "message", "asctime"}


def lines(records: Iterable[logging.LogRecord]) -> list[tuple[int, str, dict[str, object]]]:
    """Each record's level, message and own fields."""
    return [(each.levelno, each.getMessage(), _fields(each)) for each in records]


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _ANY}
