"""A portal on the command line: the document that `portal` prints, the settings, `check` and `sync`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from buildkite_connector.buildkite import BuildkiteSettings
from buildkite_connector.buildkite.portal_document import API_TOKENS, MARK, MEMBERS, portal_document
from buildkite_connector.buildkite.settings import DEFAULT_PORTAL_URL as OF_SETTINGS
from buildkite_connector.c1z import read_snapshot
from buildkite_connector.cli.findings import State
from buildkite_connector.cli.flags import DEFAULT_PORTAL_URL, config_schema
from buildkite_connector.cli.settings import SettingError
from buildkite_connector.cli.vendor import one_file_settings
from buildkite_connector.model.directory import DEFAULT_KINDS, ResourceKind
from buildkite_connector.model.failure import Failure, Reason, Remedy
from fakes.check_setup import Setup
from harness.command import Ended, invoke, run
from simulators.buildkite import faults
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.portal import Portal
from simulators.buildkite.server import BuildkiteSimulator, Config
from simulators.forward_proxy import ForwardProxy
from unit.cli.test_check import NAMES, PAGE, environment
from unit.cli.test_flags import shown
from unit.cli.test_service_settings import found_in, settings

TOKEN = "5ec4e7" * 8
PORTAL = {"BUILDKITE_PORTAL_SLUG": "c1", "BUILDKITE_PORTAL_TOKEN": TOKEN}
FLAGS = {"portal-slug", "portal-token", "portal-url"}

UNUSABLE = [
    ({"BUILDKITE_PORTAL_TOKEN": ""}, "--portal-token (BUILDKITE_PORTAL_TOKEN): it is missing"),
    ({"BUILDKITE_PORTAL_SLUG": ""}, "--portal-slug (BUILDKITE_PORTAL_SLUG): it is missing"),
    ({"BUILDKITE_PORTAL_SLUG": TOKEN}, "--portal-slug (BUILDKITE_PORTAL_SLUG): it repeats a credential"),
    ({"BUILDKITE_PORTAL_SLUG": "Hunter2 hunter2"}, "--portal-slug (BUILDKITE_PORTAL_SLUG): it must be the last part"),
    ({"BUILDKITE_PORTAL_TOKEN": "hunter2 hunter2"}, "--portal-token (BUILDKITE_PORTAL_TOKEN): it has a space"),
    ({"BUILDKITE_PORTAL_TOKEN": "x" * 8193}, "--portal-token (BUILDKITE_PORTAL_TOKEN): it has more than 8192"),
    ({"BUILDKITE_PORTAL_TOKEN": "bkpat_hunter2"}, "--portal-token (BUILDKITE_PORTAL_TOKEN): it "),
    ({"BUILDKITE_PORTAL_TOKEN": "bkua_hunter2"}, "--portal-token (BUILDKITE_PORTAL_TOKEN): it "),
    (
        {"BUILDKITE_PORTAL_SLUG": "", "BUILDKITE_PORTAL_TOKEN": "", "BATON_SYNC_RESOURCE_TYPES": "user,api_token"},
        "--sync-resource-types: api_token needs a portal: set BUILDKITE_PORTAL_SLUG and BUILDKITE_PORTAL_TOKEN",
    ),
    ({"BUILDKITE_PORTAL_URL": "https://hunter2@portal.example"}, "without a user name or password"),
    ({"BUILDKITE_PORTAL_URL": "http://portal.example"}, "plain http"),
]
"""What is changed in PORTAL, and what the error says."""


# The document


async def test_the_document_of_this_version_is_printed_and_nothing_else() -> None:
    printed = await run("portal", **PORTAL, BATON_LOG_LEVEL="debug")
    assert (printed.code, printed.out, printed.err) == (0, portal_document(), "")
    older = invoke("portal", "--without-machine-users")
    assert (older.code, older.out, older.err) == (0, portal_document(machine_users=False), "")
    assert set(portal_document().splitlines()) - set(older.out.splitlines()) == {"            machineUser"}


@pytest.mark.parametrize("arguments", [("--slug", "c1"), ("c1",)])
def test_what_it_does_not_take_is_refused(arguments: tuple[str, ...]) -> None:
    ended = invoke("portal", *arguments)
    assert (ended.code, ended.out) == (2, "")


def test_its_help_has_the_steps_and_where_the_token_belongs() -> None:
    text = " ".join(invoke("portal", "--help").out.split())
    for step in (
        "1. Open Organization Settings, Integrations, Portals, and create a portal. 2. Paste the document",
        "Secret, as BUILDKITE_PORTAL_TOKEN. 5. Set spec.portal.slug",
        "set the variables BUILDKITE_PORTAL_SLUG and BUILDKITE_PORTAL_TOKEN",
    ):
        assert step in text


# Settings


@pytest.mark.parametrize(
    ("command", "names"),
    [("service", FLAGS), ("check", FLAGS), ("sync", FLAGS), ("operator", {"portal-url"})],
)
def test_help_shows_the_settings_and_the_operators_only_the_address(command: str, names: set[str]) -> None:
    """The operator's other two are the resource's and the Secret's."""
    assert shown(command) & FLAGS == names
    assert "BUILDKITE_PORTAL_URL" in invoke(command, "--help").out


