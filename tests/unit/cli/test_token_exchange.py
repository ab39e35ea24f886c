"""Token exchange on the command line: settings of service mode, `check`, and `token-exchange keys`."""

import json
import re
import resource
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from buildkite_connector.buildkite import BuildkiteSettings, SigningKey
from buildkite_connector.buildkite.settings import DEFAULT_EXCHANGE_URL as OF_SETTINGS
from buildkite_connector.cli.flags import DEFAULT_EXCHANGE_URL
from buildkite_connector.cli.settings import SettingError
from buildkite_connector.cli.vendor import one_file_settings
from buildkite_connector.model.spec import TokenExchange
from fakes.check_setup import Setup, setup
from fakes.exchange_setup import Registered, ec_pem, register
from harness.command import invoke, run
from simulators.buildkite import faults
from simulators.buildkite.api import ALL_SCOPES
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.server import BuildkiteSimulator, Config
from unit.cli.test_service_settings import found_in, settings

APP = {
    "BATON_API_TOKEN": "",
    "BATON_ORGANIZATION": "acme-inc",
    "BUILDKITE_TOKEN_EXCHANGE_CLIENT_ID": "0123456789abcdef0123",
    "BUILDKITE_TOKEN_EXCHANGE_PRIVATE_KEY": ec_pem(),
    "BUILDKITE_TOKEN_EXCHANGE_SUBJECT": "c1-sync@example.com",
}
EXCHANGE = TokenExchange("0123456789abcdef0123", ec_pem().strip(), "c1-sync@example.com")


# Settings


def test_an_app_takes_the_place_of_the_api_token() -> None:
    found = settings(**APP)
    assert (found.started_with.token_exchange, found.started_with.api_token) == (EXCHANGE, "")
    assert found.credentials().exchanges
    assert ec_pem()[40:80] not in repr(found)
    on_one_line = ec_pem().strip().replace("\n", "\\n")
    assert settings(**{**APP, "BUILDKITE_TOKEN_EXCHANGE_PRIVATE_KEY": on_one_line}).started_with == found.started_with
    one_file = one_file_settings(found_in(**APP, BATON_CLIENT_ID="", BATON_CLIENT_SECRET=""))
    assert (one_file.credentials.token_exchange, one_file.credentials.exchanges) == (EXCHANGE, True)
    assert ec_pem()[40:80] not in repr(one_file)


async def test_a_file_is_written_with_an_exchanged_token_and_no_error_names_the_person(tmp_path: Path) -> None:
    async with BuildkiteSimulator(Config((make_organization(3, 1, 2, slug="acme-inc"),))) as buildkite:
        registered = register(buildkite)
        subject = registered.exchange.subject
        written = ("--file", str(tmp_path / "sync.c1z"), "--write-api-token", "bkua_" + "0123abcd" * 5)
        variables = {
            "BUILDKITE_API_URL": buildkite.url,
            "BATON_ORGANIZATION": "acme-inc",
            "BUILDKITE_TOKEN_EXCHANGE_CLIENT_ID": registered.exchange.client_id,
            "BUILDKITE_TOKEN_EXCHANGE_PRIVATE_KEY": registered.exchange.private_key,
            "BUILDKITE_TOKEN_EXCHANGE_SUBJECT": subject,
            "BUILDKITE_TOKEN_EXCHANGE_URL": buildkite.exchange_url,
        }
        whole = await run(*written, **variables)
        buildkite.fault(
            faults.answer(403, {"message": f"{subject} of {registered.exchange.client_id} may not, nor {written[-1]}"}),
            times=None,
            path="/v2/organizations/acme-inc/members",
        )
        refused = await run(*written, **variables)
    assert (whole.code, whole.err) == (0, "")
    assert "3 accounts, 1 teams" in whole.out
    assert (refused.code, refused.out) == (7, "")
    assert "[redacted] of [redacted] may not, nor [redacted]" in refused.err


