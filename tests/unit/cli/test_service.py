"""Service mode on the simulators, in this process: what a restart goes on from, and what flags change."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from buildkite_connector.cli.service import run_service
from buildkite_connector.cli.service_settings import ServiceSettings, service_settings
from buildkite_connector.cli.settings import read_settings
from buildkite_connector.model.tasks import Code
from buildkite_connector.service.data_directory import open_directory
from harness.service_rig import ServiceRig, service_rig
from harness.trust import reaching
from simulators.buildkite.faults import stall
from simulators.c1.tasks import Outcome

ANOTHER_TOKEN = "bkua_" + "0123456789" * 4
NO_METRICS = {"OTEL_SDK_DISABLED": "true"}


@pytest.fixture
async def rig() -> AsyncIterator[ServiceRig]:
    async with service_rig() as opened:
        yield opened


def settings_of(rig: ServiceRig, **changes: str) -> ServiceSettings:
    environment = rig.environment(**changes)
    found = read_settings({}, environment, Path("/nonexistent"))
    return service_settings(lambda: found, found, environment)


@contextlib.asynccontextmanager
async def serving(rig: ServiceRig, **changes: str) -> AsyncIterator[Path]:
    """The service for as long as the context lasts; gives its directory."""
    settings = settings_of(rig, **changes)
    with open_directory([rig.temporary], settings.identity(settings.started_with)) as directory:
        running = asyncio.create_task(run_service(settings, reaching(rig.c1.ca_file), directory, NO_METRICS))
        try:
            yield directory
        finally:
            running.cancel()
            await asyncio.wait({running})


async def answer(rig: ServiceRig) -> Outcome:
    """How C1's next sync task ends."""
    return await rig.c1.finished(rig.c1.add_task())


async def test_a_snapshot_that_shrank_is_held_and_let_go_by_its_id_over_restarts(rig: ServiceRig) -> None:
    async with serving(rig):
        assert (await answer(rig)).success
    for member in rig.buildkite.organization.members.records[30:]:
        rig.buildkite.organization.remove_member(member["id"])

    changed = {"BUILDKITE_CONNECTOR_QUOTA_PERCENT": "70"}
    async with serving(rig, **changed):
        held = await answer(rig)
        assert held.code == Code.FAILED_PRECONDITION
        named = re.search(r"accept-shrink=(\w{27}) \(in service mode, with --accept-shrink\)", held.message)
        assert named is not None
        sync_id = named[1]

    async with serving(rig, **changed):
        assert (await answer(rig)).code == Code.FAILED_PRECONDITION
    async with serving(rig, **changed, BUILDKITE_CONNECTOR_ACCEPT_SHRINK=sync_id):
        assert (await answer(rig)).success
    assert rig.c1.ingested[-1].summary()["sync_id"] == sync_id


async def test_a_fresh_snapshot_of_another_token_answers_no_task(rig: ServiceRig) -> None:
    async with serving(rig):
        assert (await answer(rig)).success
    (token,) = rig.buildkite.api.tokens.values()
    rig.buildkite.api.tokens = {ANOTHER_TOKEN: token}  # the same rights, as after a rotation
    async with serving(rig, BATON_API_TOKEN=ANOTHER_TOKEN):
        assert (await answer(rig)).success
    first, second = rig.c1.ingested
    assert first.summary()["sync_id"] != second.summary()["sync_id"]


async def test_only_the_chosen_types_are_synced(rig: ServiceRig) -> None:
    async with serving(rig, BATON_SYNC_RESOURCE_TYPES="user"):
        assert (await answer(rig)).success
    assert rig.c1.ingested[0].summary()["resources"] == {"user": 230}


async def test_as_many_tasks_are_worked_on_as_the_flag_allows(rig: ServiceRig) -> None:
    rig.buildkite.fault(stall(after=None), path="/v2/organizations/acme-inc/teams", times=None)
    tasks = [rig.c1.add_task() for _ in range(4)]
    async with serving(rig, BATON_TASK_CONCURRENCY="4"):
        await rig.c1.wait_for(lambda: {call.task_id for call in rig.c1.calls("Heartbeat")} >= set(tasks))
    assert {(await rig.c1.finished(task)).code for task in tasks} == {Code.ABORTED}


async def test_a_transition_is_one_line_of_the_log_with_its_reason(
    rig: ServiceRig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with serving(rig):
        assert (await answer(rig)).success
    told = [vars(record) for record in caplog.records if record.message == "condition changed"]
    assert (told[0]["connector"], told[0]["levelname"], told[0]["reason"]) == ("baton-buildkite", "INFO", "Ready")
    assert told[0]["detail"]


async def test_a_refused_first_hello_is_given_back(rig: ServiceRig) -> None:
    rig.c1.authority.refuse(rig.client.client_id)
    settings = settings_of(rig)
    failure = await asyncio.wait_for(run_service(settings, reaching(rig.c1.ca_file), rig.temporary, NO_METRICS), 10)
    assert failure is not None
    assert "refused the client ID and secret" in failure.message
