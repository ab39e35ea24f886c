"""Creates a connector in C1 with its credentials, and replaces these before they expire (`spec.c1.create`).

Read `CreationRun.run` from top to bottom. C1's calls to create something cannot be repeated safely: an answer that is
lost may hide success. So the status names each call before it is made, and holds its result before the next one. What
an interrupted run created is found again, by a marker in C1 or by what the operator's own Secret says.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from buildkite_connector.connector.c1_looks import RestClient
from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.memberships import Apply
from buildkite_connector.connector.ports import C1Rest, Kept, NewCredential, OwnSecret
from buildkite_connector.connector.rotation import (
    client_in_use,
    creation_due,
    creation_ended,
    recorded,
    rotates_at,
    same_progress,
)
from buildkite_connector.connector.state import ConnectorState, DesiredState
from buildkite_connector.connector.status_writer import StatusWriter
from buildkite_connector.model.failure import Failure, Reason, Remedy, internal_error
from buildkite_connector.model.jitter import Jitter
from buildkite_connector.model.spec import C1Creation, ConnectorKey, Credentials, namespace_of
from buildkite_connector.model.status import C1CredentialRecord, C1Record, C1Step
from buildkite_connector.tasks.session import HELLO_SECONDS
from buildkite_connector.timing.clock import BETWEEN_REPORTS, Clock, instant

logger = logging.getLogger(__name__)
T = TypeVar("T")

FRESH_SECONDS = 20.0
"""A call is made at most so long after the moment that the status names."""
CALL_SECONDS = 30.0
"""How long a call that creates something may take."""
SETTLE_SECONDS = 120.0
"""How long after the moment in the status C1 may still carry the call out: 70 s after this side gave it up."""
PROOF_SECONDS, PROOF_APART = 60.0, 5.0
"""How long, and how often, C1 is greeted with a new credential that it does not accept yet."""
DEFAULT_NAME = "Buildkite"
MANAGED_BY = "buildkite-connector"
"""What is created in C1 is marked with this, and the resource's namespace, name and UID."""
LONGEST_PLACE = 190
"""Characters of namespace and name in the marker: C1 takes at most 256 in all."""
PROVEN_APART = 6 * 3600.0
"""Seconds after a credential that could not be used until the next one is created, unless a person asks for it."""
ANNOUNCEMENTS = 3
"""How often a call is announced in the status, while each write takes too long."""
_USELESS = frozenset({Reason.CLIENT_ID_INVALID, Reason.CLIENT_SECRET_INVALID})
"""What is wrong with a credential that this side can never use."""
_REFUSED = frozenset({Reason.C1_CONFLICT, Reason.C1_REQUEST_REJECTED, Reason.CLOCK_WRONG})
"""After these failures nothing was created, and nothing where a person must act; any other may hide success."""
_SHOWS_NOTHING = frozenset({Reason.C1_NOT_FOUND, Reason.C1_ACCESS_DENIED})
_SAYS_ALL = frozenset(
    {
        Reason.SECRET_NOT_OWN,
        Reason.SECRET_FORBIDDEN,
        Reason.KUBERNETES_REFUSED,
        Reason.KUBERNETES_UNAVAILABLE,
        Reason.SPEC_INVALID,
    }
)
"""Of the resource, its status and the Secret: how far the creation got does not matter."""


@dataclass(frozen=True, slots=True)
class CreationPorts:
    """What a run works with. `name` is the connector's, for the log; `marker` marks in C1 what is created for it.

    `save` returns once the status with this record is written; without that, no call is made. `greet`: Hello to C1 with
    a credential, which raises Failure. Where no answer comes in time it does not: C1 may accept the credential.
    """

    name: str
    marker: str
    rest: C1Rest
    secret: OwnSecret
    save: Callable[[C1Record], Awaitable[None]]
    greet: Callable[[NewCredential], Awaitable[None]]
    clock: Clock
    jitter: Jitter


