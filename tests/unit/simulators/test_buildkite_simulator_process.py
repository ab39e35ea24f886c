"""The Buildkite simulator as a command in a process of its own, and how it is driven from outside."""

import asyncio
import json
import signal
import ssl
import sys
from pathlib import Path

import httpx
import pytest

from buildkite_connector.buildkite.portal_document import MEMBERS, portal_document
from harness.forked_command import fork_command, simulator_environment
from harness.trust import plain_client
from simulators.buildkite.api import ACCESS_SCOPES, Token
from simulators.buildkite.control import BuildkiteProcess
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.writes import UndeclaredWritesError

AUTHORIZED = {"Authorization": f"Bearer {Token().value}"}


def client(sim: BuildkiteProcess, authorization: dict[str, str] = AUTHORIZED) -> httpx.AsyncClient:
    return plain_client(sim.url, headers=authorization)


def forked(*arguments: str) -> BuildkiteProcess:
    """Ready sooner than one that is started."""
    return BuildkiteProcess(*arguments, begin=fork_command)


async def test_the_command_serves_a_document_with_the_token_and_limits_given(tmp_path: Path) -> None:
    made = make_organization(4, 1, 3, slug="from-file")
    data = tmp_path / "organization.json"
    data.write_text(json.dumps(made.document()), encoding="utf-8")
    token = "bkua_" + "c" * 40
    arguments = f"--token {token} --scopes read_organizations --user-limit 2 --window 30 --port 0".split()
    async with (
        BuildkiteProcess("--data", str(data), *arguments) as sim,
        client(sim, {"Authorization": f"Bearer {token}"}) as http,
    ):
        members = await http.get("/organizations/from-file/members")
        forbidden = await http.get("/organizations/from-file/teams")
        refused = await http.get("/user")
    assert members.json() == list(made.members.records)
    assert members.headers["RateLimit-User-Reset"] == "30"
    assert forbidden.status_code == 403
    assert refused.status_code == 429
    assert sim.returncode == 0


async def test_the_command_serves_made_pipelines_and_clusters_and_tells_what_they_cost_at_least() -> None:
    sizes = "--accounts 4 --teams 2 --memberships 3 --pipelines 150 --team-pipelines 101 --clusters 4"
    scopes = ("--scopes", ",".join(ACCESS_SCOPES))
    async with forked(*sizes.split(), "--clusters-list-maintainers", *scopes) as sim, client(sim) as http:
        clusters = (await http.get("/organizations/synthetic/clusters")).json()
        pipelines = await http.get("/organizations/synthetic/pipelines?per_page=100&page=2")
        least = [
            (await sim.stats(kinds))["organizations"]["synthetic"]["minimum_requests"]
            for kinds in (("user", "team"), ("user", "team", "pipeline"), ("user", "cluster"))
        ]
    assert [bool(each["maintainers"]["users"]) for each in clusters] == [True, True, True, False]
    assert len(pipelines.json()) == 50
    assert least == [1 + 1 + 2, 1 + 1 + 2 + 2 + 2, 1 + 1 + 1]


async def test_the_command_serves_a_portal_that_stores_the_document_given(tmp_path: Path) -> None:
    document = tmp_path / "portal.graphql"
    document.write_text(portal_document(), encoding="utf-8")
    portal = ("--accounts", "2", "--organization", "acme", "--portal-document", str(document))
    variables = {"organization": "acme", "first": 1, "after": None}
    async with forked(*portal, "--portal", "c1", "--portal-token", "t", "--portal-limit", "1") as sim:
        address = f"{sim.url.removesuffix('/v2')}/portal/organizations/acme/portals/c1?operation_name={MEMBERS}"
        async with plain_client(headers={"Authorization": "Bearer t"}) as http:
            answers = [await http.post(address, json=variables) for _ in range(2)]
    assert len(answers[0].json()["data"]["organization"]["members"]["edges"]) == 1
    assert answers[1].status_code == 429
    assert sim.returncode == 0
    with pytest.raises(RuntimeError, match="ended with 1 before it was ready"):
        async with forked(*portal, "--no-machine-users"):
            pass


async def test_a_running_command_obeys_its_control() -> None:
    async with forked("--accounts", "2", "--organization", "acme") as sim, client(sim) as http:
        await sim.control("fault", effect="answer", arguments={"status": 418, "document": None}, path="/v2/user")
        assert [(await http.get("/user")).status_code for _ in range(2)] == [418, 200]
        await sim.control("fault", effect="server_error", times=None)
        await sim.control("clear_faults")
        await sim.control("reset_counts")
        assert (await http.get("/user")).status_code == 200
        assert (await sim.stats())["requests"] == 1


async def test_a_process_that_was_written_to_undeclared_fails_at_its_end() -> None:
    with pytest.raises(UndeclaredWritesError):
        async with forked("--accounts", "1") as sim, client(sim) as http:
            await http.delete("/user")


async def test_an_order_that_makes_no_sense_is_refused_with_a_sentence() -> None:
    async with forked("--accounts", "1") as sim:
        for order, arguments, complaint in (
            ("dance", {}, "one of fault, clear_faults"),
            ("fault", {"effect": "flood"}, "unknown effect 'flood'; there are server_error"),
            ("fault", {"effect": "slow", "arguments": {"minutes": 1}}, "minutes"),
        ):
            with pytest.raises(ValueError, match=complaint):
                await sim.control(order, **arguments)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_command_quietly(number: signal.Signals, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    words = (sys.executable, "-m", "simulators.buildkite", "--tls", "valid", "--ca-file", str(ca_file))
    process = await fork_command(words, simulator_environment(), errors=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        url = (await process.stdout.readline()).decode().strip()
        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=ca_file), trust_env=False) as session:
            assert (await session.get(f"{url}/user")).status_code == 401
        process.send_signal(number)
        async with asyncio.timeout(10):
            output, complaints = await process.stdout.read(), await process.stderr.read()
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert url.startswith("https://127.0.0.1:")
    assert (code, output, complaints) == (0, b"", b"")


async def test_a_command_that_cannot_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="ended with 2 before it was ready"):
        async with forked("--accounts", "many"):
            pass
