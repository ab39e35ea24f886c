"""How the simulated C1 behaves while nothing goes wrong. What goes wrong is `faults`."""

from dataclasses import dataclass, field
from enum import StrEnum

DEFAULT_HEARTBEAT = 30.0
"""Seconds between heartbeats when C1 names none (facts: 0 means 30 s)."""


class ForcedAmid(StrEnum):
    """What force_sync answers while a sync of the connector is queued, running or being taken in."""

    REFUSED = "refused"
    FOLDED = "folded"
    """Accepted; nothing comes of it beyond the sync that is on."""
    QUEUED = "queued"
    """Accepted; another sync is queued when that one has ended."""


def _lifetimes() -> dict[str, int]:
    return {"pcc": 600, "spc": 3600, "wfe": 1800}


@dataclass(slots=True)
class Policy:
    """Changed on a running simulator by assigning to a field; times in seconds.

    `long_poll`: how long GetTask waits for a task before it answers that there is none.
    `heartbeat_grace`: a task is overdue after this many heartbeat intervals without a heartbeat.
    `sync_on_hello`: a host's first Hello makes a full sync due; `sync_every`: and so does each such period.
    `retry_failed`: a task that failed and may be retried comes again, under a new id.
    `requeue_lost`: an overdue task is handed out again, under its own id.
    `forget_uploads`: what came under such a task before counts no more.
    `change_lease`: a grant or revoke, which has no heartbeats, is lost when it has not ended for so long.
    `sync_after_change`: a grant or revoke that succeeded makes a full sync due.
    `revoke_replaced`: C1 sends the revoke of a grant that another one replaced all the same.
    `tells_time`: the date of the token endpoint's answers is by the simulator's clock, else the machine's.
    `validate`: an upload that C1's ingestion would refuse is refused.

    Of the REST API: `token_lifetimes` by the client IDs' suffixes other than `/ccc`; `rest_latency` of each call;
    `force_sync_latency` from its answer to its task; `running_when_queued`: a sync is RUNNING before it is handed out;
    `keeps_completed`: while RUNNING, completedAt is that of the sync before, else null;
    `ingest_seconds` from a success of FinishTask to DONE; `shows_disabled`: DISABLED while paused;
    `forced_while_paused`: accepted in vain, else refused; `pause_on_drop`: when half of the resources are gone;
    `name_from_hello`: app and connector take the name of the first Hello; `credential_lifetime`: None is forever;
    `shows_deleted`: what was deleted is still read, with its deletedAt, else 404.
    """

    next_poll: float = 0.2
    next_heartbeat: float = DEFAULT_HEARTBEAT
    long_poll: float = 0.0
    heartbeat_grace: float = 3.0
    token_lifetime: int = 3600
    sync_on_hello: bool = False
    sync_every: float | None = None
    retry_failed: bool = False
    requeue_lost: bool = False
    forget_uploads: bool = False
    change_lease: float = 60.0
    sync_after_change: bool = False
    revoke_replaced: bool = False
    tells_time: bool = False
    validate: bool = True
    token_lifetimes: dict[str, int] = field(default_factory=_lifetimes)
    rest_latency: float = 0.0
    force_sync_latency: float = 0.0
    forced_amid: ForcedAmid = ForcedAmid.REFUSED
    forced_while_paused: bool = False
    running_when_queued: bool = True
    keeps_completed: bool = False
    ingest_seconds: float = 0.2
    shows_disabled: bool = True
    pause_on_drop: bool = False
    name_from_hello: bool = True
    credential_lifetime: float | None = None
    shows_deleted: bool = False

    @property
    def heartbeat_interval(self) -> float:
        """What a connector makes of `next_heartbeat`: 0 is the default, the rest is clamped to 1–300."""
        return min(max(self.next_heartbeat, 1.0), 300.0) if self.next_heartbeat else DEFAULT_HEARTBEAT
