"""`check` against set-ups that are broken, each in one way: the first line that is not ok names the cause and what to
do, the exit code is that of the cause, and no credential is in the output.
"""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from buildkite_connector.cli.findings import State
from fakes.check_setup import API_TOKEN, Setup
from simulators.buildkite.api import JSON_TYPE, Reply, Token, User
from simulators.buildkite.certificate import Certificate as BuildkiteCertificate
from simulators.buildkite.faults import Answer, Effect, answer, bad_gateway, redirect
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.quota import Limits
from simulators.c1.front import Certificate

OTHER_TOKEN = "bkua_" + "0ddba1" * 6 + "abcd"
NOBODY = "http://user:hunter22pass@127.0.0.1:1"
"""A proxy that does not run, with a password."""
SOCKS = "socks5://user:hunter22pass@proxy:1080"


Break = Callable[[Setup], object]
"""Changes a sound set-up; some return a coroutine."""


def change(**settings: object) -> Break:
    return lambda setup: setup.change(**settings)


def change_c1(**settings: object) -> Break:
    return lambda setup: setup.change_c1(**settings)


def variables(**environment: str) -> Break:
    return lambda setup: setup.set_variables(**environment)


def token(**attributes: Any) -> Break:
    return lambda setup: setup.buildkite.grant(Token(API_TOKEN, **attributes))


def scopes(*names: str) -> Break:
    return token(scopes=names)


def expires_in(**time: float) -> Break:
    return token(expires_at=datetime.now(UTC) + timedelta(**time))


def answering(effect: Effect, **where: Any) -> Break:
    return lambda setup: setup.buildkite.fault(effect, times=None, **where)


def login_page(status: int) -> Answer:
    return Answer(Reply(status, b"<!DOCTYPE html><title>Sign in</title>", {"Content-Type": "text/html; charset=utf-8"}))


def show(certificate: BuildkiteCertificate) -> Break:
    async def restart(setup: Setup) -> None:
        await setup.buildkite.pause()
        setup.buildkite.certificate = certificate
        await setup.buildkite.resume()

    return restart


def without_teams(setup: Setup) -> None:
    for team in setup.buildkite.organization.teams.records:
        setup.buildkite.organization.remove_team(team["id"])


def second_organization(setup: Setup) -> None:
    other = make_organization(1, 0, 0, slug="other-inc")
    setup.buildkite.api.organizations[other.slug] = other
    setup.change(organization="")


def proxy_for_buildkite(proxy: str) -> Break:
    """A loopback address is never reached through a proxy."""

    def set_proxy(setup: Setup) -> None:
        setup.set_variables(HTTPS_PROXY=proxy)
        setup.change(api_url="https://api.buildkite.com/v2")

    return set_proxy


def proxy_for_c1(proxy: str) -> Break:
    def set_proxy(setup: Setup) -> None:
        setup.set_variables(HTTPS_PROXY=proxy)
        setup.change_c1(api_host="acme.conductor.one")

    return set_proxy


def damage_one_certificate(setup: Setup) -> None:
    file = Path(setup.settings.environment["SSL_CERT_FILE"])
    file.write_text(f"-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----\n{file.read_text()}")


def allow_hosts(setup: Setup, address: str | None) -> None:
    """Nobody listed hosts; the client ID leads to `address`."""
    client = setup.c1.register_client(address)
    setup.change(client_id=client.client_id, client_secret=client.client_secret, hosts_listed=False)
    setup.change_c1(allowed_hosts="*.conductor.one")


def secret_of_another(setup: Setup) -> None:
    setup.change(client_secret=setup.c1.register_client().client_secret)


def c1_shows(certificate: Certificate) -> Break:
    return lambda setup: setup.c1.show_certificate(certificate)


def c1_fails(method: str, code: str) -> Break:
    return lambda setup: setup.c1.fail(method, code, times=None)


def token_endpoint(status: int, body: str, kind: str = "application/json") -> Break:
    return lambda setup: setup.c1.answer_token(status, body, kind, times=None)


