"""A connector is created by the client of C1's REST API, at a simulated C1 whose answers are lost or come late."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from buildkite_connector.c1 import RestClient, parse_credentials
from buildkite_connector.connector.creation import SETTLE_SECONDS, CreationPorts, CreationRun
from buildkite_connector.connector.ports import NewCredential
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.spec import C1Creation
from buildkite_connector.model.status import C1Record, C1Step
from fakes.c1_creation import FakeSecret, Surroundings
from fakes.c1_setup import LeastChance, SetClock, connect
from harness.examples import pairs
from simulators.c1.faults import Action, Fault
from simulators.c1.server import C1Simulator
from unit.c1.rest_setup import MARKER, OWNERS, rest_client

WANTED = C1Creation("acme-c1", app_name="Builds", display_name="Buildkite", owners=OWNERS)
CREATES = ["CreateApp", "CreateConnector", "CreateCredential"]
GIVEN_UP = 0.4
AGAIN = f"{MARKER.rpartition('/')[0]}/another"
HIDES_SUCCESS: dict[str, dict[str, Any]] = {
    "carried out after it was given up": {"action": Action.LATE, "delay": 2 * GIVEN_UP},
    "answered after it was given up": {"action": Action.LATE, "delay": 2 * GIVEN_UP, "carried_out": True},
    "no answer": {"action": Action.STALL, "carried_out": True},
    "connection cut": {"action": Action.DROP, "carried_out": True},
    "503": {"status": 503, "carried_out": True},
    "a web page": {"status": 502, "body": "<html>", "content_type": "text/html", "carried_out": True},
    "429": {"status": 429, "body": "{}"},
}
REFUSES: dict[str, dict[str, Any]] = {
    "401": {"status": 401, "times": 2},
    "403": {"status": 403},
    "404": {"status": 404},
    "409": {"status": 409},
    "400": {"status": 400},
}


class Operator:
    """The Secret and the status of one resource, and a client of C1."""

    def __init__(self, sim: C1Simulator, client: RestClient, clock: SetClock) -> None:
        self.sim, self.its, self.clock, self.client = sim, Surroundings(), clock, client

    async def run(self, wanted: C1Creation = WANTED) -> None:
        its, secret = self.its, FakeSecret(self.its)
        ports = CreationPorts(
            "default.acme", MARKER, self.client, secret, its.save, self.greet, self.clock, LeastChance()
        )
        await CreationRun(wanted, its.record, its.session, ports).run()

    async def greet(self, new: NewCredential) -> None:
        client = self.sim.connectors.credentials[new.id].client
        assert (new.client_id, new.client_secret) == (client.client_id, client.client_secret)
        async with connect(self.sim, client=client) as session:
            await session.hello()

    def settle(self) -> None:
        """So much time passes that nothing is carried out any more."""
        self.clock.wrong_by += timedelta(seconds=SETTLE_SECONDS)

    def lose_secret(self) -> None:
        """Somebody deletes it."""
        self.its.secret = None

    def has(self, call: str) -> int:
        """How many there are of what this call creates."""
        book = self.sim.connectors
        made = {"CreateApp": len(book.apps), "CreateConnector": len(book.connectors)}
        return made.get(call, len(book.credentials))

    async def check(self, credentials: int = 1) -> None:
        """One app with one connector, and a session with the Secret's credentials is greeted."""
        book, secret = self.sim.connectors, self.its.secret
        (app,) = book.apps.values()
        (connector,) = book.connectors.values()
        assert secret is not None
        assert self.its.record.credential is not None
        assert (secret.app_id, secret.connector_id) == (app.id, connector.id) == self.ids
        assert secret.credential_id == self.its.record.credential.id
        assert len(book.credentials) == credentials
        assert (connector.display_name, app.owners) == ("Buildkite", list(OWNERS))
        assert self.its.record.creating is None
        client = book.credentials[secret.credential_id].client
        assert (secret.client_id, secret.client_secret) == (client.client_id, client.client_secret)
        parse_credentials(secret.client_id, secret.client_secret)
        async with connect(self.sim, client=client) as session:
            await session.hello()
        assert self.sim.violations == []

    @property
    def ids(self) -> tuple[str, str]:
        return self.its.record.app_id, self.its.record.connector_id


@asynccontextmanager
async def operator(sim: C1Simulator, **settings: Any) -> AsyncIterator[Operator]:
    clock = SetClock()
    async with rest_client(sim, clock=clock, **settings) as client:
        yield Operator(sim, client, clock)


