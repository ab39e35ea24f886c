"""Clients of C1's REST API, and each of its calls once, for the tests."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkite_connector.c1 import C1Settings, RestClient, open_c1
from buildkite_connector.model.observer import SILENT, Observer
from buildkite_connector.model.spec import C1Access
from fakes.c1_setup import LeastChance, SetClock, settings_for
from harness.trust import reaching
from simulators.c1.server import C1Simulator
from simulators.c1.token import Role
from unit.hostile.c1_answers import CLIENT_SECRET
from unit.hostile.c1_call_answers import no_task
from unit.hostile.c1_server import HostileC1, TokenAnswer

APP, CONNECTOR, CREDENTIAL = "app1", "con1", "cred1"
OWNERS = ("user1",)
MARKER = "buildkite-connector/default/acme/0b1e5a1c-1111-2222-3333-444444444444"
ADMINISTRATOR = (Role.APPLICATION_ADMINISTRATOR, Role.CONNECTOR_ADMINISTRATOR)


@dataclass(frozen=True, slots=True)
class Call:
    """`words`: what a sentence says it is. `good`: an answer that it takes."""

    make: Callable[[RestClient], Awaitable[object]]
    words: str
    role: str
    good: object
    method: str = "POST"


ONE = {
    "id": "new1",
    "clientId": "otter@acme.conductor.one/ccc",
    "clientSecret": "secret-token:conductorone.com:v1:abcdef",
}
CONNECTOR_ADMINISTRATOR, APPLICATION_ADMINISTRATOR = "Connector Administrator", "Application Administrator"
READER = "Read-Only Administrator or Connector Administrator"
CALLS = {
    "connector": Call(
        lambda client: client.connector(APP, CONNECTOR),
        "read connector con1 of app app1",
        READER,
        {"connectorView": {"connector": {"id": "con1"}}},
        "GET",
    ),
    "force_sync": Call(
        lambda client: client.force_sync(APP, CONNECTOR),
        "sync connector con1 of app app1",
        CONNECTOR_ADMINISTRATOR,
        {},
    ),
    "apps": Call(
        lambda client: client.find_apps(MARKER),
        "list the apps",
        APPLICATION_ADMINISTRATOR,
        {"list": [], "nextPageToken": ""},
        "GET",
    ),
    "create_app": Call(
        lambda client: client.create_app("Buildkite", OWNERS, MARKER),
        "create the app",
        APPLICATION_ADMINISTRATOR,
        {"app": {"id": "new1"}},
    ),
    "connectors": Call(
        lambda client: client.find_connectors(APP, MARKER),
        "list the connectors of app app1",
        READER,
        {"list": [], "nextPageToken": ""},
        "GET",
    ),
    "create_connector": Call(
        lambda client: client.create_connector(APP, "Buildkite", OWNERS, MARKER),
        "create a connector in app app1",
        CONNECTOR_ADMINISTRATOR,
        {"connectorView": {"connector": {"id": "new1"}}},
    ),
    "create_credential": Call(
        lambda client: client.create_credential(APP, CONNECTOR),
        "create a credential of connector con1 of app app1",
        CONNECTOR_ADMINISTRATOR,
        {"credential": ONE},
    ),
    "credential": Call(
        lambda client: client.credential(APP, CONNECTOR, CREDENTIAL),
        "read credential cred1 of connector con1 of app app1",
        READER,
        {"credential": ONE},
        "GET",
    ),
    "revoke_credential": Call(
        lambda client: client.revoke_credential(APP, CONNECTOR, CREDENTIAL),
        "revoke credential cred1 of connector con1 of app app1",
        CONNECTOR_ADMINISTRATOR,
        {},
    ),
}
"""By the names that spans have."""


@asynccontextmanager
async def rest_client(
    sim: C1Simulator,
    *,
    roles: Iterable[Role] = ADMINISTRATOR,
    access: C1Access | None = None,
    clock: SetClock | None = None,
    may_send: Callable[[], None] = lambda: None,
    observer: Observer = SILENT,
    **settings: Any,
) -> AsyncIterator[RestClient]:
    """A client of the simulated C1, with these roles unless `access` says who it is. `settings`: C1Settings."""
    if access is None:
        registered = sim.register_rest_client("spc", roles)
        access = C1Access(registered.client_id, registered.client_secret)
    async with open_c1(
        settings_for(sim, **settings),
        reaching(sim.ca_file),
        clock=clock or SetClock(),
        jitter=LeastChance(),
        observer=observer,
        may_send=may_send,
    ) as c1:
        client = c1.rest(access)
        try:
            yield client
        finally:
            await client.aclose()


@asynccontextmanager
async def at_a_hostile_c1(
    answer: TokenAnswer, *, call_timeout: float = 10.0, observer: Observer = SILENT
) -> AsyncIterator[tuple[RestClient, str]]:
    """A client, and what sentences call C1, whose answers come byte by byte as `answer` has them."""
    async with HostileC1(answer, no_task).running() as address:
        host, _, ca_file = address.partition(" ")
        settings = C1Settings(allowed_hosts=host, call_timeout=call_timeout)
        async with open_c1(settings, reaching(Path(ca_file)), observer=observer) as c1:
            yield c1.rest(C1Access(f"otter@{host}/spc", CLIENT_SECRET)), f"C1 at {host}"


def said(message: str) -> str:
    """An error as C1 answers it."""
    return json.dumps({"code": 7, "message": message, "details": []})
