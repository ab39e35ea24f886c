"""That the table is kubectl's own is shown in tests/e2e/test_control_plane.py; here, the rules one by one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harness.kubectl_table import age, cell, find, render_table
from simulators.kubernetes.client import WIDGETS, widget

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ITEM: dict[str, Any] = {
    "metadata": {"labels": {"a.b/c": "dotted"}},
    "status": {
        "count": 0,
        "nothing": None,
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "Synced", "status": "False"}],
    },
}


def test_a_table_has_the_declared_columns_each_as_wide_as_its_widest_text() -> None:
    first = widget({"name": "first", "creationTimestamp": "2026-03-01T11:55:00Z"}, spec={"size": "small"})
    second = widget(
        {"name": "a-longer-name", "creationTimestamp": "2026-02-19T12:00:00Z"},
        spec={"size": "enormous", "open": True},
        status={
            "count": 10_000,
            "lastSync": "2026-03-01T11:59:30Z",
            "conditions": [{"type": "Ready", "status": "True", "message": "all well"}],
        },
    )
    assert render_table(WIDGETS, [first, second], NOW) == (
        "NAME            SIZE       READY   COUNT   LAST SYNC   OPEN   AGE\n"
        "first           small                                         5m\n"
        "a-longer-name   enormous   True    10000   30s         true   10d\n"
    )
    wide = render_table(WIDGETS, [first, second], NOW, wide=True).splitlines()
    assert [line.rstrip().split()[-1] for line in wide] == ["MESSAGE", "5m", "well"]


def test_a_kind_without_declared_columns_shows_its_age() -> None:
    version = {"storage": True, "name": "v1"}
    item = widget({"name": "w", "creationTimestamp": "2026-03-01T11:59:00Z"})
    assert render_table({"spec": {"versions": [version]}}, [item], NOW) == "NAME   AGE\nw      60s\n"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".status.count", [0]),
        (".status.nothing", [None]),
        (".status.absent.deeper", []),
        ('.status.conditions[?(@.type=="Synced")].status', ["False"]),
        (".status.conditions[?(@.type=='Absent')].status", []),
        (".status.conditions[1].type", ["Synced"]),
        (".status.conditions[2].type", []),
        (r".metadata.labels.a\.b/c", ["dotted"]),
        (".metadata.labels['a.b/c']", ["dotted"]),
    ],
)
def test_a_path_finds_what_it_names(path: str, found: list[Any]) -> None:
    assert find(path, ITEM) == found


def test_a_path_that_is_not_simple_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a step that this table does not know: \[\*\].type"):
        find(".status.conditions[*].type", ITEM)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("string", "text", "text"),
        ("string", "first line\nsecond", "first line..."),
        ("string", True, "true"),
        ("string", 3, "3"),
        ("string", ["a", {"b": 1}], '["a",{"b":1}]'),
        ("integer", 3, "3"),
        ("integer", 3.0, "3"),
        ("integer", "3", ""),
        ("integer", True, ""),
        ("number", 3, "3"),
        ("number", 3.5, "3.5"),
        ("boolean", False, "false"),
        ("boolean", "false", ""),
        ("date", "2026-03-01T11:58:00+00:00", "2m"),
        ("date", "yesterday", "<invalid>"),
        ("date", 3, ""),
    ],
)
def test_a_cell_shows_a_value_of_its_columns_type(kind: str, value: Any, text: str) -> None:
    assert cell({"type": kind, "jsonPath": ".spec.value"}, {"spec": {"value": value}}, NOW) == text


@pytest.mark.parametrize(
    ("since", "text"),
    [
        (timedelta(seconds=-2), "<invalid>"),
        (timedelta(seconds=-1), "0s"),
        (timedelta(seconds=119), "119s"),
        (timedelta(minutes=2), "2m"),
        (timedelta(minutes=9, seconds=59), "9m59s"),
        (timedelta(minutes=179, seconds=59), "179m"),
        (timedelta(hours=3), "3h"),
        (timedelta(hours=7, minutes=59), "7h59m"),
        (timedelta(hours=47, minutes=59), "47h"),
        (timedelta(days=2), "2d"),
        (timedelta(days=7, hours=23), "7d23h"),
        (timedelta(days=8, hours=23), "8d"),
        (timedelta(days=729), "729d"),
        (timedelta(days=730), "2y"),
        (timedelta(days=3 * 365 + 5), "3y5d"),
        (timedelta(days=8 * 365 + 5), "8y"),
    ],
)
def test_an_age_gets_coarser_as_it_grows(since: timedelta, text: str) -> None:
    assert age(since) == text
