"""What a connector can be told to do: the words between `decisions` and `connector`."""

from dataclasses import dataclass

from buildkite_connector.connector.state import C1Identity
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.scope import SyncScope
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.model.tasks import TaskID


@dataclass(frozen=True, slots=True)
class CheckCredentials:
    """Read the Secret; ask Buildkite when the Secret changed, or in any case (`full`)."""

    full: bool


@dataclass(frozen=True, slots=True)
class OpenC1:
    """Open the session with C1: Hello, then GetTask in a loop."""

    identity: C1Identity


@dataclass(frozen=True, slots=True)
class CloseC1:
    """End the session with C1; its tasks go back."""


@dataclass(frozen=True, slots=True)
class QueueSync:
    """Wait for a slot, then sync."""


@dataclass(frozen=True, slots=True)
class CancelSync:
    """End the sync under way; nothing of it is kept."""

    why: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The staged snapshot serves this task."""

    task: TaskID
    snapshot: StagedSnapshot
    scope: SyncScope


@dataclass(frozen=True, slots=True)
class Refuse:
    """There is no snapshot for this task."""

    task: TaskID
    failure: Failure


Action = CheckCredentials | OpenC1 | CloseC1 | QueueSync | CancelSync | Answer | Refuse