class CreationRun:
    """One run: it does all that is missing, or raises Failure. The next run goes on from the status and the Secret.

    `record` is what the status says; `in_use` is the client ID that C1 greets the connector's session with, "" for
    none.
    """

    def __init__(self, wanted: C1Creation, record: C1Record, in_use: str, ports: CreationPorts) -> None:
        self._wanted = wanted
        self._record = record
        self._in_use = in_use
        self._ports = ports
        self._works = False

    async def run(self) -> None:
        """Raises Failure, whose message says how far it got."""
        try:
            self._check_app()
            kept = await self._ports.secret.read()
            await self._take_up(kept)
            self._works = self._record.credential is not None and _has_credentials(kept)
            due = self._credential_due(kept)
            if due:
                await self._ports.secret.check_writable(kept)
            if not self._record.app_id:
                await self._create_app()
            if not self._record.connector_id:
                await self._create_connector()
            if due:
                kept = await self._create_credential(kept)
            elif self._record.creating is not None:  # what it was for is there again
                await self._save(replace(self._record, creating=None, creating_since=None))
            if kept is not None and kept.client_id == self._in_use:
                await self._revoke_retired()
        except Failure as failure:
            raise self._in_words(failure) from None

    # What there is already

    def _check_app(self) -> None:
        """Raises Failure when the spec names another app than the one that has the connector."""
        app_id, wanted = self._record.app_id, self._wanted.app_id
        if app_id and wanted not in ("", app_id):
            raise Failure(
                Reason.SPEC_INVALID,
                f"spec.c1.create.appID is now {wanted}, but the connector was created in app {app_id} and stays there."
                f" Set it back to {app_id}; for a connector in another app, create another BuildkiteConnector.",
                remedy=Remedy.EDIT,
            )

    async def _take_up(self, kept: Kept | None) -> None:
        """Take up what the Secret says: of a process that ended, or of a deleted resource of the same name."""
        if kept is None or not (kept.app_id and kept.connector_id and kept.credential_id):
            return
        record = self._record
        if record.app_id not in ("", kept.app_id) or record.connector_id not in ("", kept.connector_id):
            raise Failure(
                Reason.SECRET_NOT_OWN,
                f"Secret {self._wanted.secret_name} has the credentials of another connector in C1, {kept.connector_id}"
                f" in app {kept.app_id}. Set another spec.c1.create.secretName.",
                remedy=Remedy.EDIT,
            )
        if not record.connector_id:
            await self._check_made_here(kept)
            ids = replace(record, app_id=kept.app_id, connector_id=kept.connector_id)
            await self._save(replace(ids, creating=None, creating_since=None))
            self._check_app()
        before = record.credential
        if before is None or before.id != kept.credential_id:
            use = await self._ports.rest.credential(kept.app_id, kept.connector_id, kept.credential_id)
            if use is not None:
                await self._save_credential(kept.credential_id, use.expires_at)

    async def _check_made_here(self, kept: Kept) -> None:
        """Raises Failure unless C1 shows that the operator created the connector for this namespace and name.

        Whoever can write Secrets can put any IDs into one. C1 may have replaced the description: then an app that was
        created for the same must have this connector only, and that without the mark of another.
        """
        rest, place = self._ports.rest, f"{self._ports.marker.rpartition('/')[0]}/"
        try:
            if kept.connector_id in await rest.find_connectors(kept.app_id, place):
                return
            alone = await rest.find_connectors(kept.app_id, "") == (kept.connector_id,)
            marked = await rest.find_connectors(kept.app_id, f"{MANAGED_BY}/")
            if alone and not marked and kept.app_id in await rest.find_apps(place):
                return
        except Failure as failure:
            if failure.reason not in _SHOWS_NOTHING:
                raise
        raise Failure(
            Reason.SECRET_NOT_OWN,
            f"Secret {self._wanted.secret_name} names connector {kept.connector_id} in app {kept.app_id}, but C1 does"
            " not show that the operator created it for this resource. If it is the right one, set spec.c1.appID and"
            " spec.c1.connectorID in place of spec.c1.create; for a new connector, set another"
            " spec.c1.create.secretName.",
            remedy=Remedy.EDIT,
        )

    def _credential_due(self, kept: Kept | None) -> bool:
        """Whether the connector has no credentials, or they are to be replaced."""
        credential = self._record.credential
        if credential is None or kept is None or credential.id != kept.credential_id or not _has_credentials(kept):
            return True
        return credential.rotates_at is not None and credential.rotates_at <= self._ports.clock.now()

    # The steps

    async def _create_app(self) -> None:
        rest, wanted, marker = self._ports.rest, self._wanted, self._ports.marker
        app_id = wanted.app_id or await self._created(
            C1Step.APP,
            self._find_apps,
            lambda: rest.create_app(wanted.app_name, wanted.owners, marker),
        )
        await self._save(replace(self._record, app_id=app_id, creating=None, creating_since=None))

    async def _find_apps(self) -> tuple[str, ...]:
        """This resource's, or one without a connector that one of the same name left, which was deleted since.

        One that has a connector may be in use, as by another cluster.
        """
        rest, marker = self._ports.rest, self._ports.marker
        left = await rest.find_apps(f"{marker.rpartition('/')[0]}/")
        found = await rest.find_apps(marker) if left else ()
        return found or tuple([each for each in left if not await rest.find_connectors(each, "")])

    async def _create_connector(self) -> None:
        rest, wanted, marker = self._ports.rest, self._wanted, self._ports.marker
        app_id, name = self._record.app_id, wanted.display_name or wanted.app_name or DEFAULT_NAME
        connector_id = await self._created(
            C1Step.CONNECTOR,
            lambda: rest.find_connectors(app_id, marker),
            lambda: rest.create_connector(app_id, name, wanted.owners, marker),
        )
        await self._save(replace(self._record, connector_id=connector_id, creating=None, creating_since=None))

    async def _created(
        self, step: C1Step, find: Callable[[], Awaitable[tuple[str, ...]]], create: Callable[[], Awaitable[str]]
    ) -> str:
        """The ID of what the step creates; what an earlier call created is found, once C1 had time to carry it out."""
        if self._record.creating is step and (seconds := self._settles_in()) > 0:
            raise self._may_be_there(step, seconds)
        found = await find()
        if len(found) > 1:
            fields = {"connector": self._ports.name, "kind": step.value, "used": found[0], "others": list(found[1:])}
            logger.warning(
                "C1 has more than one of what was created for this connector; the oldest is used", extra=fields
            )
        return found[0] if found else await self._call(step, create)

    async def _create_credential(self, kept: Kept | None) -> Kept:
        """Create one and keep it in the Secret. C1 shows the client secret once: a crash in between loses it."""
        if self._record.creating is C1Step.CREDENTIAL:
            fields = {"connector": self._ports.name, "since": self._record.creating_since}
            logger.warning("a credential may be lost: it stays valid in C1 until it expires", extra=fields)
        app_id, connector_id = self._record.app_id, self._record.connector_id
        new = await self._call(C1Step.CREDENTIAL, lambda: self._ports.rest.create_credential(app_id, connector_id))
        await self._prove(new)
        content = Kept(app_id, connector_id, new.id, new.client_id, new.client_secret)
        await self._keep(content, kept)
        await self._save_credential(new.id, new.expires_at)
        return content

    async def _prove(self, new: NewCredential) -> None:
        """Wait until C1 greets it: what C1 refuses, or nobody can use, never takes the place of what works."""
        ends = self._ports.clock.monotonic() + PROOF_SECONDS
        while True:
            try:
                return await self._ports.greet(new)
            except Failure as failure:
                if failure.remedy is Remedy.RETRY:  # C1 does not say
                    return None
                if failure.reason in _USELESS or self._ports.clock.monotonic() >= ends:
                    await self._discard(new.id)
                    told, remedy = failure.message, failure.remedy
                    raise Failure(failure.reason, told, remedy=remedy, retry_after=PROVEN_APART) from None
            await self._ports.clock.sleep(PROOF_APART)

    async def _keep(self, content: Kept, there: Kept | None) -> None:
        """Write the Secret, again until it is written. A credential that can be kept no more is revoked."""
        secret, failures = self._ports.secret, 0
        expected = {content.credential_id, there.credential_id if there is not None else ""}
        while True:
            try:
                now = await secret.read() if failures else there
                if now is not None and now.credential_id not in expected:
                    break
                if now != content:  # an earlier try may have been carried out
                    await secret.write(content, now)
            except Failure as failure:
                if failure.remedy is not Remedy.RETRY:
                    if not failures:  # else an earlier try may still be carried out
                        await self._discard(content.credential_id)
                    raise
                failures += 1
                fields = {"connector": self._ports.name, "error": failure.message}
                logger.warning("the connector's Secret could not be written", extra=fields)
                wait = BETWEEN_REPORTS.wait(failures, self._ports.jitter.uniform(0.0, 1.0), failure.retry_after)
                await self._ports.clock.sleep(wait)
            else:
                return
        # What a process before this one sent was carried out late. Ours was for another version: it never will be.
        await self._discard(content.credential_id)
        raise Failure(
            Reason.KUBERNETES_UNAVAILABLE,
            f"Secret {self._wanted.secret_name} got other credentials meanwhile; the operator reads it again.",
        )

    async def _discard(self, credential_id: str) -> None:
        """Nobody holds this new credential."""
        try:
            await self._revoke(credential_id)
            await self._save(replace(self._record, creating=None, creating_since=None))
        except Failure as failure:
            fields = {"connector": self._ports.name, "credential": credential_id, "error": failure.message}
            logger.warning("an unused credential was not revoked: it stays valid in C1 until it expires", extra=fields)

    async def _revoke_retired(self) -> None:
        """C1 greeted the connector with the new credential: those before it are needed no more."""
        credential = self._record.credential
        if credential is None or not credential.retiring:
            return
        for each in credential.retiring:
            await self._revoke(each)
        await self._save(replace(self._record, credential=replace(credential, retiring=())))

    async def _revoke(self, credential_id: str) -> None:
        await self._ports.rest.revoke_credential(self._record.app_id, self._record.connector_id, credential_id)

    # One call that creates something

    async def _call(self, step: C1Step, create: Callable[[], Awaitable[T]]) -> T:
        """Announce the call in the status, then make it."""
        await self._announce(step)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await create()
        except TimeoutError:
            failure = Failure(Reason.C1_UNAVAILABLE, f"C1 has not answered within {CALL_SECONDS:.0f} seconds.")
        except Failure as failed:
            failure = failed
        if failure.remedy is not Remedy.RETRY or failure.reason in _REFUSED:
            await self._save(replace(self._record, creating=None, creating_since=None))
            raise failure
        raise self._may_be_there(step, max(self._settles_in(), failure.retry_after or 0.0), failure.message)

    async def _announce(self, step: C1Step) -> None:
        """The call follows at once: the moment in the status must not be long ago when it is made."""
        for _ in range(ANNOUNCEMENTS):
            begun = self._ports.clock.monotonic()
            await self._save(replace(self._record, creating=step, creating_since=self._ports.clock.now()))
            if self._ports.clock.monotonic() - begun <= FRESH_SECONDS:
                return
        await self._save(replace(self._record, creating=None, creating_since=None))
        raise Failure(
            Reason.KUBERNETES_UNAVAILABLE,
            f"Writing the status takes more than {FRESH_SECONDS:.0f} seconds. Nothing is created in C1 until the"
            " Kubernetes API is faster.",
        )

    def _settles_in(self) -> float:
        """Seconds until what was announced has been carried out, or never will be."""
        since = self._record.creating_since
        if since is None:
            return 0.0
        return min(SETTLE_SECONDS - (self._ports.clock.now() - since).total_seconds(), SETTLE_SECONDS)

    # What is recorded and reported

    async def _save(self, record: C1Record) -> None:
        await self._ports.save(record)
        self._record = record

    async def _save_credential(self, credential_id: str, expires_at: datetime | None) -> None:
        """The credential in the Secret is this one now; those before it are revoked later."""
        before = self._record.credential
        retiring = () if before is None else (*before.retiring, before.id)
        rotates = None if expires_at is None else rotates_at(expires_at, self._ports.clock.now())
        credential = C1CredentialRecord(credential_id, expires_at, rotates, retiring)
        await self._save(replace(self._record, credential=credential, creating=None, creating_since=None))

    def _may_be_there(self, step: C1Step, seconds: float, why: str = "") -> Failure:
        """The call may have created it, or may still do so."""
        when = self._ports.clock.now() + timedelta(seconds=seconds)
        unknown = (
            f"Whether C1 created the {_NAMES[step]} is not known yet; the operator continues at {when:%H:%M:%S} UTC."
        )
        return Failure(Reason.C1_UNAVAILABLE, f"{why} {unknown}".lstrip(), retry_after=seconds)

    def _in_words(self, failure: Failure) -> Failure:
        """The failure with how far the creation got."""
        told = failure.message
        if failure.reason is Reason.C1_NOT_FOUND and self._record.connector_id:
            told += (
                f" If the connector was deleted in C1, delete this resource and Secret {self._wanted.secret_name} too:"
                " created again, the resource gets a new one."
            )
        if self._works:
            sentence = f"The connector's credentials in C1 could not be replaced: {told}"
            return Failure(failure.reason, sentence, remedy=failure.remedy, retry_after=failure.retry_after)
        if failure.reason in _SAYS_ALL:
            return failure
        sentence = f"{self._progress()} {told}"
        return Failure(Reason.C1_NOT_CREATED, sentence, remedy=failure.remedy, retry_after=failure.retry_after)

    def _progress(self) -> str:
        record = self._record
        if not record.app_id:
            return "The app is not created in C1 yet."
        if not record.connector_id:
            return f"The connector is not created in app {record.app_id} of C1 yet."
        return f"Connector {record.connector_id} in app {record.app_id} of C1 has no credentials yet."


