"""Logs: events with fields, as JSON in production and as lines for people.

DEBUG records of other libraries are dropped: they can hold whole responses, such as Secrets from the Kubernetes client.
Nothing is redacted here: text from servers passes through `model.redactor` where a Failure is made.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum

from pythonjsonlogger.json import JsonFormatter

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogFormat(StrEnum):
    JSON = "json"
    TEXT = "text"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


LEVELS = {**{each.value: each for each in LogLevel}, "warn": LogLevel.WARNING}
"""Levels by the names that settings take, in lower case; `warn` is the vendor's."""
FORMATS = {**{each.value: each for each in LogFormat}, "console": LogFormat.TEXT}
"""Formats by the names that settings take, in lower case; `console` is the vendor's."""


class _UtcTime(logging.Formatter):
    """Times in RFC 3339, UTC, with milliseconds: `2026-11-24T18:00:00.123Z`."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002
        moment = datetime.fromtimestamp(record.created, UTC)
        return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


class TextFormatter(_UtcTime):
    """`time LEVEL message key=value …`"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        fields = [f"{name}={value}" for name, value in vars(record).items() if name not in _PLAIN]
        if not fields:
            return line
        first, *rest = line.split("\n", 1)
        return "\n".join([f"{first} {' '.join(fields)}", *rest])


class _JsonFormatter(_UtcTime, JsonFormatter):
    """One JSON object a record: `time`, `level`, `logger`, `message` and the record's fields."""

    def __init__(self) -> None:
        JsonFormatter.__init__(
            self,
            "{asctime}{levelname}{name}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )


def configure_logs(
    form: LogFormat, level: LogLevel, *, paths: Sequence[str] = (), debug_until: datetime | None = None
) -> None:
    """Set up the process's logs. `paths`: files, `stderr` or `stdout`; standard error where none is named.

    `debug_until`: from then on nothing below INFO is logged. Raises OSError for a file that cannot be written.
    """
    formatter = TextFormatter() if form is LogFormat.TEXT else _JsonFormatter()
    handlers = [_handler(path) for path in paths or ("stderr",)]
    for handler in handlers:
        handler.setFormatter(formatter)
        handler.addFilter(_drop_foreign_detail)
        if debug_until is not None:
            handler.addFilter(_until(debug_until))
    logging.basicConfig(level=level.upper(), handlers=handlers, force=True)


def _handler(path: str) -> logging.Handler:
    streams = {"stderr": sys.stderr, "stdout": sys.stdout}
    return logging.StreamHandler(streams[path]) if path in streams else logging.FileHandler(path, encoding="utf-8")


def _until(end: datetime) -> Callable[[logging.LogRecord], bool]:
    return lambda record: record.levelno > logging.DEBUG or record.created < end.timestamp()


def _drop_foreign_detail(record: logging.LogRecord) -> bool:
    """Whether to keep a record: ours at any level, others' from INFO on, those of kopf and httpx from WARNING on."""
    if record.name.startswith("buildkite_connector"):
        return True
    return record.levelno >= (logging.WARNING if record.name.startswith(("kopf", "httpx")) else logging.INFO)