# fmt: off
BROKEN: dict[str, list[tuple[Any, ...]]] = {
    "buildkite.settings": [
        ("no token", change(api_token=""), 3, "BATON_API_TOKEN", "API Access Tokens"),
        ("a token with a line break", change(api_token=f"{API_TOKEN}\nmore"), 3, "line break"),
        ("a token in quotation marks", change(api_token=f"'{API_TOKEN}'"), 3, "quotation marks"),
        ("an agent token", change(api_token=f"bkct_{'a' * 40}"), 3, "agent token"),
        ("a token that is still encoded", change(api_token=b64encode(API_TOKEN.encode()).decode()), 3,
         "base64-encoded"),
        ("plain http", change(api_url="http://api.buildkite.com/v2"), 3, "BUILDKITE_API_URL", "loopback"),
    ],
    "c1.client_secret": [
        ("a client secret of an env file",
         lambda setup: setup.change(client_secret=f"BATON_CLIENT_SECRET={setup.settings.client_secret}"), 3,
         "a line of an env file"),
        ("malformed client secret", lambda setup: setup.change(client_secret=setup.client.client_secret[:-9]), 3,
         "client secret", "Copy the client secret whole"),
        ("no client secret", change(client_secret=""), 3, "BATON_CLIENT_SECRET"),
    ],
    "certificates": [
        ("no such CA file", variables(SSL_CERT_FILE="/nowhere/ca.pem"), 3, "SSL_CERT_FILE", "/nowhere/ca.pem",
         "Correct"),
        ("a CA file without a certificate", variables(SSL_CERT_FILE=__file__), 3, "SSL_CERT_FILE", __file__),
        ("no such CA directory", variables(SSL_CERT_DIR="/nowhere"), 3, "SSL_CERT_DIR", "/nowhere"),
        ("a broken certificate among good ones", damage_one_certificate, 0, "SSL_CERT_FILE",
         "cannot be read (1 ignored)"),
    ],
    "buildkite.token": [
        ("wrong token", change(api_token=OTHER_TOKEN), 16, "does not accept the API token", "replace this one"),
        ("revoked token", lambda setup: setup.buildkite.revoke(), 16, "revoked"),
        ("expired token", expires_in(days=-1), 16, "expired"),
        ("address not allowed",
         answering(answer(403, {"message": "Your IP address is not allowed"}), path="/v2/access-token", skip=1), 7,
         "IP address", "allowed IP addresses"),
        ("rate limit used up", lambda setup: setattr(setup.buildkite.quota, "limits", Limits(user=0, organization=200)),
         14, "rate limit"),
    ],
    "buildkite.expiry": [
        ("token that expires soon", expires_in(days=3, hours=1), 0, "in 3 days", "Create a new one"),
    ],
    "buildkite.scope.read_organizations": [
        ("no scope read_organizations", scopes("read_teams", "read_user"), 7, "lacks the scope read_organizations",
         "select read_organizations"),
    ],
    "buildkite.scope.read_teams": [
        ("no scope read_teams", scopes("read_organizations", "read_user"), 7, "lacks the scope read_teams",
         "select read_teams"),
    ],
    "buildkite.organization": [
        ("unknown organization", change(organization="acme"), 9, "'acme'", "acme-inc"),
        ("organization not in the token's access", token(organizations=frozenset()), 9, "Create a new API token"),
        ("two organizations and no choice", second_organization, 9, "BATON_ORGANIZATION", "other-inc"),
    ],
    "buildkite.teams": [
        ("teams disabled", without_teams, 0, "teams are not enabled", "Organization Settings"),
    ],
    "buildkite.owner": [
        ("owner no admin", token(user=User(admin=False)), 0, "not an administrator", "secret teams",
         "use an administrator's token, or accept this"),
    ],
    "buildkite.connection": [
        ("Buildkite unreachable", lambda setup: setup.buildkite.pause(), 14, "[Errno 111]", "Check the network"),
        ("Buildkite's certificate expired", show(BuildkiteCertificate.EXPIRED), 14, "expired"),
        ("Buildkite's certificate of an unknown CA", show(BuildkiteCertificate.UNTRUSTED), 14, "SSL_CERT_FILE"),
        ("a login page in place of Buildkite", answering(login_page(200)), 14, "200 in text/html",
         "Something other than Buildkite", "proxies in between"),
        ("a page with 401 in place of Buildkite", answering(login_page(401)), 14, "text/html"),
        ("a service that wants no token", answering(Answer(Reply(200, b"{}", JSON_TYPE))), 14,
         "200 in application/json", "BUILDKITE_API_URL"),
        ("a gateway that leads nowhere", answering(bad_gateway()), 14, "502"),
        ("a redirect to a portal", answering(redirect("https://portal.example/")), 14, "302"),
        ("proxy of Buildkite broken", proxy_for_buildkite(NOBODY), 14, "[Errno 111]", "proxy 127.0.0.1:1",
         "HTTPS_PROXY"),
    ],
    "proxies": [
        ("proxy's address malformed", proxy_for_buildkite("ftp://user:hunter22pass@proxy:80"), 3,
         "HTTPS_PROXY is not like http://"),
        ("password of the proxy not escaped", proxy_for_buildkite("http://svc:a:b/hunter22pass@host:9"), 3,
         "HTTPS_PROXY is not like http://", "%2F"),
        ("ALL_PROXY alone", variables(ALL_PROXY=SOCKS), 0, "ALL_PROXY is not supported", "HTTPS_PROXY"),
        ("HTTP_PROXY of another kind", variables(HTTP_PROXY=SOCKS), 0, "HTTP_PROXY starts with socks5://",
         "no plain http URL"),
        ("proxy of another kind", proxy_for_c1(SOCKS), 3, "HTTPS_PROXY starts with socks5://", "http://"),
    ],
    "c1.client_id": [
        ("malformed client ID", change(client_id="brave-otter"), 3, "'@'", "Copy the client ID whole"),
        ("no client ID", change(client_id=""), 3, "BATON_CLIENT_ID"),
    ],
    "c1.host": [
        ("C1's host not allowed", change_c1(allowed_hosts="*.conductor.one"), 3, "BUILDKITE_CONNECTOR_C1_HOSTS",
         "*.conductor.one"),
        ("C1's host allowed to service mode alone", lambda setup: allow_hosts(setup, None), 0, "points to localhost",
         "BUILDKITE_CONNECTOR_C1_HOSTS lists it", "*.conductor.one"),
        ("an address in the client ID", lambda setup: allow_hosts(setup, f"127.0.0.1:{setup.c1.port}"), 3,
         "IP addresses are never allowed"),
        ("C1's host malformed", change_c1(api_host="https://acme"), 3, "BATON_C1_API_HOST"),
    ],
    "c1.connection": [
        ("C1 unreachable", lambda setup: setup.c1.close_port(), 14, "could not be reached", "Check DNS, firewall"),
        ("C1's certificate of an unknown CA", c1_shows(Certificate.UNTRUSTED), 14, "SSL_CERT_FILE"),
        ("C1's certificate expired", c1_shows(Certificate.EXPIRED), 14, "expired"),
        ("C1's certificate of another host", c1_shows(Certificate.OTHER_HOST), 14, "ostname mismatch"),
        ("proxy of C1 broken", proxy_for_c1(NOBODY), 14, "[Errno 111]", "proxy 127.0.0.1:1", "HTTPS_PROXY"),
    ],
    "c1.token": [
        ("secret of another client", secret_of_another, 16, "401 (invalid_client)", "rotate its credentials"),
        ("client deleted in C1", lambda setup: setup.c1.authority.refuse(setup.client.client_id), 16,
         "still exists in C1"),
        ("token endpoint 503", token_endpoint(503, "down", "text/plain"), 14, "answered 503 where 200 was expected",
         "check that the client ID's host"),
        ("token endpoint answers garbage", token_endpoint(200, "<html>"), 14, "other than a token"),
    ],
    "c1.hello": [
        ("Hello denied", c1_fails("Hello", "PERMISSION_DENIED"), 7, "PERMISSION_DENIED", "rotate its credentials"),
        ("Hello unavailable", c1_fails("Hello", "UNAVAILABLE"), 14, "UNAVAILABLE"),
    ],
}
# fmt: on
"""By the first line that is not ok: a name, how it is broken, the exit code (0: it only warns), what the line says."""
CASES = [pytest.param((line, *case), id=case[0]) for line, cases in BROKEN.items() for case in cases]


