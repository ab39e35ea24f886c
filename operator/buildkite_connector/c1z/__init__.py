"""The snapshot adapter: writes a Directory to a `.c1z` file, reads it back, and keeps files until they are delivered.

`writer` writes the file, `reader` reads it, `store` keeps the newest of each connector; `messages` has C1's messages
and the contract of ids, `from_messages` the way back, `texts` the limits of what people write, `archive` the file
around the database.
"""

from buildkite_connector.c1z.compare import (
    Changed,
    Changes,
    Difference,
    NamedGrant,
    compare,
)
from buildkite_connector.c1z.expand import ExpansionTooLarge
from buildkite_connector.c1z.reader import Snapshot, read_snapshot, read_sync_run
from buildkite_connector.c1z.store import SnapshotStore
from buildkite_connector.c1z.sync_run import StoredSync, new_sync_id
from buildkite_connector.c1z.writer import WriteStopped, write_snapshot

__all__ = [
    "Changed",
    "Changes",
    "Difference",
    "ExpansionTooLarge",
    "NamedGrant",
    "Snapshot",
    "SnapshotStore",
    "StoredSync",
    "WriteStopped",
    "compare",
    "new_sync_id",
    "read_snapshot",
    "read_sync_run",
    "write_snapshot",
]
