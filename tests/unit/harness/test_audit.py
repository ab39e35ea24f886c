"""The audit log is read by its user, and every request is counted once, refused ones included."""

import json
from pathlib import Path

from harness.audit import read_requests

OPERATOR = "system:serviceaccount:ops:operator"


def line(verb: str, stage: str, code: int, user: str = OPERATOR) -> str:
    event = {
        "verb": verb,
        "stage": stage,
        "user": {"username": user},
        "requestURI": "/apis/example.com/v1/namespaces/team/widgets",
        "objectRef": {"resource": "widgets", "apiGroup": "example.com", "namespace": "team"},
        "requestReceivedTimestamp": "2026-11-24T12:00:00.000000Z",
        "responseStatus": {"code": code},
    }
    return json.dumps(event) + "\n"


def test_a_watch_counts_when_it_begins_and_when_it_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(
        line("watch", "ResponseStarted", 200)
        + line("watch", "ResponseComplete", 200)
        + line("watch", "ResponseComplete", 403)
        + line("watch", "ResponseComplete", 403, "system:serviceaccount:ops:other")
        + line("list", "ResponseComplete", 403)
    )
    found = [(each.kind, each.group, each.namespace, each.status) for each in read_requests(log, OPERATOR)]
    assert found == [
        ("watch widgets", "example.com", "team", 200),
        ("watch widgets", "example.com", "team", 403),
        ("list widgets", "example.com", "team", 403),
    ]