def test_the_endpoint_is_a_setting_with_the_documented_default() -> None:
    assert BuildkiteSettings().exchange_url == OF_SETTINGS == DEFAULT_EXCHANGE_URL
    url = "https://buildkite.example/oauth/token"
    assert settings(BUILDKITE_TOKEN_EXCHANGE_URL=url).buildkite.exchange_url == url


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"BATON_ORGANIZATION": ""}, "^--organization .*token exchange issues tokens for one organization"),
        ({"BUILDKITE_TOKEN_EXCHANGE_SUBJECT": ""}, "^--token-exchange-subject .*it is missing"),
        ({"BUILDKITE_TOKEN_EXCHANGE_SUBJECT": "hunter2"}, "^--token-exchange-subject .*neither an e-mail"),
        ({"BUILDKITE_TOKEN_EXCHANGE_CLIENT_ID": ""}, "^--token-exchange-client-id .*it is missing"),
        ({"BUILDKITE_TOKEN_EXCHANGE_PRIVATE_KEY": "hunter2"}, "^--token-exchange-private-key .*not a private key"),
        ({"BUILDKITE_TOKEN_EXCHANGE_PRIVATE_KEY": "x" * 8193}, "^--token-exchange-private-key .*8192 characters"),
        ({"BUILDKITE_TOKEN_EXCHANGE_URL": "http://example.com"}, "^--token-exchange-url.*plain http"),
        ({"BUILDKITE_API_URL": "http://example.com"}, "^--buildkite-api-url.*plain http"),
    ],
)
def test_what_cannot_work_is_refused_by_its_name(change: dict[str, str], expected: str) -> None:
    with pytest.raises(SettingError, match=expected) as raised:
        settings(**{**APP, **change})
    assert "hunter2" not in str(raised.value)


# check


@pytest.fixture
async def sound(tmp_path: Path) -> AsyncIterator[tuple[Setup, Registered]]:
    async with setup(tmp_path) as made:
        registered = register(made.buildkite)
        made.change(api_token="", token_exchange=registered.exchange, exchange_url=made.buildkite.exchange_url)
        yield made, registered


async def test_check_exchanges_a_token_and_goes_on_with_it(sound: tuple[Setup, Registered]) -> None:
    setup, _ = sound
    checked = await setup.check()
    assert checked.exit_code == 0, checked.text
    told = checked.named("buildkite.exchange").message
    assert told == "Buildkite issues tokens with the scopes read_organizations, read_teams"
    assert "an administrator" in checked.named("buildkite.owner").message
    assert not {"buildkite.token", "buildkite.expiry"} & {each.name for each in checked.findings}


async def test_check_names_the_subject_where_an_api_token_has_an_owner(sound: tuple[Setup, Registered]) -> None:
    setup, _ = sound
    organization = setup.buildkite.organization
    organization.update_member(organization.members.records[0]["id"], {"role": "member"})
    setup.buildkite.fault(faults.document([]), path="/v2/organizations/*/teams")
    checked = await setup.check()
    assert checked.exit_code == 0, checked.text
    owner, teams = (checked.named(f"buildkite.{name}").message for name in ("owner", "teams"))
    assert owner.startswith("The subject of the token exchange is not an administrator of the organization.")
    assert owner.endswith("Make the subject an administrator, choose an administrator as the subject, or accept this.")
    assert "or the subject of the token exchange cannot see any" in teams
    assert "API token" not in checked.text


async def test_check_says_what_the_endpoint_says(sound: tuple[Setup, Registered]) -> None:
    setup, registered = sound
    registered.app.grantable = ALL_SCOPES[:1]
    scope = await setup.check()
    setup.change(token_exchange=replace(registered.exchange, private_key=ec_pem(1)))
    key = await setup.check()
    setup.change(token_exchange=replace(registered.exchange, subject=""))
    setting = await setup.check()
    setup.change(token_exchange=registered.exchange, organization="")
    organization = await setup.check()
    told = [(each.first_failed.name, each.exit_code) for each in (scope, key, setting, organization)]
    assert told == [
        ("buildkite.exchange", 7),
        ("buildkite.exchange", 16),
        ("buildkite.settings", 3),
        ("buildkite.settings", 3),
    ]
    assert "lacks read_teams" in scope.first_failed.message
    assert "JWKS lacks the public key" in key.first_failed.message
    assert "--token-exchange-subject" in setting.first_failed.message
    for checked in (scope, key, setting, organization):
        assert registered.exchange.subject not in checked.text
        assert ec_pem().splitlines()[1] not in checked.text


# Keys


def keys(*arguments: object) -> tuple[int, str, str]:
    ended = invoke("token-exchange", "keys", *map(str, arguments))
    return ended.code, ended.out, ended.err


