"""Service mode with the connector in C1: a sync reaches C1 at once, and the log and the state file have C1's state."""

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from buildkite_connector.cli.service import run_service
from buildkite_connector.cli.service_settings import service_settings
from buildkite_connector.cli.settings import read_settings
from buildkite_connector.service.data_directory import open_directory
from harness.service_rig import ServiceRig
from harness.trust import reaching
from simulators.c1.apps import Connector, Paused, SyncState
from simulators.c1.token import RestClient, Role
from unit.cli.test_service import NO_METRICS, rig, serving

__all__ = ["rig"]
PATIENCE = 15.0


@pytest.fixture
def connector(rig: ServiceRig) -> Connector:
    return rig.c1.register_connector(rig.client)


@pytest.fixture
def client(rig: ServiceRig) -> RestClient:
    return rig.c1.register_rest_client(roles={Role.CONNECTOR_ADMINISTRATOR})


@pytest.fixture
def variables(connector: Connector, client: RestClient) -> dict[str, str]:
    return {
        "BUILDKITE_CONNECTOR_C1_APP_ID": connector.app_id,
        "BUILDKITE_CONNECTOR_C1_CONNECTOR_ID": connector.id,
        "C1_CLIENT_ID": client.client_id,
        "C1_CLIENT_SECRET": client.client_secret,
    }


def saved(directory: Path) -> dict[str, Any]:
    """The status in the state file."""
    file = directory / "status.json"
    found: dict[str, Any] = json.loads(file.read_text())["status"] if file.exists() else {}
    return found


async def until(directory: Path, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The saved status as soon as this holds; a file has no event to await."""
    async with asyncio.timeout(PATIENCE):
        while not holds(status := saved(directory)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return status


def state(status: dict[str, Any]) -> object:
    return status.get("c1", {}).get("state")


def reason(status: dict[str, Any], kind: str) -> tuple[str, str]:
    found: dict[str, str] = next((each for each in status.get("conditions", []) if each["type"] == kind), {})
    return found.get("status", ""), found.get("reason", "")


async def test_a_sync_reaches_c1_at_once_and_a_restart_alone_does_not(
    rig: ServiceRig, variables: dict[str, str], connector: Connector
) -> None:
    async with serving(rig, **variables) as directory:
        status = await until(directory, lambda found: state(found) == "DONE")
        assert connector.state is SyncState.DONE
        assert len(rig.c1.calls("ForceSync")) == len(rig.c1.ingested) == 1
        assert status["c1"]["appID"] == connector.app_id
        assert status["c1"]["forcedFor"] == status["lastSync"]["id"] == rig.c1.ingested[0].summary()["sync_id"]
        assert reason(status, "C1Synced") == ("True", "C1Synced")

    async with serving(rig, **variables) as directory:
        assert (await rig.c1.finished(rig.c1.add_task())).success
        kept = await until(directory, lambda found: found["lastDelivery"] != status["lastDelivery"])
        assert kept["c1"]["forcedFor"] == status["c1"]["forcedFor"]
        assert kept["c1"]["observedAt"] == status["c1"]["observedAt"], "no look came yet"
        assert reason(kept, "C1Synced") == ("True", "C1Synced")
    assert len(rig.c1.calls("ForceSync")) == 1


async def test_without_forced_syncs_c1s_state_is_read_and_nothing_else(
    rig: ServiceRig, variables: dict[str, str], connector: Connector
) -> None:
    connector.paused = Paused(datetime(2026, 11, 30, tzinfo=UTC), "bad sync", "half of the data is gone")
    async with serving(rig, **variables, BUILDKITE_CONNECTOR_C1_FORCE_SYNC="false") as directory:
        status = await until(
            directory, lambda found: reason(found, "C1Synced")[1] == "C1Paused" and "lastSync" in found
        )
        assert "half of the data is gone" in status["c1"]["pausedReason"]
        assert reason(status, "Ready") == ("True", "Ready")
    assert rig.c1.calls("ForceSync") == []


async def test_a_refusal_is_a_line_of_the_log_and_the_snapshot_waits(
    rig: ServiceRig, variables: dict[str, str], client: RestClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.roles = {Role.READ_ONLY_ADMINISTRATOR}
    caplog.set_level("INFO")
    async with serving(rig, **variables) as directory:
        status = await until(directory, lambda found: reason(found, "C1Synced")[1] == "C1AccessDenied")
        assert reason(status, "Ready") == ("True", "Ready")
        assert (await rig.c1.finished(rig.c1.add_task())).success
    told = [vars(record) for record in caplog.records if record.message == "condition changed"]
    [refused] = [each for each in told if each["reason"] == "C1AccessDenied"]
    assert "Connector Administrator" in refused["detail"]
    assert client.client_secret.rpartition(":")[2] not in caplog.text


@pytest.mark.thorough
async def test_a_client_that_c1_rejects_is_read_again_from_the_file(
    rig: ServiceRig, variables: dict[str, str], client: RestClient, tmp_path: Path
) -> None:
    newer = rig.c1.register_rest_client(roles={Role.CONNECTOR_ADMINISTRATOR})
    file = tmp_path / "settings.yaml"

    def write(used: RestClient) -> None:
        file.write_text(f"c1-client-id: {used.client_id}\nc1-client-secret: {used.client_secret}\n")

    def read() -> Any:
        given = {name: text for name, text in variables.items() if not name.startswith("C1_")}
        return read_settings({}, rig.environment(**given, BATON_CONFIG_PATH=str(file)))

    exchange, refused = rig.c1.authority.exchange, []

    def replace_then_refuse(form: Mapping[str, str]) -> dict[str, object]:
        if form["client_id"] == client.client_id:
            refused.append(form)
            write(newer)
        return exchange(form)

    rig.c1.authority.exchange = replace_then_refuse  # type: ignore[method-assign]  # the moment between two reads
    rig.c1.authority.refuse(client.client_id)
    write(client)
    settings = service_settings(read, read(), rig.environment())
    with open_directory([rig.temporary], settings.identity(settings.started_with)) as directory:
        running = asyncio.create_task(run_service(settings, reaching(rig.c1.ca_file), directory, NO_METRICS))
        try:
            await until(directory, lambda found: state(found) == "DONE")
        finally:
            running.cancel()
            await asyncio.wait({running})
    assert len(refused) == 1
