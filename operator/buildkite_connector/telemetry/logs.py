"""Logs: events with fields, as JSON in production and as lines for people.

Foreign libraries' DEBUG records can hold whole answers (the Kubernetes client's: Secrets): below INFO they are dropped.
"""

import logging
import sys
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


def configure_logs(form: LogFormat, level: LogLevel) -> None:
    """Set up the process's logs, on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if form is LogFormat.TEXT else _JsonFormatter())
    handler.addFilter(_drop_foreign_detail)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _drop_foreign_detail(record: logging.LogRecord) -> bool:
    """Whether a record may be shown: ours at any level, others' from INFO (kopf's from WARNING) on."""
    if record.name.startswith("buildkite_connector"):
        return True
    return record.levelno >= (logging.WARNING if record.name.startswith(("kopf", "httpx")) else logging.INFO)
