"""The simulated C1's apps and connectors, and what their syncs are at: queued by REST, carried out by the session.

Decides without I/O. A connector's sessions are those of its credentials' clients.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from simulators.c1.apps import BATON, App, Connector, Credential, Paused, SyncState
from simulators.c1.journal import Journal
from simulators.c1.ksuid import ksuid
from simulators.c1.policy import Policy
from simulators.c1.tasks import CallLater, Ledger, State, TaskRecord, Who
from simulators.c1.token import Authority, Client
from simulators.c1.uploads import Uploads


class Connectors:
    """`apps`, `connectors` and `credentials` by their IDs, deleted ones too, in the order of their creation."""

    def __init__(
        self,
        *,
        policy: Policy,
        journal: Journal,
        authority: Authority,
        ledger: Ledger,
        uploads: Uploads,
        call_later: CallLater,
        now: Callable[[], datetime],
    ) -> None:
        self.apps: dict[str, App] = {}
        self.connectors: dict[str, Connector] = {}
        self.credentials: dict[str, Credential] = {}
        self._policy = policy
        self._journal = journal
        self._authority = authority
        self._ledger = ledger
        self._uploads = uploads
        self._call_later = call_later
        self._now = now
        self._pending: dict[str, _Pending] = {}
        self._due: set[asyncio.TimerHandle] = set()
        self._again: set[str] = set()
        self._bad_syncs: dict[str, str] = {}
        self._resources: dict[str, int] = {}
        ledger.watch, ledger.greet = self._moved, self._greeted

    def close(self) -> None:
        """Nothing is queued or ends by itself any more."""
        for timer in (*self._due, *(pending.timer for pending in self._pending.values())):
            timer.cancel()

    def add_app(self, display_name: str, **fields: Any) -> App:
        now = self._now()
        app = App(ksuid(), now, now, display_name, **fields)
        self.apps[app.id] = app
        self._journal.announce()
        return app

    def add(self, app: App, *, catalog_id: str = BATON, **fields: Any) -> Connector:
        now = self._now()
        connector = Connector(app.id, ksuid(), now, now, catalog_id, **fields)
        self.connectors[connector.id] = connector
        self._journal.announce()
        return connector

    def add_credential(self, connector: Connector, client: Client) -> Credential:
        """Make this client one of the connector's."""
        now, life = self._now(), self._policy.credential_lifetime
        expires = now + timedelta(seconds=life) if life is not None else None
        credential = Credential(ksuid(), connector.app_id, connector.id, client, now, expires)
        if expires is not None:
            self._authority.expires[client.client_id] = expires
        self.credentials[credential.id] = credential
        connector.clients.add(client.client_id)
        self._journal.announce()
        return credential

    def revoke(self, credential: Credential) -> None:
        credential.deleted_at = self._now()
        self.connectors[credential.connector_id].clients.discard(credential.client.client_id)
        self._authority.refuse(credential.client.client_id)
        self._journal.announce()

    def delete(self, connector: Connector) -> None:
        """Its credentials go with it."""
        connector.deleted_at = self._now()
        for credential in self.credentials.values():
            if credential.connector_id == connector.id and credential.deleted_at is None:
                self.revoke(credential)

    def delete_app(self, app: App) -> None:
        """Its connectors go with it."""
        app.deleted_at = self._now()
        for connector in self.of_app(app.id):
            self.delete(connector)

    def of_app(self, app_id: str) -> list[Connector]:
        """Those that are there, oldest first."""
        return [each for each in self.connectors.values() if each.app_id == app_id and each.deleted_at is None]

    def is_busy(self, connector: Connector) -> bool:
        """Whether a sync is queued, running or being taken in."""
        return connector.id in self._pending or bool(self._open(connector))

    def _open(self, connector: Connector) -> list[TaskRecord]:
        """Its syncs that have not ended at the session."""
        return [
            record
            for record in self._ledger.tasks.values()
            if record.clients is connector.clients and record.kind == "sync_full" and record.state is not State.FINISHED
        ]

    def sync(self, connector: Connector) -> None:
        """Queue a full sync, after C1's latency; while one is on, once that has ended."""
        if self.is_busy(connector):
            self._again.add(connector.id)
            return

        def queue() -> None:
            self._due.discard(timer)
            if connector.paused is None and connector.deleted_at is None and not self.is_busy(connector):
                self._ledger.add(clients=connector.clients)

        timer = self._call_later(self._policy.force_sync_latency, queue)
        self._due.add(timer)

    def pause(
        self,
        connector: Connector,
        category: str = "PAUSED",
        reason: str = "Paused by an administrator.",
        *,
        can_resume: bool = True,
    ) -> None:
        """No task is handed out to it until it is resumed; those that are handed out go on."""
        connector.paused = Paused(self._now(), category, reason, can_resume)
        self._ledger.held_back.append(connector.clients)
        self._journal.announce()

    def resume(self, connector: Connector) -> None:
        """Undo `pause`, and queue a sync unless there is one."""
        connector.paused = None
        self._ledger.held_back[:] = [each for each in self._ledger.held_back if each is not connector.clients]
        if not self.is_busy(connector):
            self.sync(connector)
        for record in self._open(connector):
            self._moved(record)
        self._journal.announce()

    def fail_sync(self, connector: Connector, error: str) -> None:
        """The connector's next sync that succeeds by the session fails in C1, with this as its last error."""
        self._bad_syncs[connector.id] = error

    def expect_resources(self, connector: Connector, count: int) -> None:
        """Let its last sync have had so many resources, for `pause_on_drop`."""
        self._resources[connector.id] = count

    def set_state(self, connector: Connector, state: SyncState, *, last_error: str = "") -> None:
        """Let C1 say this of the connector's sync, whatever became of its tasks."""
        connector.state, connector.last_error, connector.changed_at = state, last_error, self._now()
        self._journal.announce()

    def _owner(self, record: TaskRecord) -> Connector | None:
        """The connector whose sync this is. Once that is known, any client of the connector's may be handed it."""
        client_id = record.holder.client_id if record.holder else record.client_id
        for connector in self.connectors.values():
            if record.clients is connector.clients or (client_id is not None and client_id in connector.clients):
                record.clients, record.client_id = connector.clients, None
                return connector
        return None

    def _moved(self, record: TaskRecord) -> None:
        """A task was added, handed out or ended."""
        connector = self._owner(record) if record.kind == "sync_full" else None
        if connector is None:
            return
        if (pending := self._pending.get(connector.id)) is not None:
            pending.timer.cancel()
            self._end(connector)
        if record.state is State.FINISHED:
            wait = self._policy.ingest_seconds if record.outcome and record.outcome.success else 0.0
            timer = self._call_later(wait, lambda: self._end(connector))
            self._pending[connector.id] = _Pending(record, timer)
        elif record.state is State.RUNNING or (self._policy.running_when_queued and connector.paused is None):
            if connector.state is not SyncState.RUNNING:
                connector.state, connector.started_at = SyncState.RUNNING, self._now()
                connector.last_error = ""
                if not self._policy.keeps_completed:
                    connector.completed_at = None
            connector.changed_at = self._now()

    def _end(self, connector: Connector) -> None:
        """C1 has taken in what the sync delivered, or noted why there is nothing."""
        record = self._pending.pop(connector.id).record
        assert record.outcome is not None
        error = "" if record.outcome.success else record.outcome.message or "the sync failed"
        if not error:
            error = self._bad_syncs.pop(connector.id, "") or self._drop_of_data(connector, record)
        connector.state = SyncState.ERROR if error else SyncState.DONE
        connector.last_error = error
        connector.completed_at = connector.changed_at = self._now()
        if connector.id in self._again:
            self._again.discard(connector.id)
            self.sync(connector)
        for other in self._open(connector):
            self._moved(other)
        self._journal.announce()

    def _drop_of_data(self, connector: Connector, record: TaskRecord) -> str:
        """Half of the data is gone: the connector is paused, and this is why."""
        reads = [each.read for each in self._uploads.received if each.task_id == record.id and each.read is not None]
        if not reads:
            return ""
        resources = sum(reads[-1].resources.values())
        before = self._resources.get(connector.id, 0)
        if self._policy.pause_on_drop and resources * 2 <= before:
            told = f"The sync has {resources} resources, the one before had {before}."
            self.pause(connector, "DATA_DROP", told)
            return told
        self._resources[connector.id] = resources
        return ""

    def _greeted(self, who: Who, display_name: str) -> None:
        """A host's first Hello: its connector and that one's app take the name that it gives itself."""
        for connector in self.connectors.values():
            if who.client_id in connector.clients and self._policy.name_from_hello:
                connector.display_name = self.apps[connector.app_id].display_name = display_name


class _Pending:
    """A sync that ended at the session and not yet in C1."""

    def __init__(self, record: TaskRecord, timer: asyncio.TimerHandle) -> None:
        self.record = record
        self.timer = timer
