"""`check` against set-ups that are broken, each in one way: the first line that is not ok names the cause and what to
do, the exit code is that of the cause, and no credential is in the output.
"""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from buildkite_connector.cli.check import State
from fakes.check_world import API_TOKEN, World
from simulators.buildkite.api import JSON_TYPE, Reply, Token, User
from simulators.buildkite.certificate import Certificate as BuildkiteCertificate
from simulators.buildkite.faults import Answer, answer, bad_gateway, redirect
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.quota import Limits
from simulators.c1.front import Certificate

OTHER_TOKEN = "bkua_" + "0ddba1" * 6 + "abcd"
NOBODY = "http://user:hunter22pass@127.0.0.1:1"
"""A proxy that does not run, with a password."""


@dataclass(frozen=True)
class Broken:
    """`line`: the first that is not ok; `says`: what stands in it. `code` 0: it only warns."""

    break_it: Callable[[World], object]
    line: str
    says: tuple[str, ...]
    code: int


def allow_scopes(*scopes: str) -> Callable[[World], object]:
    return lambda world: world.buildkite.grant(Token(API_TOKEN, scopes=scopes))


def without_teams(world: World) -> None:
    for team in world.buildkite.organization.teams.records:
        world.buildkite.organization.remove_team(team["id"])


def second_organization(world: World) -> None:
    other = make_organization(1, 0, 0, slug="other-inc")
    world.buildkite.api.organizations[other.slug] = other
    world.change(organization="")


def expires_in(**time: float) -> Callable[[World], object]:
    end = datetime.now(UTC) + timedelta(**time)
    return lambda world: world.buildkite.grant(Token(API_TOKEN, expires_at=end))


async def show(world: World, certificate: BuildkiteCertificate) -> None:
    await world.buildkite.pause()
    world.buildkite.certificate = certificate
    await world.buildkite.resume()


def secret_of_another(world: World) -> None:
    world.change(client_secret=world.c1.register_client().client_secret)


def proxy_for_buildkite(world: World, proxy: str) -> None:
    """A loopback address is never reached through a proxy."""
    world.set_variables(HTTPS_PROXY=proxy)
    world.change(api_url="https://api.buildkite.com/v2")


def proxy_for_c1(world: World, proxy: str) -> None:
    world.set_variables(HTTPS_PROXY=proxy)
    world.change_c1(api_host="acme.conductor.one")


def damage_one_certificate(world: World) -> None:
    file = Path(world.settings.environment["SSL_CERT_FILE"])
    file.write_text(f"-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----\n{file.read_text()}")


def allow_hosts(world: World, address: str | None) -> None:
    """Nobody listed hosts; the client ID leads to `address`."""
    client = world.c1.register_client(address)
    world.change(client_id=client.client_id, client_secret=client.client_secret, hosts_listed=False)
    world.change_c1(allowed_hosts="*.conductor.one")


def login_page(status: int) -> Answer:
    return Answer(Reply(status, b"<!DOCTYPE html><title>Sign in</title>", {"Content-Type": "text/html; charset=utf-8"}))


