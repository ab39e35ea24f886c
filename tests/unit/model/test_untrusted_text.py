"""What a server sends back is shown without credentials, on one bounded line."""

import base64
import json
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkite_connector.model.untrusted_text import LONGEST_QUOTE, PLACEHOLDER, Redactor

SECRET = "secret-token:conductorone.com:v1:eyJrdHkiOiJPS1AiLCJkIjoi+/x"
printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=80)


@given(secret=printable, before=st.text(max_size=20), after=st.text(max_size=20))
def test_no_form_of_a_credential_is_quoted(secret: str, before: str, after: str) -> None:
    redactor = Redactor([secret])
    forms = [
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        base64.b64encode(secret.encode()).decode(),
        base64.urlsafe_b64encode(secret.encode()).decode(),
    ]
    for form in forms:
        shown = redactor.quote(f"{before}{form}{after}")
        assert secret not in shown.replace(PLACEHOLDER, "")
        assert form.rstrip("=") not in shown.replace(PLACEHOLDER, "")


@pytest.mark.parametrize("prefix", ["", "a", "ab", "user:"])
def test_a_credential_inside_a_longer_base64_text_is_taken_out(prefix: str) -> None:
    encoded = base64.b64encode(f"{prefix}{SECRET}:tail".encode()).decode()
    core = base64.b64encode(SECRET.encode()).decode()[4:20]
    shown = Redactor([SECRET]).quote(f"Basic {encoded}")
    assert PLACEHOLDER in shown
    assert core not in shown


def test_a_credential_cut_off_at_the_end_is_taken_out() -> None:
    assert Redactor([SECRET]).redact(f"token {SECRET[:20]}") == f"token {PLACEHOLDER}"


@given(st.text(max_size=2000))
def test_a_quote_is_one_bounded_printable_line(text: str) -> None:
    shown = Redactor(["bkua_0123456789"]).quote(text)
    assert len(shown) <= LONGEST_QUOTE + len(PLACEHOLDER)
    assert shown.isprintable()


def test_a_text_without_credentials_stays_as_it_is() -> None:
    assert Redactor([SECRET]).quote("Authentication required.") == "Authentication required."


def test_control_characters_cannot_hide_a_credential() -> None:
    assert SECRET[:12] not in Redactor([SECRET]).quote(f"\x1b[31m{SECRET}\x00\u202e")


def test_more_credentials_can_be_added() -> None:
    redactor = Redactor(["bkua_0123456789"]).with_secrets("access-token")
    assert redactor.quote("bkua_0123456789 access-token") == f"{PLACEHOLDER} {PLACEHOLDER}"


@pytest.mark.parametrize("gap", [" ", "\n", "\x00", "\u202e", "\u00e9", "\U0001f600"])
def test_a_credential_is_found_with_characters_between_its_own(gap: str) -> None:
    shown = Redactor([SECRET]).quote(f"token {gap.join(SECRET)} is wrong")

    assert shown == f"token {PLACEHOLDER} is wrong"


def test_a_credential_that_is_percent_encoded_throughout_is_found() -> None:
    encoded = "".join(f"%{byte:02X}" for byte in SECRET.encode())

    assert Redactor([SECRET]).quote(f"token {encoded}") == f"token {PLACEHOLDER}"


def test_a_credential_with_blanks_or_letters_beyond_ascii_is_found() -> None:
    assert Redactor(["un mot de passé"]).quote("it is un mot de passé.") == f"it is {PLACEHOLDER}."


def test_credentials_that_overlap_leave_nothing_of_either() -> None:
    assert Redactor(["abcdefgh", "efghijkl"]).quote("x abcdefghijkl y") == f"x {PLACEHOLDER} y"


def test_many_long_credentials_in_a_long_text_take_no_noticeable_time() -> None:
    redactor = Redactor(["ab" * 4000 + str(number) for number in range(8)])
    began = time.process_time()

    assert SECRET not in redactor.quote("ab" * 500_000)
    assert time.process_time() - began < 1.0