_NAMES = {C1Step.APP: "app", C1Step.CONNECTOR: "connector", C1Step.CREDENTIAL: "credential"}


def _has_credentials(kept: Kept | None) -> bool:
    return kept is not None and bool(kept.client_id and kept.client_secret)


def marker_of(key: ConnectorKey, uid: str) -> str:
    """What marks in C1 what is created for this resource; all but the UID is the same when it is created again."""
    place = key.replace(".", "/", 1)
    if len(place) > LONGEST_PLACE:
        place = f"{namespace_of(key)}/{hashlib.sha256(place.encode()).hexdigest()}"
    return f"{MANAGED_BY}/{place}/{uid}"


class Creator:
    """Of one connector. `apply` changes its state, `state` reads it, `writer` writes its status.

    `closed`: whether the connector is closed, as when its resource was deleted.
    """

    def __init__(
        self,
        name: str,
        key: ConnectorKey,
        environment: Environment,
        apply: Apply,
        state: Callable[[], ConnectorState],
        writer: StatusWriter,
        closed: Callable[[], bool],
    ) -> None:
        self._name = name
        self._key = key
        self._env = environment
        self._apply = apply
        self._state = state
        self._writer = writer
        self._closed = closed

    async def run(self) -> None:
        """One run, with a slot. It is dropped when nothing asks for it any more by then."""
        async with self._env.creation_slots.slot(namespace_of(self._key)):
            desired, failure = self._state().desired, None
            if not creation_due(self._state(), instant(self._env.clock)):
                return
            try:
                await self._create(desired)
            except Failure as failed:
                failure = failed
            except Exception as error:
                logger.exception("the creation in C1 failed unexpectedly", extra={"connector": self._name})
                failure = internal_error(error)
        before = self._state().creation.failure
        if failure is not None and (before is None or before.reason is not failure.reason):
            fields = {"connector": self._name, "reason": failure.reason.value, "error": failure.message}
            logger.warning("the creation in C1 is not complete", extra=fields)
        share = self._env.jitter.uniform(0.0, 1.0)
        self._apply(lambda state, now: creation_ended(state, desired, failure, now, share))

    async def _create(self, desired: DesiredState) -> None:
        wanted = desired.spec.c1.create if desired.spec.c1 is not None else None
        if wanted is None or desired.own_secret is None:
            raise RuntimeError("a connector with spec.c1.create needs a Secret of its own")
        env, client = self._env, RestClient(self._name, self._env)
        try:
            rest, marker = await client.get(desired), marker_of(self._key, desired.uid)
            own, greet = desired.own_secret, partial(self._greet, desired)
            ports = CreationPorts(self._name, marker, rest, own, self._save, greet, env.clock, env.jitter)
            state = self._state()
            await CreationRun(wanted, state.records.c1 or C1Record(), client_in_use(state), ports).run()
        finally:
            await client.aclose()

    async def _greet(self, desired: DesiredState, new: NewCredential) -> None:
        service = self._env.c1(Credentials(new.client_id, new.client_secret, api_token=""), desired.spec)
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                await service.hello()
        except TimeoutError:
            pass  # as after every failure by which C1 does not say
        finally:
            await service.aclose()

    async def _save(self, record: C1Record) -> None:
        """Return once the status with this record is written. Raises Failure when that will not be."""
        self._apply(lambda state, _: recorded(state, record))
        while True:
            if self._closed() or not same_progress(self._state().records.c1, record):
                raise Failure(Reason.PENDING, "The resource was edited or deleted meanwhile.")
            written = self._writer.written
            if written is not None and same_progress(written.c1, record):
                return
            await self._writer.wait()
