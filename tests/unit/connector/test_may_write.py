"""Whether a write to Buildkite may be sent at this moment: asked right before each, whatever the session does."""

from dataclasses import replace

import pytest

from buildkite_connector.connector.membership_transitions import may_write
from buildkite_connector.connector.state import ConnectorState
from buildkite_connector.model.spec import Provisioning
from fakes.connector_states import DOWN, REJECTED, checked, new, ready

ON = Provisioning(enabled=True)


def test_it_may_while_enabled_and_checked() -> None:
    assert may_write(ready(provisioning=ON))


@pytest.mark.parametrize(
    "state",
    [
        ready(),
        ready(provisioning=Provisioning()),
        checked(new(provisioning=ON, suspend=True)),
        new(provisioning=ON),
        checked(new(provisioning=ON), failure=REJECTED),
    ],
    ids=["default", "off", "suspended", "unchecked", "token rejected"],
)
def test_it_may_not_otherwise(state: ConnectorState) -> None:
    assert not may_write(state)


def test_a_spec_that_cannot_be_read_or_a_token_that_cannot_write_stops_it() -> None:
    state = ready(provisioning=ON)
    assert not may_write(replace(state, desired=replace(state.desired, spec_error=DOWN)))
    assert not may_write(replace(state, check=replace(state.check, write_failure=REJECTED)))
