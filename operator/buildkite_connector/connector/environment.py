"""What the connectors of one process share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from buildkite_connector.connector.host_ids import HostIDs
from buildkite_connector.connector.ports import BuildkiteClients, C1Clients, SnapshotStore
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.model.observer import SILENT, Observer
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.tasks.session import MOST_TASKS
from buildkite_connector.timing.clock import Clock
from buildkite_connector.timing.slots import Slots


@dataclass(frozen=True, slots=True)
class Environment:
    """`sync_slots`, `check_slots` and `hello_slots` bound how many syncs, checks and Hellos run at once.

    `most_tasks`: of C1, that one connector works on at once.
    """

    buildkite: BuildkiteClients
    c1: C1Clients
    store: SnapshotStore
    clock: Clock
    jitter: Jitter
    sync_slots: Slots
    check_slots: Slots
    hello_slots: Slots
    new_sync_id: Callable[[datetime], SyncID]
    host_ids: HostIDs = field(default_factory=HostIDs)
    observer: Observer = SILENT
    most_tasks: int = MOST_TASKS