@pytest.mark.parametrize("case", CASES)
async def test_the_first_line_that_is_not_ok_names_the_cause(sound: Setup, case: tuple[Any, ...]) -> None:
    line, _, break_it, code, *says = case
    if line.startswith("buildkite."):  # whose lines come first
        sound.change(client_id="", client_secret="")
    doing = break_it(sound)
    if doing is not None:
        await doing
    checked = await sound.check()
    found = checked.first_not_ok
    assert found.name == line, checked.text
    assert [words for words in says if words not in found.message] == []
    assert (found.state, checked.exit_code) == (State.FAILED if code else State.WARNING, code)
    key = sound.client.client_secret.rpartition(":")[2]
    assert [each for each in (API_TOKEN, OTHER_TOKEN, key, key[:40], "hunter22pass") if each in checked.text] == []


@pytest.mark.parametrize(("seconds", "way"), [(90, "ahead of"), (-90, "behind"), (-86_400, "behind")])
async def test_a_wrong_clock_is_the_cause_and_not_the_credentials(sound: Setup, seconds: float, way: str) -> None:
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


async def test_a_clock_within_a_minute_is_well(sound: Setup) -> None:
    sound.clock.off = timedelta(seconds=40)
    assert (await sound.check()).exit_code == 0


async def test_what_depends_on_a_failed_line_is_skipped_and_the_rest_is_checked(sound: Setup) -> None:
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


async def test_without_certificates_nobody_is_connected_to(sound: Setup) -> None:
    sound.set_variables(SSL_CERT_FILE="/nowhere/ca.pem")
    checked = await sound.check()
    for name in ("buildkite.settings", "c1.host"):
        assert (checked.named(name).state, checked.named(name).message) == (State.SKIPPED, "needs: CA certificates")
    assert checked.named("c1.client_secret").state is State.OK


async def test_an_answer_that_repeats_the_token_is_shown_without_it(sound: Setup) -> None:
    organization = sound.buildkite.organization
    sound.buildkite.api.organizations[organization.slug] = replace(organization, name=f"\x1b[31m{API_TOKEN}")
    checked = await sound.check()
    assert API_TOKEN not in checked.text
    assert "\x1b" not in checked.text
    assert "[redacted]" in checked.named("buildkite.organization").message
