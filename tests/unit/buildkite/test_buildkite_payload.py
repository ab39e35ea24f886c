"""Buildkite's JSON becomes the domain, or an error that names the field."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pytest

from buildkite_connector.buildkite import payload
from buildkite_connector.buildkite.parsing import LONGEST_TEXT, PayloadError, complaint
from buildkite_connector.model.directory import (
    Account,
    AccountID,
    ClusterMaintainer,
    Membership,
    Organization,
    OrganizationSlug,
    Role,
    Team,
    TeamID,
)
from buildkite_connector.model.redactor import Redactor

ACCOUNT = {"id": "8f95f1b9", "name": "Zoë Ångström", "email": "zoe@example.com"}
TEAM = {
    "id": "22d5e5d1",
    "graphql_id": "VGVhbS0tLQ0",
    "name": "Ops & <dev> – 运维 👩🏽‍🚀",
    "slug": "ops",
    "description": "",
    "privacy": "secret",
    "default": True,
    "created_at": "2023-03-14T00:45:16.215Z",
    "created_by": None,
}
TEAM_ID = TeamID("t-1")
MEMBER = {"user_id": "8f95f1b9", "user_name": "Zoë Ångström", "role": "maintainer", "created_at": "2023-03-14"}
EXPIRES = datetime(2025, 7, 23, 6, 7, 42, tzinfo=UTC)
TOKEN = {"uuid": "b63254c0", "scopes": ["read_teams", "read_user"], "expires_at": None, "user": {"name": "C1"}}


def encoded(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def without(document: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != field}


def teams(body: bytes) -> list[Team]:
    return payload.teams(body, Redactor())


def organization(body: bytes) -> Organization:
    return payload.organization(body, Redactor())


def organizations(body: bytes) -> list[Organization]:
    return payload.organizations(body, Redactor())


def test_accounts() -> None:
    assert payload.accounts(encoded([ACCOUNT])) == [Account(AccountID("8f95f1b9"), "Zoë Ångström", "zoe@example.com")]


def test_teams() -> None:
    assert teams(encoded([TEAM])) == [
        Team(TeamID("22d5e5d1"), "Ops & <dev> – 运维 👩🏽‍🚀", "ops", "", "secret", True, "2023-03-14T00:45:16.215Z")
    ]


def test_members() -> None:
    [found] = payload.members(encoded([MEMBER]), TEAM_ID)
    assert found == Membership(TEAM_ID, AccountID("8f95f1b9"), Role.MAINTAINER)
    assert found.name == "Zoë Ångström"
    assert "Zoë" not in repr(found)


def test_organizations() -> None:
    acme = {"id": "9f2d1a52", "slug": "acme", "name": "Acme", "pipelines_url": "https://example.com"}
    expected = Organization("9f2d1a52", OrganizationSlug("acme"), "Acme")
    assert organization(encoded(acme)) == expected
    assert organizations(encoded([acme, acme])) == [expected, expected]


def test_an_id_and_a_name_are_one_object_wherever_they_come() -> None:
    name = "Zoë Ångström " * 10  # pydantic itself gives shorter ones once
    member = payload.members(encoded([{**MEMBER, "user_name": name}]), TEAM_ID)[0]
    account = payload.accounts(encoded([{**ACCOUNT, "name": name}]))[0]
    assert member.account is account.id
    assert member.name is account.name


def test_text_that_is_null_is_empty() -> None:
    assert payload.accounts(encoded([{**ACCOUNT, "name": None, "email": None}]))[0] == Account(
        AccountID("8f95f1b9"), "", ""
    )
    assert teams(encoded([{**TEAM, "description": None}]))[0].description == ""
    assert payload.members(encoded([{**MEMBER, "user_name": None}]), TEAM_ID)[0].name == ""


def test_whoever_created_a_team_does_not_matter() -> None:
    for creator in ({"id": "1", "name": "Ann"}, None, "Ann", 7):
        assert teams(encoded([{**TEAM, "created_by": creator}])) == teams(encoded([TEAM]))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (None, None),
        ("2025-07-23 06:07:42 UTC", EXPIRES),
        ("2025-07-23T06:07:42Z", EXPIRES),
        ("2025-07-23T06:07:42.123Z", EXPIRES),
        ("2025-07-23T08:07:42+02:00", EXPIRES),
    ],
)
def test_a_token_with_its_expiry_in_utc(told: str | None, expected: datetime | None) -> None:
    facts = payload.token(encoded({**TOKEN, "expires_at": told}))
    assert (facts.uuid, facts.expires_at) == ("b63254c0", expected)
    assert facts.scopes == frozenset({"read_teams", "read_user"})


@pytest.mark.parametrize(
    "told",
    [
        "2026-02-30 25:61:61 UTC",
        "2025-02-29 06:07:42 UTC",
        "0000-01-01 00:00:00 UTC",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "99999-01-01 00:00:00 UTC",
        "2025-07-23 06:07:42",
        "2025-07-23",
        "tomorrow",
        "١٢٣٤-٠١-٠١ 00:00:00 UTC",
    ],
)
def test_an_expiry_that_is_no_time_is_refused_by_its_name(told: str) -> None:
    with pytest.raises(PayloadError, match="expires_at: expected a time like 2025-07-23 06:07:42 UTC"):
        payload.token(encoded({**TOKEN, "expires_at": told}))


def test_a_token_that_does_not_mention_expiry_has_none() -> None:
    assert payload.token(encoded(without(TOKEN, "expires_at"))).expires_at is None


PIPELINE = {
    "id": "849411f9",
    "slug": "deploy",
    "name": "Deploy",
    "description": "To production",
    "web_url": "https://buildkite.com/acme/deploy",
    "repository": "git@github.com:acme/deploy.git",
    "visibility": "private",
    "cluster_id": "42f1a7da",
    "archived_at": "2024-01-01T00:00:00Z",
}
TEAM_PIPELINE = {
    "access_level": "build_and_read",
    "pipeline_id": "849411f9",
    "pipeline_url": "http://api.buildkite.com/v2/organizations/acme/pipelines/deploy",
    "created_at": "2023-12-12T21:57:40.306Z",
}
CLUSTER = {
    "id": "42f1a7da",
    "name": "Open Source",
    "description": "For all",
    "web_url": "https://buildkite.com/organizations/acme/clusters/42f1a7da",
    "maintainers": {"users": [], "teams": []},
}


def maintainers(group: str, actor: bytes) -> ClusterMaintainer:
    """The maintainer of this actor, in a list that is read first, so that an error has its place."""
    listed = {**CLUSTER, "maintainers": {"users": [], "teams": [], group: [{"id": "m", "actor": json.loads(actor)}]}}
    return payload.cluster(encoded(listed), Redactor()).maintainers[0]


SETTINGS = {
    "default_member_role": "member",
    "members_can_create_pipelines": True,
    "members_can_create_suites": False,
    "members_can_create_registries": True,
    "members_can_destroy_registries": False,
    "members_can_destroy_packages": True,
}
READ: dict[str, tuple[dict[str, Any], Callable[[bytes], Any], set[str]]] = {
    "account": (
        {**ACCOUNT, "role": "admin", "sso_mode": "required"},
        lambda body: payload.accounts(b"[" + body + b"]")[0],
        {"id"},
    ),
    "team": ({**TEAM, **SETTINGS}, lambda body: teams(b"[" + body + b"]")[0], {"id", "slug"}),
    "member": (MEMBER, lambda body: payload.member(body, TEAM_ID, Redactor()), {"user_id", "role"}),
    "organization": (
        {"id": "9f2d1a52", "slug": "acme", "name": "Acme", "web_url": "https://buildkite.com/acme"},
        organization,
        {"id", "slug"},
    ),
    "pipeline": (PIPELINE, lambda body: payload.pipelines(b"[" + body + b"]", Redactor())[0], {"id", "slug"}),
    "pipeline of a team": (
        TEAM_PIPELINE,
        lambda body: payload.team_pipelines(b"[" + body + b"]", TEAM_ID, Redactor())[0],
        {"pipeline_id", "access_level"},
    ),
    "cluster": (CLUSTER, lambda body: payload.cluster(body, Redactor()).cluster, {"id", "maintainers"}),
    "user who maintains a cluster": (
        {"id": "u-1", "name": "Zoë"},
        lambda body: maintainers("users", body),
        {"id"},
    ),
    "team that maintains a cluster": ({"id": "t-1"}, lambda body: maintainers("teams", body), {"id"}),
    "token": ({**TOKEN, "expires_at": "2025-07-23 06:07:42 UTC"}, payload.token, {"scopes"}),
}
"""What is read of Buildkite: all of it, how it is parsed, and the fields that ids and access are made of."""
MISSING = object()
WRONG = {"missing": MISSING, "null": None, "a number": 7, "a list": [["x"]], "an object": {"x": "y"}}


def changed(document: dict[str, Any], field: str, value: object) -> bytes:
    return encoded(without(document, field) if value is MISSING else {**document, field: value})


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("what", READ)
def test_what_ids_and_access_are_made_of_is_needed_and_refused_by_its_name(what: str, value: object) -> None:
    whole, read, needed = READ[what]
    for field in needed:
        with pytest.raises(PayloadError, match=rf"^(\[0\]\.|maintainers\.\w+\[0\]\.actor\.)?{field}\b.*: ") as refused:
            read(changed(whole, field, value))
        assert not refused.value.broken


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("what", READ)
def test_what_only_informs_is_left_out_and_fails_nothing(what: str, value: object) -> None:
    whole, read, needed = READ[what]
    expected = asdict(read(encoded(whole)))
    for field in whole.keys() - needed:
        found = asdict(read(changed(whole, field, value)))
        lost = {name: found[name] for name in found if found[name] != expected[name]}
        assert len(lost) <= 1, field
        assert set(lost.values()) <= {None, ""}, field


def test_an_unknown_role_is_refused_by_its_field() -> None:
    with pytest.raises(PayloadError, match=r"^\[0\]\.role: Input should be 'member' or 'maintainer'"):
        payload.members(encoded([{**MEMBER, "role": "owner"}]), TEAM_ID)


def test_several_errors_are_counted() -> None:
    with pytest.raises(PayloadError, match=r"^\[0\]\.role: .* \(and 1 more\)$"):
        payload.members(encoded([{**MEMBER, "role": "owner"}] * 2), TEAM_ID)


@pytest.mark.parametrize("document", [{"items": []}, None, "teams", 7, [None], [[]]])
def test_other_json_than_expected_is_refused(document: object) -> None:
    with pytest.raises(PayloadError) as refused:
        payload.accounts(encoded(document))
    assert not refused.value.broken


@pytest.mark.parametrize("body", [b"", b"[", b'[{"id": "1", "na', b"<html></html>", b"\xff\xfe", b'["\\ud800"]'])
def test_what_is_no_json_is_told_apart(body: bytes) -> None:
    with pytest.raises(PayloadError, match=r"^body: ") as refused:
        payload.accounts(body)
    assert refused.value.broken


def test_an_accounts_role_and_sso_mode_are_kept_in_buildkites_words_when_it_tells_them() -> None:
    (told,) = payload.accounts(encoded([{**ACCOUNT, "role": "admin", "sso_mode": "required"}]))
    (silent,) = payload.accounts(encoded([ACCOUNT]))
    assert (told.role, told.sso_mode) == ("admin", "required")
    assert (silent.role, silent.sso_mode) == (None, None)


def test_a_teams_settings_are_kept_when_buildkite_tells_them() -> None:
    (told,) = teams(encoded([{**TEAM, **SETTINGS}]))
    (silent,) = teams(encoded([TEAM]))
    assert {name: getattr(told, name) for name in SETTINGS} == SETTINGS
    assert {getattr(silent, name) for name in SETTINGS} == {None}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("billing-admin", "billing-admin"),
        ("x" * 5000, "x" * 100),
        (" ad\x1bmin\n\u202e", "ad min"),
        ("", None),
        ("\n", None),
        (None, None),
        (7, None),
        (True, None),
        (["admin"], None),
        ({"name": "admin"}, None),
    ],
)
def test_a_text_that_only_informs_never_fails_a_sync_and_is_one_short_line(value: object, kept: str | None) -> None:
    (account,) = payload.accounts(encoded([{**ACCOUNT, "role": value, "sso_mode": value}]))
    (team,) = teams(encoded([{**TEAM, "default_member_role": value}]))
    assert (account.role, account.sso_mode, team.default_member_role) == (kept, kept, kept)


@pytest.mark.parametrize("value", [None, "true", 1, [], {}])
def test_a_right_that_is_no_boolean_is_unknown(value: object) -> None:
    (team,) = teams(encoded([{**TEAM, "members_can_create_suites": value}]))
    assert team.members_can_create_suites is None


def test_the_same_role_is_one_object_in_every_account() -> None:
    first, second = (payload.accounts(encoded([{**ACCOUNT, "role": "billing admin"}]))[0] for _ in range(2))
    assert first.role is second.role


def test_an_error_does_not_show_what_people_are_called() -> None:
    with pytest.raises(PayloadError) as refused:
        payload.accounts(encoded([{**ACCOUNT, "id": ["Zoë", "secret"]}]))
    assert "Zoë" not in str(refused.value)


def test_a_refusal_says_which_limit_and_when() -> None:
    refusal = payload.refusal(encoded({"message": "…", "scope": "rest_user", "limit": 50, "current": 55, "reset": 42}))
    assert (refusal.scope, refusal.limit, refusal.reset) == ("rest_user", 50, 42)


def test_a_refusal_with_an_odd_field_says_the_rest() -> None:
    assert payload.refusal(encoded({"scope": None, "limit": "many", "reset": 42})).reset == 42


@pytest.mark.parametrize("body", [b"", b"slow down", b'{"limit": "many"}', b"[]"])
def test_a_refusal_that_cannot_be_read_says_nothing(body: bytes) -> None:
    assert payload.refusal(body).reset is None


def test_a_complaint_is_the_message_of_an_errors_body() -> None:
    assert complaint(encoded({"message": "No such team"})) == "No such team"
    assert complaint(b"<html>") == ""


BAD_IDS = [
    "",
    ".",
    "..",
    "a/b",
    "../members",
    "a\\b",
    "a b",
    "a\n",
    "a\0b",
    "a\u202eb",
    "a?b",
    "a#b",
    "é",
    "-a",
    "a" * 201,
]


@pytest.mark.parametrize("value", BAD_IDS)
def test_an_id_or_slug_that_could_lead_elsewhere_is_refused(value: str) -> None:
    for field in ("id", "slug"):
        with pytest.raises(PayloadError, match=rf"^\[0\]\.{field}: expected 1 to 200 letters"):
            teams(encoded([{**TEAM, field: value}]))
        with pytest.raises(PayloadError, match=rf"^{field}: expected 1 to 200 letters"):
            organization(encoded({"id": "9f2d1a52", "slug": "acme", "name": "Acme", field: value}))
    with pytest.raises(PayloadError, match=r"^\[0\]\.id: expected 1 to 200 letters"):
        payload.accounts(encoded([{**ACCOUNT, "id": value}]))
    with pytest.raises(PayloadError, match=r"^\[0\]\.user_id: expected 1 to 200 letters"):
        payload.members(encoded([{**MEMBER, "user_id": value}]), TEAM_ID)


@pytest.mark.parametrize("value", ["a", "a" * 200, "01990a5c-3c5a-4c0e", "VXNlci0tLTE=", "a..b", "_x", "x.y~z:1@2+3"])
def test_an_id_may_be_any_word(value: str) -> None:
    assert teams(encoded([{**TEAM, "id": value, "slug": value}]))[0].id == value


def test_ids_and_slugs_that_hold_the_token_are_refused() -> None:
    redactor = Redactor(["bkua_0123456789"])
    for field in ("id", "slug"):
        with pytest.raises(PayloadError, match="a credential is among them"):
            payload.teams(encoded([TEAM, {**TEAM, field: "x-bkua_0123456789"}]), redactor)


def test_an_organizations_name_is_shown_without_the_token_on_one_line() -> None:
    acme = {"id": "9f2d1a52", "slug": "acme", "name": "A\ncme bkua_0123456789"}
    assert payload.organization(encoded(acme), Redactor(["bkua_0123456789"])).name == "A cme [redacted]"


def test_a_members_name_is_shown_without_the_token() -> None:
    found = payload.member(
        encoded({**MEMBER, "user_name": "Ada bkua_0123456789"}), TEAM_ID, Redactor(["bkua_0123456789"])
    )
    assert found.name == "Ada [redacted]"


def test_more_items_than_a_page_has_are_refused() -> None:
    assert len(payload.accounts(encoded([ACCOUNT] * 1000))) == 1000
    with pytest.raises(PayloadError, match="at most 1000 items"):
        payload.accounts(encoded([ACCOUNT] * 1001))


def test_a_long_text_is_cut() -> None:
    long = "n" * 10_000
    assert len(payload.accounts(encoded([{**ACCOUNT, "name": long}]))[0].name) == LONGEST_TEXT
    assert len(payload.members(encoded([{**MEMBER, "user_name": long}]), TEAM_ID)[0].name) == LONGEST_TEXT
    assert len(payload.member(encoded({**MEMBER, "user_name": long}), TEAM_ID, Redactor()).name) == LONGEST_TEXT
