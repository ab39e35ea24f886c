"""How the simulated C1 behaves while nothing goes wrong. What goes wrong is `faults`."""

from dataclasses import dataclass

DEFAULT_HEARTBEAT = 30.0
"""Seconds between heartbeats when C1 names none (facts: 0 means 30 s)."""


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
    `validate`: an upload that C1's ingestion would refuse is refused.
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
    validate: bool = True

    @property
    def heartbeat_interval(self) -> float:
        """What a connector makes of `next_heartbeat`: 0 is the default, the rest is clamped to 1–300."""
        return min(max(self.next_heartbeat, 1.0), 300.0) if self.next_heartbeat else DEFAULT_HEARTBEAT
