"""What a process competes for, by its settings and the pod that it runs in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from buildkite_connector.cli.run_operator import Leadership, read_leadership
from buildkite_connector.kubernetes.election import ElectionSettings
from buildkite_connector.timing.clock import SystemClock
from harness.command import invoke

POD = {"POD_NAME": "bkc-1", "POD_NAMESPACE": "ops"}


def read(environment: Mapping[str, str] = POD, **changes: Any) -> ElectionSettings | None:
    settings: dict[str, Any] = {
        "enabled": True,
        "lease": "bkc",
        "namespace": "",
        "times": (15.0, 10.0, 2.0),
        "namespace_file": Path("/does/not/exist"),
    }
    return read_leadership(environment, **{**settings, **changes})


def test_without_election_a_process_acts_at_once() -> None:
    assert read(enabled=False) is None
    leadership = Leadership(None, SystemClock())
    assert (leadership.elected, leadership.is_leader) == (False, True)
    leadership.may_act()


def test_the_identity_is_the_pod_and_never_the_same_twice() -> None:
    first, second = read(), read()
    assert first is not None
    assert second is not None
    assert first.identity.startswith("bkc-1_")
    assert first.identity != second.identity


def test_an_elected_process_does_not_act_before_it_holds_the_lease() -> None:
    leadership = Leadership(read(), SystemClock())
    assert (leadership.elected, leadership.is_leader) == (True, False)
    with pytest.raises(Exception, match="no longer the leader"):
        leadership.may_act()


def test_the_namespace_is_the_setting_or_the_variable_or_the_service_accounts(tmp_path: Path) -> None:
    file = tmp_path / "namespace"
    file.write_text("from-file\n")
    found = [read(POD, namespace="set"), read(POD), read({}, namespace_file=file)]
    assert [each and each.namespace for each in found] == ["set", "ops", "from-file"]


def test_an_unknown_namespace_is_refused_with_what_to_set() -> None:
    with pytest.raises(ValueError, match="BUILDKITE_CONNECTOR_LEASE_NAMESPACE"):
        read({})


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        (
            {"BUILDKITE_CONNECTOR_LEASE_DURATION": "10s", "POD_NAMESPACE": "ops"},
            "must be shorter than the lease duration",
        ),
        ({"BUILDKITE_CONNECTOR_RETRY_PERIOD": "9s", "POD_NAMESPACE": "ops"}, "must be shorter than the renew deadline"),
        ({"BUILDKITE_CONNECTOR_RENEW_DEADLINE": "soon"}, "is not a duration"),
        ({"BUILDKITE_CONNECTOR_SHARDS": "2", "BUILDKITE_CONNECTOR_LEADER_ELECTION": "false"}, "CONNECTOR_SELECTOR or"),
        ({"BUILDKITE_CONNECTOR_LEASE_NAME": "Not A Name"}, "lease name"),
        ({}, "BUILDKITE_CONNECTOR_LEASE_NAMESPACE"),
    ],
)
def test_settings_that_cannot_work_end_the_command_with_a_sentence(environment: dict[str, str], part: str) -> None:
    wanted = {"BUILDKITE_CONNECTOR_LEADER_ELECTION": "true", "POD_NAME": "", "POD_NAMESPACE": "", **environment}
    ended = invoke("operator", **wanted, COLUMNS="400")
    assert ended.code == 2
    assert part in " ".join(ended.err.replace("│", " ").split())
