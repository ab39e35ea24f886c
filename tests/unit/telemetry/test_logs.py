"""Logs: events with fields, and nothing of what foreign libraries tell in detail."""

import json
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from buildkite_connector.telemetry.logs import LogFormat, LogLevel, configure_logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """The root logger as it was: pytest has handlers of its own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield
    root.handlers, root.level = handlers, level


def test_json_records_carry_their_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogFormat.JSON, LogLevel.INFO)
    logging.getLogger("buildkite_connector.connector.connector").info(
        "sync succeeded", extra={"connector": "a.b", "accounts": 3}
    )
    record = json.loads(capsys.readouterr().err)
    assert record["message"] == "sync succeeded"
    assert record["level"] == "INFO"
    assert (record["connector"], record["accounts"]) == ("a.b", 3)


def test_lines_for_people_carry_them_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogFormat.TEXT, LogLevel.INFO)
    logging.getLogger("buildkite_connector.connector.connector").warning(
        "sync failed", extra={"reason": "TokenRejected"}
    )
    assert capsys.readouterr().err.rstrip().endswith("WARNING sync failed reason=TokenRejected")


@pytest.mark.parametrize("form", LogFormat)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
@pytest.mark.parametrize(
    ("created", "shown"),
    [
        (1795543200.1234, "2026-11-24T18:00:00.123Z"),
        (1795543200.0, "2026-11-24T18:00:00.000Z"),
        (1795543199.9999, "2026-11-24T17:59:59.999Z"),
    ],
)
def test_times_are_in_rfc_3339_with_milliseconds_in_utc_wherever_it_runs(
    form: LogFormat,
    zone: str,
    created: float,
    shown: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        configure_logs(form, LogLevel.INFO)
        record = logging.makeLogRecord(
            {
                "name": "buildkite_connector",
                "levelno": logging.INFO,
                "levelname": "INFO",
                "msg": "m",
                "created": created,
            }
        )
        logging.getLogger().handle(record)
    finally:
        monkeypatch.undo()
        time.tzset()
    line = capsys.readouterr().err
    assert (json.loads(line)["time"] if form is LogFormat.JSON else line.split(" ")[0]) == shown


def test_a_traceback_follows_the_line_with_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogFormat.TEXT, LogLevel.INFO)
    logging.getLogger("buildkite_connector").error(
        "failed", exc_info=ZeroDivisionError("x"), extra={"connector": "a.b"}
    )
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("failed connector=a.b")
    assert second == "ZeroDivisionError: x"


@pytest.mark.parametrize("name", ["kubernetes.aio.client.rest", "httpcore.http11", "kopf.objects", "aiohttp.client"])
def test_what_others_say_in_detail_is_dropped_at_any_level(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogFormat.JSON, LogLevel.DEBUG)
    logging.getLogger(name).debug("response body: %s", "c2VjcmV0")
    assert capsys.readouterr().err == ""


def test_our_own_detail_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogFormat.TEXT, LogLevel.DEBUG)
    logging.getLogger("buildkite_connector.c1").debug("polled")
    assert "polled" in capsys.readouterr().err


def test_records_go_to_each_named_place_and_to_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogFormat.JSON, LogLevel.INFO, paths=(str(tmp_path / "a.log"), str(tmp_path / "b.log"), "stdout"))
    logging.getLogger("buildkite_connector").info("told")
    for handler in logging.getLogger().handlers:
        handler.close()
    shown = capsys.readouterr()
    assert shown.err == ""
    for text in (shown.out, (tmp_path / "a.log").read_text(), (tmp_path / "b.log").read_text()):
        assert json.loads(text)["message"] == "told"


@pytest.mark.parametrize(("minutes", "shown"), [(1, ["debug", "info"]), (-1, ["info"])])
def test_debug_records_end_at_their_time(minutes: int, shown: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    until = datetime.now(UTC) + timedelta(minutes=minutes)
    configure_logs(LogFormat.JSON, LogLevel.DEBUG, debug_until=until)
    logger = logging.getLogger("buildkite_connector")
    logger.debug("debug")
    logger.info("info")
    assert [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()] == shown