BROKEN = {
    "no token": Broken(
        lambda world: world.change(api_token=""), "buildkite.settings", ("BATON_API_TOKEN", "API Access Tokens"), 3
    ),
    "a token with a line break": Broken(
        lambda world: world.change(api_token=f"{API_TOKEN}\nmore"), "buildkite.settings", ("line break",), 3
    ),
    "a token in quotation marks": Broken(
        lambda world: world.change(api_token=f"'{API_TOKEN}'"), "buildkite.settings", ("quotation marks",), 3
    ),
    "an agent token": Broken(
        lambda world: world.change(api_token=f"bkct_{'a' * 40}"), "buildkite.settings", ("agent token",), 3
    ),
    "a token that is still encoded": Broken(
        lambda world: world.change(api_token=b64encode(API_TOKEN.encode()).decode()),
        "buildkite.settings",
        ("base64-encoded",),
        3,
    ),
    "a client secret of an env file": Broken(
        lambda world: world.change(client_secret=f"BATON_CLIENT_SECRET={world.settings.client_secret}"),
        "c1.client_secret",
        ("a line of an env file",),
        3,
    ),
    "plain http": Broken(
        lambda world: world.change(api_url="http://api.buildkite.com/v2"),
        "buildkite.settings",
        ("BUILDKITE_API_URL", "loopback"),
        3,
    ),
    "no such CA file": Broken(
        lambda world: world.set_variables(SSL_CERT_FILE="/nowhere/ca.pem"),
        "certificates",
        ("SSL_CERT_FILE", "/nowhere/ca.pem", "Correct"),
        3,
    ),
    "a CA file without a certificate": Broken(
        lambda world: world.set_variables(SSL_CERT_FILE=__file__), "certificates", ("SSL_CERT_FILE", __file__), 3
    ),
    "no such CA directory": Broken(
        lambda world: world.set_variables(SSL_CERT_DIR="/nowhere"), "certificates", ("SSL_CERT_DIR", "/nowhere"), 3
    ),
    "a broken certificate among good ones": Broken(
        damage_one_certificate, "certificates", ("SSL_CERT_FILE", "1 cannot be read and do not count"), 0
    ),
    "wrong token": Broken(
        lambda world: world.change(api_token=OTHER_TOKEN),
        "buildkite.token",
        ("does not accept the API token", "replace this one"),
        16,
    ),
    "revoked token": Broken(lambda world: world.buildkite.revoke(), "buildkite.token", ("revoked",), 16),
    "expired token": Broken(expires_in(days=-1), "buildkite.token", ("expired",), 16),
    "token that expires soon": Broken(
        expires_in(days=3, hours=1), "buildkite.expiry", ("in 3 days", "Make another"), 0
    ),
    "address not allowed": Broken(
        lambda world: world.buildkite.fault(
            answer(403, {"message": "Your IP address is not allowed"}), path="/v2/access-token", skip=1, times=None
        ),
        "buildkite.token",
        ("IP address", "allowed IP addresses"),
        7,
    ),
    "no scope read_organizations": Broken(
        allow_scopes("read_teams", "read_user"),
        "buildkite.scope.read_organizations",
        ("lacks the scope read_organizations", "tick read_organizations"),
        7,
    ),
    "no scope read_teams": Broken(
        allow_scopes("read_organizations", "read_user"),
        "buildkite.scope.read_teams",
        ("lacks the scope read_teams", "tick read_teams"),
        7,
    ),
    "unknown organization": Broken(
        lambda world: world.change(organization="acme"), "buildkite.organization", ("'acme'", "acme-inc"), 9
    ),
    "organization not in the token's access": Broken(
        lambda world: world.buildkite.grant(Token(API_TOKEN, organizations=frozenset())),
        "buildkite.organization",
        ("Create a new API token",),
        9,
    ),
    "two organizations and no choice": Broken(
        second_organization, "buildkite.organization", ("BATON_ORGANIZATION", "other-inc"), 9
    ),
    "teams disabled": Broken(without_teams, "buildkite.teams", ("teams are not enabled", "Organization Settings"), 0),
    "owner no admin": Broken(
        lambda world: world.buildkite.grant(Token(API_TOKEN, user=User(admin=False))),
        "buildkite.owner",
        ("no administrator", "secret teams", "Make the token as an administrator"),
        0,
    ),
    "Buildkite unreachable": Broken(
        lambda world: world.buildkite.pause(), "buildkite.connection", ("[Errno 111]", "Check the network"), 14
    ),
    "Buildkite's certificate expired": Broken(
        lambda world: show(world, BuildkiteCertificate.EXPIRED), "buildkite.connection", ("expired",), 14
    ),
    "Buildkite's certificate of an unknown CA": Broken(
        lambda world: show(world, BuildkiteCertificate.UNTRUSTED), "buildkite.connection", ("SSL_CERT_FILE",), 14
    ),
    "a login page in place of Buildkite": Broken(
        lambda world: world.buildkite.fault(login_page(200), times=None),
        "buildkite.connection",
        ("200 in text/html", "Something other than Buildkite", "proxies in between"),
        14,
    ),
    "a page with 401 in place of Buildkite": Broken(
        lambda world: world.buildkite.fault(login_page(401), times=None), "buildkite.connection", ("text/html",), 14
    ),
    "a service that wants no token": Broken(
        lambda world: world.buildkite.fault(Answer(Reply(200, b"{}", JSON_TYPE)), times=None),
        "buildkite.connection",
        ("200 in application/json", "BUILDKITE_API_URL"),
        14,
    ),
    "a gateway that leads nowhere": Broken(
        lambda world: world.buildkite.fault(bad_gateway(), times=None), "buildkite.connection", ("502",), 14
    ),
    "a redirect to a portal": Broken(
        lambda world: world.buildkite.fault(redirect("https://portal.example/"), times=None),
        "buildkite.connection",
        ("302",),
        14,
    ),
    "rate limit used up": Broken(
        lambda world: setattr(world.buildkite.quota, "limits", Limits(user=0, organization=200)),
        "buildkite.token",
        ("rate limit",),
        14,
    ),
    "proxy of Buildkite broken": Broken(
        lambda world: proxy_for_buildkite(world, NOBODY),
        "buildkite.connection",
        ("[Errno 111]", "proxy 127.0.0.1:1", "HTTPS_PROXY"),
        14,
    ),
    "proxy's address malformed": Broken(
        lambda world: proxy_for_buildkite(world, "ftp://user:hunter22pass@proxy:80"),
        "proxies",
        ("HTTPS_PROXY is not like http://",),
        3,
    ),
    "password of the proxy not escaped": Broken(
        lambda world: proxy_for_buildkite(world, "http://svc:a:b/hunter22pass@host:9"),
        "proxies",
        ("HTTPS_PROXY is not like http://", "%2F"),
        3,
    ),
    "ALL_PROXY alone": Broken(
        lambda world: world.set_variables(ALL_PROXY="socks5://user:hunter22pass@proxy:1080"),
        "proxies",
        ("ALL_PROXY is set and is not read", "HTTPS_PROXY"),
        0,
    ),
    "HTTP_PROXY of another kind": Broken(
        lambda world: world.set_variables(HTTP_PROXY="socks5://user:hunter22pass@proxy:1080"),
        "proxies",
        ("HTTP_PROXY is an address with socks5://", "no plain http URL"),
        0,
    ),
    "malformed client ID": Broken(
        lambda world: world.change(client_id="brave-otter"), "c1.client_id", ("'@'", "Copy the client ID whole"), 3
    ),
    "no client ID": Broken(lambda world: world.change(client_id=""), "c1.client_id", ("BATON_CLIENT_ID",), 3),
    "malformed client secret": Broken(
        lambda world: world.change(client_secret=world.client.client_secret[:-9]),
        "c1.client_secret",
        ("client secret", "Copy the client secret whole"),
        3,
    ),
    "no client secret": Broken(
        lambda world: world.change(client_secret=""), "c1.client_secret", ("BATON_CLIENT_SECRET",), 3
    ),
    "C1's host not allowed": Broken(
        lambda world: world.change_c1(allowed_hosts="*.conductor.one"),
        "c1.host",
        ("BUILDKITE_CONNECTOR_C1_HOSTS", "*.conductor.one"),
        3,
    ),
    "C1's host allowed to service mode alone": Broken(
        lambda world: allow_hosts(world, None),
        "c1.host",
        ("leads to localhost", "BUILDKITE_CONNECTOR_C1_HOSTS lists it", "*.conductor.one"),
        0,
    ),
    "an address in the client ID": Broken(
        lambda world: allow_hosts(world, f"127.0.0.1:{world.c1.port}"), "c1.host", ("never an address",), 3
    ),
    "C1's host malformed": Broken(
        lambda world: world.change_c1(api_host="https://acme"), "c1.host", ("BATON_C1_API_HOST",), 3
    ),
    "C1 unreachable": Broken(
        lambda world: world.c1.close_port(), "c1.connection", ("could not be reached", "Check DNS, firewall"), 14
    ),
    "C1's certificate of an unknown CA": Broken(
        lambda world: world.c1.show_certificate(Certificate.UNTRUSTED), "c1.connection", ("SSL_CERT_FILE",), 14
    ),
    "C1's certificate expired": Broken(
        lambda world: world.c1.show_certificate(Certificate.EXPIRED), "c1.connection", ("expired",), 14
    ),
    "C1's certificate of another host": Broken(
        lambda world: world.c1.show_certificate(Certificate.OTHER_HOST), "c1.connection", ("ostname mismatch",), 14
    ),
    "proxy of C1 broken": Broken(
        lambda world: proxy_for_c1(world, NOBODY),
        "c1.connection",
        ("[Errno 111]", "proxy 127.0.0.1:1", "HTTPS_PROXY"),
        14,
    ),
    "proxy of another kind": Broken(
        lambda world: proxy_for_c1(world, "socks5://user:hunter22pass@proxy:1080"),
        "proxies",
        ("HTTPS_PROXY is an address with socks5://", "http://"),
        3,
    ),
    "secret of another client": Broken(
        secret_of_another, "c1.token", ("401 (invalid_client)", "rotate its credentials"), 16
    ),
    "client deleted in C1": Broken(
        lambda world: world.c1.authority.refuse(world.client.client_id), "c1.token", ("still exists in C1",), 16
    ),
    "token endpoint 503": Broken(
        lambda world: world.c1.answer_token(503, "down", "text/plain", times=None),
        "c1.token",
        ("answered 503 where 200 was expected", "check that the client ID's host"),
        14,
    ),
    "token endpoint answers garbage": Broken(
        lambda world: world.c1.answer_token(200, "<html>", times=None), "c1.token", ("other than a token",), 14
    ),
    "Hello denied": Broken(
        lambda world: world.c1.fail("Hello", "PERMISSION_DENIED", times=None),
        "c1.hello",
        ("PERMISSION_DENIED", "rotate its credentials"),
        7,
    ),
    "Hello unavailable": Broken(
        lambda world: world.c1.fail("Hello", "UNAVAILABLE", times=None), "c1.hello", ("UNAVAILABLE",), 14
    ),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_the_first_line_that_is_not_ok_names_the_cause(sound: World, name: str) -> None:
    broken = BROKEN[name]
    doing = broken.break_it(sound)
    if doing is not None:
        await doing  # type: ignore[misc]  # some are broken by a coroutine
    checked = await sound.check()
    line = checked.first_not_ok
    assert line.name == broken.line, checked.text
    for words in broken.says:
        assert words in line.message
    assert (line.state, checked.exit_code) == (State.FAILED if broken.code else State.WARNING, broken.code)
    key = sound.client.client_secret.rpartition(":")[2]
    for secret in (API_TOKEN, OTHER_TOKEN, key, key[:40], "hunter22pass"):
        assert secret not in checked.text


@pytest.mark.parametrize(("seconds", "way"), [(90, "ahead of"), (-90, "behind"), (-86_400, "behind")])
async def test_a_wrong_clock_is_the_cause_and_not_the_credentials(sound: World, seconds: float, way: str) -> None:
    sound.clock.off = timedelta(seconds=seconds)
    checked = await sound.check()
    assert (checked.first_not_ok.name, checked.first_not_ok.state) == ("buildkite.clock", State.WARNING)
    failed = checked.first_failed
    assert failed.name == "c1.clock"
    assert f"s {way} C1's" in failed.message
    assert "NTP" in failed.message
    assert checked.exit_code == 9
    assert checked.named("c1.token").state is State.SKIPPED
    assert sound.c1.calls("Token") == []


async def test_a_clock_within_a_minute_is_well(sound: World) -> None:
    sound.clock.off = timedelta(seconds=40)
    assert (await sound.check()).exit_code == 0


async def test_what_depends_on_a_failed_line_is_skipped_and_the_rest_is_checked(sound: World) -> None:
    sound.buildkite.revoke()
    checked = await sound.check()
    states = {finding.name: finding.state for finding in checked.findings}
    assert {name for name, state in states.items() if state is State.SKIPPED} == {
        "buildkite.expiry",
        "buildkite.scope.read_organizations",
        "buildkite.scope.read_teams",
        "buildkite.organization",
        "buildkite.accounts",
        "buildkite.owner",
        "buildkite.teams",
    }
    assert states["c1.hello"] is State.OK
    assert checked.named("buildkite.owner").message == "needs: Accounts"


async def test_an_answer_that_repeats_the_token_is_shown_without_it(sound: World) -> None:
    organization = sound.buildkite.organization
    sound.buildkite.api.organizations[organization.slug] = replace(organization, name=f"\x1b[31m{API_TOKEN}")
    checked = await sound.check()
    assert API_TOKEN not in checked.text
    assert "\x1b" not in checked.text
    assert "[redacted]" in checked.named("buildkite.organization").message
