"""The command in the place of the vendor's: its Deployment's environment, no sub-command, no cluster.

Each test starts processes, so there are few; what needs none is in `unit/service` and `unit/cli`.
"""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from buildkite_connector.model.tasks import Code
from fakes.exchange_setup import ec_pem, register
from harness.forked_command import fork_command
from harness.rig import API_TOKEN, COMMAND
from harness.service_rig import HOST_ID, ServiceRig, free_port, service_rig
from harness.trust import plain_client
from scenarios.access import ALL_TYPES, SECRETS, access_organization
from scenarios.portal import SLUG, WITH_TOKENS, Seen
from scenarios.secrecy import find_leaks
from simulators.buildkite.api import ACCESS_SCOPES, Token
from simulators.buildkite.faults import stall
from simulators.buildkite.listing import LARGEST_PAGE

PATIENCE = 20.0
CONFINED = Path(__file__).parent / "confined.sh"


@pytest.fixture
async def rig() -> AsyncIterator[ServiceRig]:
    async with service_rig() as opened:
        opened.forks = True
        yield opened
        lines = [line for process in opened.processes for line in process.lines]
        print("service:", *lines, sep="\n  ")
        assert [line for line in lines if "Traceback" in line] == []
        assert (
            find_leaks(opened, [*lines, *map(str, opened.c1.transcript), *map(repr, opened.buildkite.requests)]) == []
        )


async def ended(rig: ServiceRig, *command: str, **changes: str) -> tuple[int, str]:
    """Runs the command to its end; gives its exit code and what it said."""
    process = await fork_command(command or (COMMAND,), rig.environment(**changes))
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        said = await process.stdout.read()
        code = await process.wait()
    assert find_leaks(rig, said.decode().splitlines()) == []
    return code, said.decode()


async def test_the_vendors_environment_alone_syncs_delivers_and_survives_a_restart(rig: ServiceRig) -> None:
    port = free_port()
    settings = {"BATON_HEALTH_CHECK": "true", "BATON_HEALTH_CHECK_PORT": str(port)}
    rig.c1.close_port()
    async with rig.service(**settings) as process, plain_client(f"http://127.0.0.1:{port}") as probes:
        assert (await probes.get("/live")).json()["status"] == "alive"
        assert (await probes.get("/ready")).json()["status"] == "ready"
        await process.until_logged("condition changed", "C1Unreachable")
        await process.until_logged("sync succeeded")
        before = len(rig.buildkite.requests)
        for _ in range(5):
            healthy = await probes.get("/health")
            assert (healthy.status_code, healthy.json()["status"]) == (200, "healthy")
        assert len(rig.buildkite.requests) == before

        await rig.c1.reopen_port()
        first = rig.c1.add_task()
        assert (await rig.c1.finished(first, PATIENCE)).success
        assert await process.stop() == 0
    (delivered,) = rig.c1.ingested
    assert delivered.who.host_id == HOST_ID
    assert delivered.summary()["resources"] == {"user": 230, "team": 9}

    read = len(rig.buildkite.requests)
    async with rig.service(**settings):
        second = rig.c1.add_task()
        assert (await rig.c1.finished(second, PATIENCE)).success
    assert [each.sha256 for each in rig.c1.ingested] == [delivered.sha256] * 2
    assert len(rig.buildkite.requests) - read <= 2, "a restart checks the token and syncs nothing"
    assert [name.rpartition(".")[2] for name in rig.kept] == ["c1z", "lock", "json"]


async def test_an_app_for_token_exchange_takes_the_place_of_the_api_token(rig: ServiceRig) -> None:
    registered = register(rig.buildkite)
    app = {
        "BATON_API_TOKEN": "",
        "BUILDKITE_TOKEN_EXCHANGE_CLIENT_ID": registered.exchange.client_id,
        "BUILDKITE_TOKEN_EXCHANGE_PRIVATE_KEY": registered.exchange.private_key,
        "BUILDKITE_TOKEN_EXCHANGE_SUBJECT": registered.exchange.subject,
    }
    rig.confided.update(ec_pem().splitlines()[1:-1])
    async with rig.service(**app) as process:
        task = rig.c1.add_task()
        assert (await rig.c1.finished(task, PATIENCE)).success
        assert await process.stop() == 0
    assert len(rig.buildkite.exchanges.minted) == 1
    rig.confided.add(rig.buildkite.exchanges.minted[0].token)
    code, said = await ended(rig, COMMAND, **app, BATON_ORGANIZATION="")
    assert (code, "token exchange issues tokens for one organization" in said) == (2, True)


