"""When a session takes the credentials that replaced its own."""

from dataclasses import replace

import pytest

from buildkite_connector.connector.decisions import next_look, session_over
from buildkite_connector.connector.rotation import changes_over
from buildkite_connector.connector.state import (
    C1Identity,
    C1Phase,
    Check,
    ConnectorState,
    DesiredState,
    SessionState,
)
from buildkite_connector.model.spec import C1Spec, ConnectorSpec, Credentials
from buildkite_connector.model.status import ConnectorStatus
from buildkite_connector.timing.clock import Instant
from fakes.c1_creation import WANTED
from fakes.connector_ports import SecretCredentials
from fakes.virtual_time import START

NOW = Instant(START, 1000.0)
DESIRED = DesiredState(1, ConnectorSpec(host_id="default.acme", c1=C1Spec(create=WANTED)), SecretCredentials())
REPLACED = ConnectorState(
    DESIRED,
    0.0,
    ConnectorStatus(),
    check=Check(generation=1, credentials=Credentials("new", "new secret", "token"), read_at=NOW.monotonic),
    c1=SessionState(C1Phase.OPEN, C1Identity("old", "old secret", "default.acme"), greeted=True, settled=True),
)
"""The session has the old credentials, and the Secret new ones."""


def with_session(**changes: object) -> ConnectorState:
    return replace(REPLACED, c1=replace(REPLACED.c1, **changes))  # type: ignore[arg-type]  # checked by the dataclass


def test_replaced_credentials_are_taken_when_the_session_serves_nothing_which_is_looked_at_every_five_seconds() -> None:
    assert session_over(REPLACED)
    assert changes_over(REPLACED)
    assert next_look(REPLACED, NOW) == NOW.monotonic + 5


@pytest.mark.parametrize(
    "state",
    [
        with_session(ended=True),
        with_session(phase=C1Phase.CLOSING),
        with_session(identity=C1Identity("old", "old secret", "another")),
        with_session(identity=C1Identity("old", "old secret", "default.acme", provisions=True)),
        with_session(identity=C1Identity("new", "new secret", "default.acme")),
        replace(REPLACED, check=Check()),
        replace(REPLACED, desired=replace(DESIRED, spec=replace(DESIRED.spec, c1=C1Spec("2app", "2connector")))),
        replace(REPLACED, desired=replace(DESIRED, spec=replace(DESIRED.spec, suspend=True))),
    ],
    ids=["refused", "closing", "host", "provisioning", "the same", "unread", "not created here", "suspended"],
)
def test_nothing_else_waits_for_the_tasks_of_a_session(state: ConnectorState) -> None:
    assert not changes_over(state)
