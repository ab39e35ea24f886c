"""What a session with C1 leaves to the next one: pure transitions."""

from dataclasses import replace
from datetime import UTC, datetime

from buildkite_connector.connector.credential_transitions import c1_opened
from buildkite_connector.connector.state import C1Identity, C1Session, DesiredState
from buildkite_connector.connector.transitions import begin
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.spec import ConnectorSpec
from buildkite_connector.timing.clock import Instant
from fakes.connector_world import SecretCredentials

NOW = Instant(datetime(2026, 3, 2, 9, 0, tzinfo=UTC), 100.0)
OLD, NEW = C1Identity("id", "old", "default.acme"), C1Identity("id", "new", "default.acme")
UNREACHABLE = Failure(Reason.C1_UNREACHABLE, "No connection to C1.")


def test_a_session_of_another_identity_starts_without_the_old_ones_failure() -> None:
    desired = DesiredState(1, ConnectorSpec(host_id="default.acme"), SecretCredentials())
    state = replace(begin(desired, None, NOW), c1=C1Session(identity=OLD, failure=UNREACHABLE))
    assert c1_opened(state, NEW, NOW).c1.failure is None
    assert c1_opened(state, OLD, NOW).c1.failure is UNREACHABLE
