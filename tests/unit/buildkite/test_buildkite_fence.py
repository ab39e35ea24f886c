"""No request leaves while this process may not act."""

import pytest

from buildkite_connector.buildkite import BuildkiteSettings, open_buildkite
from buildkite_connector.model.failure import Failure, Reason
from fakes.buildkite_world import serving
from fakes.virtual_time import virtual_time
from harness.trust import DIRECT


@virtual_time
async def test_no_request_leaves_while_this_process_may_not_act() -> None:
    acts = True

    def may_send() -> None:
        if not acts:
            raise Failure(Reason.KUBERNETES_UNAVAILABLE, "not the leader")

    async with (
        serving() as world,
        open_buildkite(BuildkiteSettings(api_url=world.sim.url), DIRECT, may_send=may_send) as buildkite,
    ):
        client = buildkite.client(world.sim.token.value)
        await client.teams(world.expected.organization.slug, 1)
        acts, before = False, len(world.sim.requests)
        with pytest.raises(Failure, match="not the leader"):
            await client.teams(world.expected.organization.slug, 2)
        assert len(world.sim.requests) == before


@virtual_time
async def test_a_request_that_was_let_through_is_asked_about_again_as_it_is_written() -> None:
    """Connecting takes time, and a process may be stopped amid it."""
    answers = iter([True, False])

    def may_send() -> None:
        if not next(answers):
            raise Failure(Reason.KUBERNETES_UNAVAILABLE, "not the leader")

    async with (
        serving() as world,
        open_buildkite(BuildkiteSettings(api_url=world.sim.url), DIRECT, may_send=may_send) as buildkite,
    ):
        with pytest.raises(Failure, match="not the leader"):
            await buildkite.client(world.sim.token.value).teams(world.expected.organization.slug, 1)
        assert (world.sim.transcript.connections, world.sim.requests) == (1, [])
