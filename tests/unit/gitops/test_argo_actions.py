"""Argo CD's buttons on a connector: when each can be pressed, and what it changes."""

import re
from typing import Any

import pytest
from lupa import lua51

from buildkite_connector.kubernetes.schema import ACCEPT_SHRINK, SYNC_REQUESTED_AT
from fakes.connector_objects import OBSERVED
from unit.gitops.argo import DEFINITIONS, DISCOVERY, act, run

BY_NAME = {each.name: each.object for each in OBSERVED}


def enabled(resource: dict[str, Any]) -> set[str]:
    return {name for name, action in run(DISCOVERY, resource).items() if not action["disabled"]}


@pytest.mark.parametrize("name", BY_NAME)
def test_which_buttons_can_be_pressed(name: str) -> None:
    expected = {"resume"} if name == "suspended" else {"sync", "suspend"}
    assert enabled(BY_NAME[name]) == expected | ({"accept-shrink"} if name == "snapshot held" else set())


def test_every_button_has_an_action_and_the_other_way_round() -> None:
    assert set(run(DISCOVERY, BY_NAME["new"])) == set(DEFINITIONS)


@pytest.mark.parametrize("before", [None, {"note": "kept", SYNC_REQUESTED_AT: "2026-01-01T00:00:00Z"}])
def test_sync_asks_for_one_and_changes_nothing_else(before: dict[str, str] | None) -> None:
    resource = BY_NAME["delivered"]
    if before is not None:
        resource = {**resource, "metadata": {**resource["metadata"], "annotations": before}}
    changed = act("sync", resource)
    asked = changed["metadata"]["annotations"].pop(SYNC_REQUESTED_AT)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", asked)
    kept = {key: value for key, value in (before or {}).items() if key != SYNC_REQUESTED_AT}
    assert changed == {**resource, "metadata": {**resource["metadata"], "annotations": kept}}


def test_suspend_and_resume_change_that_field_alone() -> None:
    resource = BY_NAME["delivered"]
    suspended = act("suspend", resource)
    assert suspended == {**resource, "spec": {**resource["spec"], "suspend": True}}
    assert act("resume", suspended) == resource


def test_accept_shrink_lets_the_snapshot_go_that_is_held_now() -> None:
    held = BY_NAME["snapshot held"]
    changed = act("accept-shrink", held)
    assert changed["metadata"]["annotations"] == {ACCEPT_SHRINK: "sync2"}
    assert f"{ACCEPT_SHRINK}=sync2" in next(
        each["message"] for each in held["status"]["conditions"] if each["type"] == "Delivered"
    )


def test_accept_shrink_of_nothing_is_an_error() -> None:
    with pytest.raises(lua51.LuaError, match="no snapshot"):
        act("accept-shrink", BY_NAME["new"])
