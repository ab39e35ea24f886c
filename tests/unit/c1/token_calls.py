"""Calls whose token the tests of the token look at."""

from datetime import UTC, datetime
from typing import Any

import pytest

from buildkite_connector.c1 import parse_credentials
from buildkite_connector.c1.token import ASSERTION_TYPE, sign_assertion
from buildkite_connector.model.failure import Failure
from fakes.c1_setup import connect
from simulators.c1.server import C1Simulator
from simulators.c1.token import Client


async def hello_fails(sim: C1Simulator, *, client: Client | None = None, **changes: Any) -> Failure:
    async with connect(sim, client=client, **changes) as connector:
        with pytest.raises(Failure) as caught:
            await connector.hello()
    return caught.value


def token_of(sim: C1Simulator, client: Client) -> object:
    """A token that C1 takes from this client, got beside the connector."""
    credentials = parse_credentials(client.client_id, client.client_secret)
    form = {
        "client_id": client.client_id,
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": sign_assertion(credentials, datetime.now(UTC), "0" * 32),
    }
    return sim.authority.exchange(form)["access_token"]
