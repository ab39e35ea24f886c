"""The first Hello: refused for good, it ends the process; after one that C1 answered, nothing does."""

import asyncio

import pytest

from buildkite_connector.cli.service import FirstHello
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import ConnectorSpec, Credentials
from fakes.c1_setup import HOST_ID, opened
from simulators.c1.server import C1Simulator

REFUSED = Failure(Reason.C1_CLIENT_REJECTED, "C1 refused Hello.", remedy=Remedy.CREDENTIALS)
AWAY = Failure(Reason.C1_UNREACHABLE, "C1 is away.")


@pytest.mark.parametrize(
    ("hellos", "ends_with"),
    [
        ([AWAY, REFUSED], REFUSED),
        ([REFUSED, AWAY, None], REFUSED),
        ([AWAY, AWAY, None], None),
        ([None, REFUSED], None),
        ([AWAY, None, AWAY, REFUSED], None),
    ],
    ids=["refused", "refused at first", "away", "refused later", "refused after it was away"],
)
async def test_only_a_final_refusal_before_any_answer_ends_the_process(
    hellos: list[Failure | None], ends_with: Failure | None
) -> None:
    async with C1Simulator() as sim, opened(sim) as c1:
        ended = asyncio.Event()
        first_hello = FirstHello(c1, ended.set)
        for each in hellos:
            first_hello.note(each)
        assert first_hello.failure is ends_with
        assert ended.is_set() is (ends_with is not None)


async def test_the_client_reports_each_hello() -> None:
    async with C1Simulator() as sim, opened(sim) as c1:
        registered = sim.register_client()
        credentials = Credentials(registered.client_id, registered.client_secret, "token")
        first_hello = FirstHello(c1, lambda: None)
        async with first_hello.connect(credentials, ConnectorSpec(HOST_ID)) as client:
            await client.hello()
        first_hello.note(REFUSED)
        assert first_hello.failure is None, "C1 had answered"

        refused = FirstHello(c1, lambda: None)
        sim.authority.refuse(registered.client_id)
        async with refused.connect(credentials, ConnectorSpec(HOST_ID)) as client:
            with pytest.raises(Failure) as raised:
                await client.hello()
        assert refused.failure is raised.value


async def test_credentials_of_which_no_session_can_be_made_end_it_too() -> None:
    async with C1Simulator() as sim, opened(sim) as c1:
        first_hello = FirstHello(c1, lambda: None)
        with pytest.raises(Failure) as raised:
            first_hello.connect(Credentials("no client ID", "secret", "token"), ConnectorSpec(HOST_ID))
        assert (first_hello.failure, raised.value.remedy) == (raised.value, Remedy.CREDENTIALS)