@pytest.mark.parametrize("algorithm", ["ES256", pytest.param("RS256", marks=pytest.mark.thorough)])
def test_a_key_pair_is_written_for_buildkite_and_for_kubernetes(tmp_path: Path, algorithm: str) -> None:
    code, out, err = keys("--out-dir", tmp_path, "--algorithm", algorithm, "--name", "acme")
    assert (code, err) == (0, "")
    files = sorted(tmp_path.iterdir())
    assert [each.name for each in files] == ["jwks.json", "private-key.pem", "secret.yaml"]
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}
    key = SigningKey.parse((tmp_path / "private-key.pem").read_text())
    assert json.loads((tmp_path / "jwks.json").read_text()) == {"keys": [key.public_jwk()]}
    assert key.algorithm == algorithm
    secret = yaml.safe_load((tmp_path / "secret.yaml").read_text())
    assert secret["metadata"] == {"name": "acme"}
    assert secret["stringData"]["BUILDKITE_TOKEN_EXCHANGE_PRIVATE_KEY"] == (tmp_path / "private-key.pem").read_text()
    assert set(secret["stringData"]) >= set(APP) - {"BATON_API_TOKEN"}
    assert key.key_id in out
    assert "Token Exchange Apps" in out
    assert not re.search("PRIVATE KEY-----", out)
    assert f"Then delete {tmp_path / 'secret.yaml'} and {tmp_path / 'private-key.pem'}, which contain the" in out


def test_only_the_files_that_are_named_are_written(tmp_path: Path) -> None:
    jwks, secret = tmp_path / "a", tmp_path / "b"
    assert keys("--jwks", jwks, "--secret", secret)[0] == 0
    assert sorted(tmp_path.iterdir()) == [jwks, secret]


def test_a_new_key_joins_the_old_one(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    keys("--jwks", old, "--secret", tmp_path / "1")
    assert keys("--jwks", new, "--secret", tmp_path / "2", "--old-jwks", old)[0] == 0
    before, after = (json.loads(each.read_text())["keys"] for each in (old, new))
    assert (after[:1], len({each["kid"] for each in after})) == (before, 2)


def test_a_new_key_comes_as_a_patch_that_empties_no_other_value(tmp_path: Path) -> None:
    keys("--jwks", tmp_path / "old", "--secret", tmp_path / "1")
    out = keys("--jwks", tmp_path / "new", "--secret", tmp_path / "2", "--old-jwks", tmp_path / "old")[1]
    secret = yaml.safe_load((tmp_path / "2").read_text())
    assert [*secret["stringData"]] == ["BUILDKITE_TOKEN_EXCHANGE_PRIVATE_KEY"]
    assert f"patch secret buildkite-credentials --patch-file {tmp_path / '2'}" in out
    assert "Fill in" not in out
    assert f"Then delete {tmp_path / '2'}, which contains the private key." in out


@pytest.mark.parametrize("existing", ["jwks.json", "private-key.pem", "secret.yaml"])
def test_no_file_is_overwritten_and_none_is_left_half_way(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("mine")
    code, out, err = keys("--out-dir", tmp_path)
    assert (code, out) == (2, "")
    assert "is not overwritten" in err
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [(existing, "mine")]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--out-dir", "nowhere"), "cannot be written"),
        (("--out-dir", ".", "--jwks", "x"), "names all files"),
        (("--jwks", "x"), "name a directory, or both files"),
        (("--jwks", "x", "--secret", "x"), "it exists already"),
        (("--jwks", "x", "--secret", "y", "--old-jwks", "none"), "it is not a JWKS"),
    ],
)
def test_what_cannot_be_written_is_refused(
    arguments: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = keys(*arguments)
    assert (code, says in " ".join(err.replace("│", " ").split())) == (2, True)
    assert [*tmp_path.iterdir()] == []


def test_what_is_half_written_is_removed(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, limits[1]))  # room for the private key and the JWKS
    try:
        code, out, err = keys("--out-dir", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (code, out, "secret.yaml: it cannot be written: File too large" in err) == (2, "", True)
    assert [*tmp_path.iterdir()] == []


def test_a_jwks_with_a_private_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old").write_text(json.dumps({"keys": [{"kid": "k", "d": "hunter2"}]}))
    code, _, err = keys("--jwks", tmp_path / "x", "--secret", tmp_path / "y", "--old-jwks", tmp_path / "old")
    assert (code, "it has a private key" in err, "hunter2" in err) == (2, True, False)