async def test_a_portal_shows_last_logins_and_api_tokens_beside_the_api_token(rig: ServiceRig, tmp_path: Path) -> None:
    seen = Seen(rig, "seen")
    chosen = {"BATON_ORGANIZATION": "seen", "BATON_SYNC_RESOURCE_TYPES": ",".join(WITH_TOKENS)}
    portal = {"BUILDKITE_PORTAL_SLUG": SLUG, "BUILDKITE_PORTAL_TOKEN": seen.token}
    code, said = await ended(rig, COMMAND, **chosen)
    assert (code, "api_token" in said, "BUILDKITE_PORTAL_SLUG" in said) == (2, True, True)
    async with rig.service(**chosen, **portal) as process:
        task = rig.c1.add_task()
        assert (await rig.c1.finished(task, PATIENCE)).success
        assert await process.stop() == 0
    [delivered] = rig.c1.ingested
    seen.check(delivered, tmp_path / "seen")


async def test_all_types_are_synced_and_expanded_where_the_flag_names_them(rig: ServiceRig) -> None:
    organization = access_organization(rig, "access")
    rig.buildkite.grant(Token(API_TOKEN, ACCESS_SCOPES))
    rig.confided.update(SECRETS)
    async with rig.service(
        COMMAND, "--sync-resource-types", ",".join(ALL_TYPES), BATON_ORGANIZATION="access"
    ) as process:
        task = rig.c1.add_task()
        assert (await rig.c1.finished(task, PATIENCE)).success
        await process.until_logged("snapshot delivered")
    [delivered] = rig.c1.ingested
    assert delivered.summary()["grants"] == {"organization": 5, "team": 6, "pipeline": 4 + 10, "cluster": 3 + 2}
    assert len(rig.buildkite.requests) == 2 + organization.requests_at(LARGEST_PAGE, ALL_TYPES)


async def test_a_task_in_hand_goes_back_at_sigterm_and_the_exit_code_is_0(rig: ServiceRig) -> None:
    rig.buildkite.fault(stall(after=None), path="/v2/organizations/acme-inc/teams", times=None)
    async with rig.service() as process:
        task = rig.c1.add_task()
        await process.until_logged("C1 asks for a sync")
        assert await process.stop(within=10.0) == 0
    handed_back = await rig.c1.finished(task)
    assert (handed_back.code, handed_back.non_retryable) == (Code.ABORTED, False)


async def test_a_client_that_c1_denies_ends_the_process_with_its_code(rig: ServiceRig) -> None:
    rig.c1.fail("Hello", "PERMISSION_DENIED", times=None)
    code, said = await ended(rig)
    assert code == Code.PERMISSION_DENIED
    (last,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "PERMISSION_DENIED" in last
    assert "replace the client ID" in last


async def test_without_a_client_id_one_file_is_written_and_the_command_ends(rig: ServiceRig) -> None:
    file = rig.temporary / "here.c1z"
    once = {"BATON_CLIENT_ID": "", "BATON_CLIENT_SECRET": "", "BATON_FILE": str(file)}
    idle = {"BATON_WORKERS": "4", "BATON_STORAGE_ENGINE": "pebble", "BATON_GET_TASKS": "true"}
    code, said = await ended(rig, **once, **idle)
    written = file.read_bytes()
    assert (code, written[:5]) == (0, b"C1ZF\0")
    assert "230 accounts, 9 teams, 450 memberships" in said
    warned = [json.loads(line)["settings"] for line in said.splitlines() if "settings have no effect" in line]
    assert warned == ["--workers, --storage-engine, BATON_GET_TASKS"]

    rig.buildkite.revoke()
    code, said = await ended(rig, **once)
    assert (code, said.count("error: "), file.read_bytes()) == (Code.UNAUTHENTICATED, 1, written)


@pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv", "mount"))),
    reason="needs root, and unshare, setpriv and mount, to confine a process",
)
async def test_an_arbitrary_user_without_a_home_on_a_read_only_root_needs_a_temporary_directory_alone(
    rig: ServiceRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [each for each in os.environ if each.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)  # its data would be written to the root
    probe = subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True)  # noqa: S607, ASYNC221
    if probe.returncode != 0:
        pytest.skip(f"this sandbox lets nobody unshare mounts: {probe.stderr.decode().strip()}")
    confined = ("unshare", "--mount", "--propagation", "private", "sh", str(CONFINED), str(rig.temporary), COMMAND)
    async with rig.service(*confined) as process:
        task = rig.c1.add_task()
        assert (await rig.c1.finished(task, PATIENCE)).success
        assert await process.stop() == 0
    assert rig.kept == [], "the directory that the process wrote to was its own"
    assert any(str(rig.temporary) in line for line in process.lines)
