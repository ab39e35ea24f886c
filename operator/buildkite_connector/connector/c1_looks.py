"""Looks at C1's side through its REST API: reads what C1 shows, and makes C1 sync where that is due.

`c1_side` decides; no failure here ends or delays anything else of the connector.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from buildkite_connector.connector import c1_side
from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.memberships import Apply
from buildkite_connector.connector.ports import C1Rest
from buildkite_connector.connector.state import ConnectorState, DesiredState
from buildkite_connector.model.failure import Failure, Reason, Remedy, internal_error
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.spec import C1Access, ConnectorKey, namespace_of
from buildkite_connector.model.status import C1State
from buildkite_connector.timing.clock import instant

logger = logging.getLogger(__name__)


class RestClient:
    """One connector's client of C1's REST API. It lasts, with its token, while the access is the same."""

    def __init__(self, name: str, environment: Environment) -> None:
        self._name = name
        self._env = environment
        self._generation: int | None = None
        self._access: C1Access | None = None
        self._rest: C1Rest | None = None

    @property
    def is_open(self) -> bool:
        return self._rest is not None

    async def get(self, desired: DesiredState) -> C1Rest:
        """The access is read when there is none or it is in doubt, and anew for each generation. Raises Failure."""
        if self._rest is None or self._generation != desired.generation:
            await self.reread(desired)
        if self._rest is None:
            raise RuntimeError("an access that was read has a client")
        return self._rest

    async def reread(self, desired: DesiredState) -> bool:
        """Read the access again. Returns whether it is another than before. Raises Failure."""
        if desired.c1_access is None or self._env.c1_rest is None:
            raise RuntimeError("a connector with spec.c1 needs an access to C1's REST API")
        access = await desired.c1_access.read()
        if access == self._access:
            self._generation = desired.generation
            return False
        await self.aclose()
        self._rest = self._env.c1_rest(access)
        self._access, self._generation = access, desired.generation
        return True

    def doubt(self) -> None:
        """The access may have been corrected: it is read again before the next call."""
        self._generation = None

    async def aclose(self) -> None:
        """Nothing is raised: nobody could do anything about it."""
        rest, self._rest, self._access = self._rest, None, None
        if rest is None:
            return
        try:
            await rest.aclose()
        except Exception:
            logger.exception("a client of C1's REST API was not closed", extra={"connector": self._name})


def _doubts(failure: Failure) -> bool:
    """Whether another access may help: another client, or one with another host."""
    return failure.remedy is not Remedy.RETRY or failure.reason is Reason.C1_UNREACHABLE


class C1Looks:
    """Of one connector. `apply` changes its state, `state` reads it; `ask_now` makes its session ask for a task."""

    def __init__(
        self,
        name: str,
        key: ConnectorKey,
        environment: Environment,
        apply: Apply,
        state: Callable[[], ConnectorState],
        ask_now: Callable[[], None],
    ) -> None:
        self.client = RestClient(name, environment)
        self._name = name
        self._key = key
        self._env = environment
        self._apply = apply
        self._state = state
        self._ask_now = ask_now

    async def look(self) -> None:
        """One look, with a slot. It is dropped when nothing asks for it any more by then."""
        async with self._env.c1_rest_slots.slot(namespace_of(self._key)):
            desired = self._state().desired
            if not c1_side.look_due(self._state(), instant(self._env.clock)):
                return
            try:
                await self._ask(desired)
            except Failure as failed:
                failure = failed.without_traceback()
            except Exception as error:
                logger.exception("C1 could not be looked at", extra={"connector": self._name})
                failure = internal_error(error)
            else:
                return
        self._failed(desired, failure)

    async def _ask(self, desired: DesiredState) -> None:
        """Raises Failure when C1 does not show the connector. A client that C1 refuses may just have been replaced."""
        rest = await self.client.get(desired)
        try:
            await self._read(rest, desired)
        except Failure as failure:
            if failure.reason is not Reason.C1_CLIENT_REJECTED or not await self.client.reread(desired):
                raise
            rest = await self.client.get(desired)
            await self._read(rest, desired)
        await self._force(rest, desired)

    async def _read(self, rest: C1Rest, desired: DesiredState) -> None:
        ids = c1_side.connector_ids(self._state())
        if ids is None or desired.generation != self._state().desired.generation:
            return
        shown = await rest.connector(*ids)
        share, failing = self._share(), self._state().c1_side.no_read is not None
        self._apply(lambda state, now: c1_side.looked(state, desired.generation, shown, now, share))
        if failing and self._state().c1_side.no_read is None:
            logger.info("C1 shows the connector again", extra={"connector": self._name})

    async def _force(self, rest: C1Rest, desired: DesiredState) -> None:
        ids = c1_side.connector_ids(self._state())
        sync_id = c1_side.force_due(self._state(), instant(self._env.clock))
        if ids is None or sync_id is None or desired.generation != self._state().desired.generation:
            return
        fields = {"connector": self._name, "sync_id": sync_id}
        try:
            await rest.force_sync(*ids)
        except Failure as failed:
            failure = failed.without_traceback()
            logger.warning("C1 did not accept to sync", extra={**fields, "error": failure.message})
        except Exception as error:
            logger.exception("C1 could not be made to sync", extra=fields)
            failure = internal_error(error)
        else:
            logger.info("C1 was made to sync", extra=fields)
            self._ask_now()
            await self._forced(rest, ids, desired, sync_id)
            return
        share = self._share()
        if _doubts(failure):
            self.client.doubt()
        self._apply(lambda state, now: c1_side.force_failed(state, desired.generation, sync_id, failure, now, share))

    async def _forced(self, rest: C1Rest, ids: tuple[str, str], desired: DesiredState, sync_id: SyncID) -> None:
        """It is recorded together with what C1 shows now, which mostly is that it syncs: one write of the status.

        Whatever becomes of this read, also at a shutdown, it is recorded; the next look comes in two seconds.
        """
        shown, share = C1State(), self._share()
        try:
            with contextlib.suppress(Failure, TimeoutError):
                async with asyncio.timeout(c1_side.SHORTEST_WATCH):
                    shown = await rest.connector(*ids)
        finally:
            self._apply(lambda state, now: c1_side.forced(state, desired.generation, sync_id, shown, now, share))

    def _failed(self, desired: DesiredState, failure: Failure) -> None:
        if self._state().c1_side.no_read is None:
            fields = {"connector": self._name, "reason": failure.reason.value, "error": failure.message}
            logger.warning("C1 does not show the connector", extra=fields)
        share = self._share()
        if _doubts(failure) and failure.reason is not Reason.C1_CLIENT_REJECTED:  # then it was read again just now
            self.client.doubt()
        self._apply(lambda state, now: c1_side.look_failed(state, desired.generation, failure, now, share))

    def _share(self) -> float:
        return self._env.jitter.uniform(0.0, 1.0)
