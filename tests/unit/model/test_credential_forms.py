"""What is wrong with a credential's form is named, and the value is not quoted."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkite_connector.model.credential_forms import Credential, mistake, recognize, token_hint
from fakes.exchange_setup import ec_pem

TOKEN = f"bkua_{'0123456789abcdef' * 2}01234567"
CLIENT_ID = "brave-otter-12345@acme.conductor.one/ccc"
SECRET = "secret-token:conductorone.com:v1:eyJrdHkiOiJPS1AiLCJjcnYiOiJFZDI1NTE5IiwiZCI6ImFiY2QifQ"
GOOD = {
    Credential.API_TOKEN: TOKEN,
    Credential.CLIENT_ID: CLIENT_ID,
    Credential.CLIENT_SECRET: SECRET,
    Credential.EXCHANGE_CLIENT_ID: "0123456789abcdef0123",
    Credential.EXCHANGE_KEY: ec_pem().strip(),
    Credential.EXCHANGE_SUBJECT: "c1-sync@example.com",
    Credential.PORTAL_TOKEN: "0f8e7d6c-portal-5b4a3f2e1d0c",
}
WITH_A_FORM = [kind for kind in GOOD if kind is not Credential.PORTAL_TOKEN]
"""Buildkite documents no form of a portal's own token."""
KINDS = pytest.mark.parametrize("kind", list(Credential), ids=lambda kind: kind.name)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def wrapped(text: str) -> str:
    """As `base64` prints it: lines of 76 columns."""
    return base64.encodebytes(text.encode()).decode()


@KINDS
@pytest.mark.parametrize("around", ["{}", "{}\n", "  {} ", "\t{}\r\n"])
def test_a_good_value_has_no_mistake(kind: Credential, around: str) -> None:
    assert mistake(around.format(GOOD[kind]), kind) is None


@KINDS
@pytest.mark.parametrize(
    ("form", "says"),
    [
        ('"{}"', "quotation marks"),
        ("'{}'", "quotation marks"),
        ("`{}`", "quotation marks"),
        ("\u201c{}\u201d", "quotation marks"),
        ('"{}', "quotation marks"),
        ("{}'\n", "quotation marks"),
        ("BATON_API_TOKEN={}", "a line of an env file"),
        ("export BATON_CLIENT_ID={}", "a line of an env file"),
        ("\ufeff{}", "a byte-order mark"),
    ],
)
def test_what_a_file_or_a_shell_left_around_a_value_is_named(kind: Credential, form: str, says: str) -> None:
    found = mistake(form.format(GOOD[kind]), kind)

    assert found is not None
    assert says in found
    assert GOOD[kind] not in found


@pytest.mark.parametrize("kind", WITH_A_FORM, ids=lambda kind: kind.name)
@pytest.mark.parametrize("encode", [encoded, wrapped, lambda text: encoded(f"{text}\n")])
def test_a_value_that_is_base64_twice_is_named(kind: Credential, encode: object) -> None:
    assert callable(encode)

    assert "base64" in (mistake(encode(GOOD[kind]), kind) or "")


@KINDS
def test_another_credential_in_its_place_is_named(kind: Credential) -> None:
    cut_short = {Credential.EXCHANGE_SUBJECT} if kind is Credential.CLIENT_ID else set()
    like_a_token = {Credential.EXCHANGE_CLIENT_ID} if kind is Credential.PORTAL_TOKEN else set()
    for other in set(WITH_A_FORM) - {kind} - cut_short - like_a_token:  # a client ID's beginning is like an address
        assert f"holds {other.value}" in (mistake(GOOD[other], kind) or "")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (f"bkct_{'a' * 40}", "is an agent token, with which agents register: {instead}"),
        (f"bkpat_{'a' * 40}", "is a portal's token that expires within hours: {instead}"),
        (encoded(f"bkct_{'a' * 40}"), "base64"),
        (encoded(f"bkpat_{'a' * 40}"), "base64"),
        (f"Bearer {TOKEN}", "'Bearer'"),
    ],
)
@pytest.mark.parametrize(
    ("kind", "instead"),
    [
        (Credential.API_TOKEN, "create an API access token in Buildkite"),
        (Credential.PORTAL_TOKEN, "create a long-lived service token"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_another_token_of_buildkite_in_its_place_is_named(
    value: str, says: str, kind: Credential, instead: str
) -> None:
    assert says.format(instead=instead) in (mistake(value, kind) or "")


@pytest.mark.parametrize("token", [TOKEN, TOKEN.replace("bkua_", "bktx_")])
def test_an_api_token_is_not_taken_for_a_portals_token(token: str) -> None:
    found = mistake(token, Credential.PORTAL_TOKEN) or ""
    assert "holds a Buildkite API token: create a long-lived service token" in found


@pytest.mark.parametrize("token", ["0123456789abcdef0123", "0da645b7-9840-428f-bd80-0b92ee274480", "xxx-yyy-zzz"])
def test_what_may_be_a_portals_token_is_left_to_buildkite(token: str) -> None:
    """Its form is not documented: it may be a UUID, or 20 hexadecimal digits as an app's client ID is."""
    assert mistake(token, Credential.PORTAL_TOKEN) is None
    assert "holds the e-mail address or UUID" in (
        mistake(GOOD[Credential.EXCHANGE_SUBJECT], Credential.PORTAL_TOKEN) or ""
    )


@pytest.mark.parametrize("token", ["0123456789abcdef" * 2, "bktx_short", "eyJhbGciOiJSUzI1NiJ9.eyJpc3Mi.c2ln", "x"])
def test_a_token_of_an_unknown_form_is_left_to_buildkite(token: str) -> None:
    assert mistake(token, Credential.API_TOKEN) is None
    assert token_hint(token) == ""


@pytest.mark.parametrize("token", [TOKEN[:-1], f"{TOKEN}0", "bkua_", TOKEN.replace("0", "g")])
def test_a_user_token_of_another_length_has_a_hint_for_when_it_is_refused(token: str) -> None:
    assert mistake(token, Credential.API_TOKEN) is None
    assert "40 hexadecimal digits" in token_hint(token)
    assert token_hint(TOKEN) == ""


@KINDS
@given(value=st.text(max_size=60) | st.text("abc=@/:\"' \n\ufeff", max_size=40))
def test_any_text_is_judged_without_an_error_and_never_quoted(kind: Credential, value: str) -> None:
    found = mistake(value, kind)

    if recognize(value) is kind and value.isascii() and value.isprintable() and not {"'", '"'} & set(value):
        assert found is None
    if found is not None and len(value.strip()) > 12:
        assert value.strip() not in found
