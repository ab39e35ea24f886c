"""Every command in a company's network, at the real addresses: `https://api.buildkite.com/v2` and a tenant of C1.

Each test starts processes, so there are few; `unit/network/test_clients.py` has the forms of each variable.
"""

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.command import Ended, run
from harness.company_network import BUILDKITE, PASSWORD, TENANT, CompanyNetwork, company_network
from harness.kubernetes_apis import simulated_api
from harness.rig import COMMAND, OperatorProcess, Rig
from scenarios.secrecy import find_leaks
from simulators.forward_proxy import Mode

TUNNELS = {f"{BUILDKITE}:443", f"{TENANT}:443"}


@pytest.fixture
async def company() -> AsyncIterator[CompanyNetwork]:
    async with company_network() as network:
        yield network


@pytest.fixture(params=[Mode.TUNNEL, Mode.INTERCEPT])
def variables(company: CompanyNetwork, request: pytest.FixtureRequest) -> dict[str, str]:
    """Of a proxy that tunnels, and of one that looks into TLS."""
    company.proxy.mode = request.param
    looks_in = company.proxy.mode is Mode.INTERCEPT
    return company.environment(**{"SSL_CERT_FILE": str(company.proxy_ca_file)} if looks_in else {})


def service_of(company: CompanyNetwork, variables: dict[str, str]) -> OperatorProcess:
    return OperatorProcess(variables, command=(COMMAND,), ready="the service is ready", inherits=False, forked=True)


@contextlib.asynccontextmanager
async def operating(company: CompanyNetwork, variables: dict[str, str]) -> AsyncIterator[tuple[Rig, OperatorProcess]]:
    """An operator with one connector, whose Secret is the company's."""
    kept = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
    async with simulated_api() as kubernetes, Rig(kubernetes, "default") as rig:
        rig.forks = True
        settings: dict[str, Any] = {name: variables[name] for name in kept}
        operator = rig.operator(
            *("--log-level", "debug"),
            BUILDKITE_API_URL=f"https://{BUILDKITE}/v2",
            BUILDKITE_CONNECTOR_C1_HOSTS="*.conductor.one",
            **settings,
        )
        async with operator:
            client = {"BATON_CLIENT_ID": company.client.client_id, "BATON_CLIENT_SECRET": company.client.client_secret}
            await rig.apply(rig.secret(**client), rig.connector())
            yield rig, operator
        assert find_leaks(company, operator.lines) == []


async def test_sync_writes_its_file(company: CompanyNetwork, variables: dict[str, str]) -> None:
    file = company.folder / "acme.c1z"
    ended = await run("sync", "--file", str(file), **variables)
    assert (ended.code, ended.err) == (0, "")
    assert file.stat().st_size > 0
    assert set(company.proxy.asked) == {f"{BUILDKITE}:443"}


async def test_check_is_ok_in_every_line(company: CompanyNetwork, variables: dict[str, str]) -> None:
    ended = await run("check", **variables)
    assert ended.code == 0, ended.out
    assert f"{company.proxy.address} (HTTPS_PROXY)" in ended.out
    assert f"https://{BUILDKITE}/v2 answers through the proxy {company.proxy.address}, in" in ended.out
    assert f"{TENANT}:443 answers over TLS through the proxy {company.proxy.address}, in" in ended.out
    assert set(company.proxy.asked) == TUNNELS


async def test_the_service_delivers(company: CompanyNetwork, variables: dict[str, str]) -> None:
    task = company.c1.add_task()
    async with service_of(company, variables) as process:
        assert (await company.c1.finished(task)).success
    assert set(company.proxy.asked) == TUNNELS
    assert find_leaks(company, process.lines) == []


async def test_the_operator_delivers(company: CompanyNetwork, variables: dict[str, str]) -> None:
    async with operating(company, variables) as (rig, _):
        await rig.until_condition("Ready", "True")
        task = company.c1.add_task()
        assert (await company.c1.finished(task)).success
    assert set(company.proxy.asked) == TUNNELS


REFUSED = "refused a tunnel to api.buildkite.com with 403 Forbidden. Have the proxy allow api.buildkite.com"