def test_the_address_is_a_setting_with_the_documented_default() -> None:
    assert BuildkiteSettings().portal_url == OF_SETTINGS == DEFAULT_PORTAL_URL
    url = "https://portal.example"
    assert settings(BUILDKITE_PORTAL_URL=url).buildkite.portal_url == url
    with pytest.raises(SettingError, match=r"^--portal-url: BUILDKITE_PORTAL_URL must be like"):
        settings(BUILDKITE_PORTAL_URL="portal.example")


def test_service_mode_and_the_command_without_a_name_take_the_portal() -> None:
    types = {"BATON_SYNC_RESOURCE_TYPES": "user,api_token"}
    found = settings(**PORTAL, **types)
    assert (found.spec.portal, found.started_with.portal_token) == ("c1", TOKEN)
    assert found.credentials() == found.started_with
    assert found.generation() not in {settings(**types, **{**PORTAL, each: "other"}).generation() for each in PORTAL}
    one_file = one_file_settings(found_in(**PORTAL, BATON_CLIENT_ID="", BATON_CLIENT_SECRET=""))
    assert (one_file.portal, one_file.credentials.portal_token) == ("c1", TOKEN)
    assert TOKEN not in repr(found) + repr(one_file)


def test_a_new_token_of_the_portal_is_noticed_and_one_that_is_gone_stops_nothing_that_works() -> None:
    now = dict(PORTAL)
    found = settings(lambda: found_in(**now), **PORTAL)
    now["BUILDKITE_PORTAL_TOKEN"] = "another"
    assert found.credentials().portal_token == "another"
    del now["BUILDKITE_PORTAL_TOKEN"]
    with pytest.raises(Failure, match=r"^--portal-token .*it is missing") as raised:
        found.credentials()
    assert (raised.value.reason, raised.value.remedy) == (Reason.SECRET_KEY_INVALID, Remedy.RETRY)


def test_the_schema_has_the_slug_and_the_token_together() -> None:
    together = config_schema()["dependentRequired"]
    assert (together["portal-slug"], together["portal-token"]) == (["portal-token"], ["portal-slug"])


@pytest.mark.parametrize(("change", "expected"), UNUSABLE)
def test_service_mode_refuses_what_cannot_work(change: dict[str, str], expected: str) -> None:
    with pytest.raises(SettingError) as raised:
        settings(**{**PORTAL, **change})
    assert expected in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(("change", "expected"), UNUSABLE)