async def test_everything_is_created_once(sim: C1Simulator) -> None:
    async with operator(sim) as it:
        await it.run()
        await it.check()
        await it.run()
        await it.check()


async def test_in_an_app_that_exists_no_app_is_created(sim: C1Simulator) -> None:
    app = sim.connectors.add_app("Builds", owners=list(OWNERS))
    async with operator(sim) as it:
        await it.run(C1Creation("acme-c1", app_id=app.id, display_name="Buildkite"))
        await it.check()


@pytest.mark.parametrize(("call", "how"), pairs(CREATES, HIDES_SUCCESS, one_in=3))
async def test_what_may_have_been_created_is_found_and_not_created_again(sim: C1Simulator, call: str, how: str) -> None:
    async with operator(sim, call_timeout=GIVEN_UP) as it:
        sim.faults.add(Fault(call, **HIDES_SUCCESS[how]))
        with pytest.raises(Failure) as failed:
            await it.run()
        assert failed.value.reason is Reason.C1_NOT_CREATED
        assert it.its.record.creating is C1Step(call.removeprefix("Create"))
        if how != "429":
            await sim.wait_for(lambda: it.has(call))
        it.settle()
        await it.run()
        lost = call == "CreateCredential" and how != "429"
        await it.check(credentials=1 + lost)


@pytest.mark.parametrize(("call", "how"), pairs(CREATES, REFUSES, one_in=3))
async def test_a_refusal_is_no_call_under_way(sim: C1Simulator, call: str, how: str) -> None:
    async with operator(sim) as it:
        sim.faults.add(Fault(call, **REFUSES[how]))
        with pytest.raises(Failure) as failed:
            await it.run()
        assert failed.value.reason is Reason.C1_NOT_CREATED
        assert it.its.record.creating is None
        await it.run()
        await it.check()


async def test_another_resource_gets_an_app_of_its_own(sim: C1Simulator) -> None:
    sim.connectors.add_app("Builds", annotations={"managed_by": "buildkite-connector", "iac_resource_address": "other"})
    async with operator(sim) as it:
        await it.run()
    assert len(sim.connectors.apps) == 2


async def test_what_is_created_again_takes_up_its_connector_and_no_other(sim: C1Simulator) -> None:
    async with operator(sim) as it:
        await it.run()
        secret = it.its.secret
        assert secret is not None
        it.its.record = C1Record()
        for description in (f"Managed by buildkite-connector ({AGAIN})", "Buildkite"):
            (connector,) = sim.connectors.connectors.values()
            connector.description = description
            it.its.record = C1Record()
            await it.run()
            await it.check()
        app = sim.connectors.add_app("Builds")
        other = sim.connectors.add(app, description="Buildkite")
        it.its.record, it.its.secret = C1Record(), replace(secret, app_id=app.id, connector_id=other.id)
        with pytest.raises(Failure) as failed:
            await it.run()
        assert failed.value.reason is Reason.SECRET_NOT_OWN
    assert len(sim.connectors.credentials) == 1


async def test_credentials_are_replaced_and_the_old_ones_revoked(sim: C1Simulator) -> None:
    async with operator(sim) as it:
        await it.run()
        (old,) = sim.connectors.credentials.values()
        it.lose_secret()
        await it.run()
        assert old.deleted_at is None
        assert it.its.secret is not None
        it.its.session = it.its.secret.client_id
        await it.run()
        assert sim.connectors.credentials[old.id].deleted_at is not None
        await it.check(credentials=2)
        sim.connectors.credentials.pop(old.id)
        it.its.record = C1Record()
        await it.run()
        await it.check()


async def test_a_connector_that_was_deleted_in_c1_is_not_created_again_by_itself(sim: C1Simulator) -> None:
    async with operator(sim) as it:
        await it.run()
        (connector,) = sim.connectors.connectors.values()
        sim.connectors.delete(connector)
        it.lose_secret()
        with pytest.raises(
            Failure, match="If the connector was deleted in C1, delete this resource and Secret acme-c1"
        ):
            await it.run()
        it.its.record = C1Record()
        app = sim.connectors.apps[connector.app_id]
        sim.connectors.delete_app(app)
        await it.run()
    assert len(sim.connectors.apps) == len(sim.connectors.connectors) == 2