async def test_what_the_proxy_forbids_is_said_to_be_the_proxys_by_every_command(company: CompanyNetwork) -> None:
    company.proxy.mode = Mode.FORBID
    said = f"the proxy {company.proxy.address} (HTTPS_PROXY) {REFUSED}"
    variables = company.environment()
    synced, checked = (
        await run("sync", "--file", str(company.folder / "x.c1z"), **variables),
        await run("check", **variables),
    )
    assert synced.code == 1
    assert synced.err.startswith("error: ")
    assert said in synced.err
    assert company.proxy.asked.count(f"{BUILDKITE}:443") == 2  # once each: what is forbidden stays so
    assert checked.code == 14
    assert said in checked.out
    async with service_of(company, variables) as process:
        await process.until_logged("condition changed", said)
    async with operating(company, variables) as (rig, operator):
        found = await rig.until_condition("Ready", "False", "BuildkiteUnreachable")
        assert said in found["message"]
    assert find_leaks(company, [synced.err, checked.out, *process.lines, *operator.lines, found["message"]]) == []


async def test_inspection_without_http_2_is_called_that_by_check_and_operator(company: CompanyNetwork) -> None:
    company.proxy.mode = Mode.INTERCEPT_HTTP1
    variables = company.environment(SSL_CERT_FILE=str(company.proxy_ca_file))
    said = (
        "(a proxy or gateway supports only HTTP/1.1, but gRPC needs HTTP/2). "
        f"Exempt {TENANT} from TLS inspection by the proxy {company.proxy.address} (HTTPS_PROXY)"
    )
    checked = await run("check", **variables)
    assert checked.code == 14
    assert said in checked.out
    async with operating(company, variables) as (rig, _):
        found = await rig.until_condition("Ready", "False", "C1Unreachable")
        assert said in found["message"]


# What cannot be used ends every command

Make = Callable[[Path, CompanyNetwork], str]


def file_of(content: Callable[[bytes], bytes]) -> Make:
    def make(folder: Path, company: CompanyNetwork) -> str:
        file = folder / "named.pem"
        file.write_bytes(content(company.ca_file.read_bytes()))
        return str(file)

    return make


def in_der(pem: bytes) -> bytes:
    end = "-----END CERTIFICATE-----\n"
    return ssl.PEM_cert_to_DER_cert(pem.decode().partition(end)[0] + end)


BROKEN: dict[str, tuple[str, Make, str]] = {
    "a proxy of another kind": (
        "HTTPS_PROXY",
        lambda *_: f"socks5://svc:{PASSWORD}@proxy.example:1080",
        "HTTPS_PROXY starts with socks5://, but only HTTP proxies",
    ),
    "a password that is not escaped": (
        "HTTPS_PROXY",
        lambda *_: f"http://svc:a:b/{PASSWORD}@proxy.example:9",
        "HTTPS_PROXY is not like http://[user:password@]host:port",
    ),
    "no such file": ("SSL_CERT_FILE", lambda *_: "/nowhere/ca.pem", "SSL_CERT_FILE names /nowhere/ca.pem, but no such"),
    "an empty file": ("SSL_CERT_FILE", file_of(lambda _: b""), "named.pem, which is empty"),
    "a folder": ("SSL_CERT_FILE", lambda folder, _: str(folder), "which is a directory: set SSL_CERT_DIR for"),
    "DER": ("SSL_CERT_FILE", file_of(in_der), "named.pem, which is in DER: convert it with `openssl x509"),
    "no such folder": ("SSL_CERT_DIR", lambda *_: "/nowhere", "SSL_CERT_DIR names /nowhere, but no such directory"),
}
COMMANDS: dict[str, tuple[str, ...]] = {
    "sync": ("sync", "--file", "never.c1z"),
    "check": ("check",),
    "the vendor's service": (),
    "service": ("service",),
    "operator": ("operator", "--namespace", "default"),
}


ONE_OF_EACH = ("a password that is not escaped", "no such file")


@pytest.mark.parametrize(
    ("command", "broken"),
    [
        *(("sync", form) for form in BROKEN),
        *((each, form) for each in COMMANDS if each != "sync" for form in ONE_OF_EACH),
    ],
)
async def test_a_variable_that_cannot_be_used_is_one_sentence_and_code_3(
    company: CompanyNetwork, command: str, broken: str, tmp_path: Path
) -> None:
    variable, make, sentence = BROKEN[broken]
    variables = company.environment(KUBECONFIG=str(tmp_path / "kubeconfig"))
    variables.pop(variable.upper(), None)
    ended: Ended = await run(*COMMANDS[command], **variables, **{variable: make(tmp_path, company)})
    assert ended.code == 3, ended.err + ended.out
    if command == "check":
        (said,) = [line for line in ended.out.splitlines() if line.startswith("failed")]
    else:
        (said,) = ended.err.splitlines()
        assert said.startswith("error: ")
    assert sentence in said
    assert PASSWORD not in ended.out + ended.err
    assert company.proxy.asked == []
    assert not Path("never.c1z").exists()