def test_sync_refuses_what_cannot_work(
    change: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = invoke("sync", **{"BATON_API_TOKEN": "bkua_0123456789", **PORTAL, **change})
    assert (ended.code, ended.out) == (2, "")
    assert expected in " ".join(ended.err.replace("│", " ").split())
    assert "hunter2" not in ended.err
    assert [*tmp_path.iterdir()] == []


# check


@pytest.fixture
async def shown_by_portal(sound: Setup) -> tuple[Setup, Portal]:
    """A portal with this version's document, and a `check` that asks it."""
    portal = sound.buildkite.portals.create("c1", portal_document())
    sound.change(portal="c1", portal_token=portal.token, portal_url=sound.buildkite.portal_url)
    return sound, portal


def asked(setup: Setup) -> list[tuple[str, object]]:
    return [(call.operation, call.variables["first"]) for call in setup.buildkite.portals.calls]


async def test_check_runs_each_operation_that_a_sync_needs_with_one_item(shown_by_portal: tuple[Setup, Portal]) -> None:
    setup, _ = shown_by_portal
    checked = await setup.check()
    assert checked.exit_code == 0, checked.text
    told = "c1 stores this version's document, and shows members"
    assert checked.named("buildkite.portal").message == told
    assert asked(setup) == [(MEMBERS, 1)]
    names = [each.name for each in checked.findings]
    assert names[names.index("buildkite.organization") + 1] == "buildkite.portal"
    setup.change(kinds=DEFAULT_KINDS | {ResourceKind.API_TOKEN})
    assert (await setup.check()).named("buildkite.portal").message == f"{told} and API tokens"
    assert asked(setup)[1:] == [(MEMBERS, 1), (API_TOKENS, 1)]
    setup.change(kinds=frozenset({ResourceKind.TEAM}))
    skipped = (await setup.check()).named("buildkite.portal")
    assert (skipped.state, len(asked(setup))) == (State.SKIPPED, 3)
    assert "| `buildkite.portal` |" in PAGE


async def test_check_names_the_proxy_to_the_portal(shown_by_portal: tuple[Setup, Portal]) -> None:
    """The REST API is at a loopback address, which is never reached through a proxy."""
    setup, _ = shown_by_portal
    async with ForwardProxy({"api.buildkite.com": int(setup.buildkite.origin.rpartition(":")[2])}) as proxy:
        setup.set_variables(HTTPS_PROXY=proxy.url)
        setup.change(portal_url="https://api.buildkite.com/portal")
        checked = await setup.check()
    assert checked.exit_code == 0, checked.text
    through = f" through the proxy {proxy.address}"
    assert checked.named("buildkite.portal").message.endswith(f"and shows members{through}")
    assert proxy.asked == ["api.buildkite.com:443"]


async def test_checks_json_has_the_portal_and_its_failure(shown_by_portal: tuple[Setup, Portal]) -> None:
    setup, portal = shown_by_portal
    variables = {
        **environment(setup),
        "BUILDKITE_PORTAL_SLUG": "c1",
        "BUILDKITE_PORTAL_TOKEN": str(portal.token),
        "BUILDKITE_PORTAL_URL": setup.buildkite.portal_url,
    }
    ended = await run("check", "--output", "json", **variables)
    stores = "c1 stores this version's document, and shows members"
    found = {"name": "buildkite.portal", "title": "Portal", "state": "ok", "message": stores}
    assert (ended.code, ended.err) == (0, "")
    assert {**found, "reason": None, "exitCode": None} in json.loads(ended.out)["checks"]
    portal.document = "query Other { __typename }"
    document = json.loads((await run("check", "--output", "json", **variables)).out)
    (failed,) = [each for each in document["checks"] if each["state"] == "failed"]
    assert (failed["name"], failed["reason"], failed["exitCode"]) == ("buildkite.portal", "PortalDocumentInvalid", 9)
    assert "with `buildkite-connector portal` and store it" in failed["message"]


async def test_check_asks_nothing_without_a_portal(sound: Setup) -> None:
    sound.buildkite.portals.create("c1", portal_document())
    checked = await sound.check()
    assert (asked(sound), [each.name for each in checked.findings]) == ([], NAMES)


def _stores(document: str) -> Callable[[Setup, Portal], None]:
    def change(_: Setup, portal: Portal) -> None:
        portal.document = document

    return change


def _older_schema(setup: Setup, _: Portal) -> None:
    setup.buildkite.portals.machine_users = False


@pytest.mark.parametrize(
    ("change", "reason", "code", "says"),
    [
        (
            _stores(portal_document().replace(MARK, f"{MARK}0")),
            "PortalDocumentInvalid",
            9,
            "buildkite-connector portal",
        ),
        (_stores("query Other { __typename }"), "PortalDocumentInvalid", 9, "buildkite-connector portal"),
        (_older_schema, "PortalDocumentInvalid", 9, "--without-machine-users"),
        (lambda setup, _: setup.change(portal="c2"), "PortalNotFound", 9, "c2"),
        (lambda setup, _: setup.change(portal_token="no" + TOKEN), "PortalRejected", 16, "token"),
    ],
    ids=["another version's", "another document", "an older schema", "no such portal", "a wrong token"],
)
async def test_check_says_what_is_wrong_with_the_portal_and_how_to_fix_it(
    shown_by_portal: tuple[Setup, Portal],
    change: Callable[[Setup, Portal], None],
    reason: str,
    code: int,
    says: str,
) -> None:
    setup, portal = shown_by_portal
    change(setup, portal)
    checked = await setup.check()
    found = checked.named("buildkite.portal")
    assert (found.state, found.reason) == (State.FAILED, reason)
    assert says in found.message
    assert checked.first_failed is found
    assert checked.exit_code == code
    assert [each.name for each in checked.findings if each.state is not State.OK] == ["buildkite.portal"]
    assert not {word for word in (TOKEN, str(portal.token)) if word in checked.text}


@pytest.mark.parametrize(("change", "expected"), UNUSABLE)
def test_check_refuses_what_cannot_work(change: dict[str, str], expected: str) -> None:
    ended = invoke("check", **{"BATON_API_TOKEN": "bkua_0123456789", **PORTAL, **change})
    assert ended.code == 3
    assert expected in ended.out
    assert "hunter2" not in ended.out


# sync


async def sync(buildkite: BuildkiteSimulator, portal: Portal, file: Path, *arguments: str) -> Ended:
    return await run(
        *("sync", "--file", str(file), *arguments),
        BUILDKITE_API_URL=buildkite.url,
        BATON_API_TOKEN=buildkite.token.value,
        BUILDKITE_PORTAL_URL=buildkite.portal_url,
        BUILDKITE_PORTAL_SLUG=portal.slug,
        BUILDKITE_PORTAL_TOKEN=str(portal.token),
    )


async def test_sync_reads_the_portal_and_a_portal_that_fails_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    file = tmp_path / "sync.c1z"
    async with BuildkiteSimulator(Config((make_organization(30, 3, 40, slug="acme-inc"),))) as buildkite:
        portal = buildkite.portals.create("c1", portal_document())
        whole = await sync(buildkite, portal, file, "--resource-type", "user,team,api_token")
        assert (whole.code, whole.err) == (0, "")
        before = file.read_bytes()
        buildkite.fault(
            faults.answer(403, {"message": f"{portal.token} and {buildkite.token.value} may not"}),
            times=None,
            path="/portal/organizations/acme-inc/portals/c1",
        )
        failed = await sync(buildkite, portal, file)
    assert {call.operation for call in buildkite.portals.calls} == {MEMBERS, API_TOKENS}
    found = read_snapshot(file).directory
    shown, tokens = buildkite.portals.view(), buildkite.portals.view().tokens()
    seen = {each.id: each.details and each.details.last_seen_at for each in found.accounts}
    assert seen == {each.id: shown.member(each.id).last_seen_at for each in found.accounts}
    assert ({each.id for each in found.api_tokens}, len(seen)) == ({each.uuid for each in tokens}, 30)
    logins = sum(each is not None for each in seen.values())
    assert f"30 accounts, 3 teams, 40 memberships, {len(tokens)} API tokens, {logins} last logins; " in whole.out
    assert 0 < logins < 30
    assert (failed.code, failed.out, failed.err.count("\n")) == (1, "", 1)
    assert "[redacted] and [redacted] may not" in failed.err
    assert file.read_bytes() == before
