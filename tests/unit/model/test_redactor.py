"""What a server sends back is shown without credentials, on one bounded line."""

import base64
import html
import json
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkite_connector.model.redactor import LONGEST_QUOTE, PLACEHOLDER, SHORTEST_PIECE, Redactor
from buildkite_connector.model.spec import Credentials, OrganizationChoice

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


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in capitals": str.upper,
    "in \\u escapes": lambda text: "".join(f"\\u{ord(char):04x}" for char in text),
    "in \\u escapes with braces": lambda text: "".join(f"\\u{{{ord(char):X}}}" for char in text),
    "in \\u escapes that were escaped again": lambda text: "".join(f"\\\\u{ord(char):04X}" for char in text),
    "every other character escaped": lambda text: "".join(
        f"\\u{ord(char):04x}" if at % 2 else char for at, char in enumerate(text)
    ),
    "in \\x escapes": lambda text: "".join(f"\\x{ord(char):02x}" for char in text),
    "percent-encoded": lambda text: "".join(f"%{ord(char):02X}" for char in text),
    "percent-encoded twice": lambda text: "".join(f"%25{ord(char):02X}" for char in text),
    "as HTML": html.escape,
    "in HTML's numbers": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "in HTML's hexadecimal numbers": lambda text: "".join(f"&#x{ord(char):x};" for char in text),
    "in hexadecimal": lambda text: text.encode().hex(),
    "in hexadecimal and capitals": lambda text: text.encode().hex().upper(),
    "in hexadecimal with blanks": lambda text: text.encode().hex(" "),
    "in base64 with others around it": lambda text: base64.b64encode(f"a{text}bc".encode()).decode(),
}


def parts(text: str) -> list[str]:
    return [text[at : at + SHORTEST_PIECE] for at in range(len(text) - SHORTEST_PIECE + 1)]


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=15)
@given(
    secret=st.text(
        st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\"),
        min_size=SHORTEST_PIECE,
        max_size=80,
    ),
    piece=st.tuples(st.integers(0, 80), st.integers(SHORTEST_PIECE, 80)),
    before=st.sampled_from(["", "x", "the token ", '{"said": "']),
)
def test_no_piece_of_a_credential_is_quoted_in_any_form(
    form: str, secret: str, piece: tuple[int, int], before: str
) -> None:
    start = min(piece[0], len(secret) - SHORTEST_PIECE)
    shown = Redactor([secret]).quote(f"{before}{FORMS[form](secret[start : start + piece[1]])} is not known.", 2000)
    assert PLACEHOLDER in shown
    for part in parts(secret[start : start + piece[1]]):
        assert FORMS[form](part) not in shown.replace(PLACEHOLDER, "\n")


@pytest.mark.parametrize(
    ("secret", "form"),
    [
        *(("000000000%20<", form) for form in ("as HTML", "in HTML's numbers", "in \\x escapes", "percent-encoded")),
        *(("abcdefgh&lt;%2f", form) for form in ("percent-encoded", "in \\x escapes")),
        *(("abcdefghi\\u0041", form) for form in ("as HTML", "percent-encoded")),
    ],
)
def test_a_credential_that_looks_escaped_itself_is_found_in_other_escapes(secret: str, form: str) -> None:
    for piece in parts(secret):
        assert FORMS[form](piece) not in Redactor([secret]).quote(f"the token {FORMS[form](piece)} is not known.")


@pytest.mark.parametrize("start", [0, 1, 20, len(SECRET) - SHORTEST_PIECE])
def test_a_piece_in_mid_text_is_taken_out_and_nothing_beside_it(start: int) -> None:
    piece = SECRET[start : start + SHORTEST_PIECE]
    assert Redactor([SECRET]).quote(f"before {piece} after") == f"before {PLACEHOLDER} after"
    assert Redactor([SECRET]).quote(f"before ({piece[1:]}) after") == f"before ({piece[1:]}) after"


def test_what_a_client_secret_holds_is_taken_out_too() -> None:
    held = '{"kty":"OKP","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}'
    secret = f"secret-token:conductorone.com:v1:{base64.urlsafe_b64encode(held.encode()).decode().rstrip('=')}"
    redactor = Credentials("", secret, "").redactor
    assert "kuwsxERJxWl7" not in redactor.quote('no key {"d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAx"}')


def test_however_many_runs_of_base64_a_value_has_few_texts_are_sought() -> None:
    held = [f"{number:06d}piece" + "x" * (number % 3) for number in range(400)]
    value = ".".join(base64.urlsafe_b64encode(each.encode()).decode().rstrip("=") for each in held)
    redactor = Credentials("", value, value[1:], write_api_token=value[2:]).redactor

    assert len(redactor._secrets) <= 6  # three values, and what each holds
    for each in held[::10]:
        shown = f"no {PLACEHOLDER} here" if len(each) >= SHORTEST_PIECE else f"no {each} here"
        assert redactor.quote(f"no {each} here") == shown


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


def test_what_is_private_is_taken_out_until_it_is_public_and_is_no_secret_in_a_slug() -> None:
    client_id = "brave-otter-12345@acme-corporation.conductor.one/ccc"
    redactor = Redactor(["bkua_0123456789"], private=[client_id])
    assert redactor.quote("no route to acme-corporation.conductor.one:443") == f"no route to {PLACEHOLDER}:443"
    assert redactor.without(client_id).quote("to acme-corporation.conductor.one") == "to acme-corporation.conductor.one"
    assert not redactor.holds_secret("acme-corporation-admins")
    assert redactor.holds_secret("x-bkua_0123456789")


def test_the_redactor_of_credentials_knows_every_value_and_leaves_in_what_is_no_secret() -> None:
    credentials = Credentials(
        "brave-otter-12345@acme.conductor.one/ccc-0123456789",
        "secret-token:conductorone.com:v1:eyJrdHkiOiJPS1AifQ",
        "bkua_0123456789",
        OrganizationChoice("a-slug-of-its-own", "BATON_ORGANIZATION"),
        "bkua_9876543210",
    )
    own = ("brave-otter-12345", "ccc-0123456789", "eyJrdHkiOiJPS1AifQ", "bkua_0123456789", "bkua_9876543210")
    for value in (*own, "a-slug-of-its-own", "acme.conductor.one"):
        assert credentials.redactor.quote(f"{value}.") == f"{PLACEHOLDER}."
    for value in own:
        assert credentials.redactor.holds_secret(value)
    assert credentials.redactor.quote("conductorone.com") == "conductorone.com"
    assert not credentials.redactor.holds_secret("conductorone-admins a-slug-of-its-own acme.conductor.one")


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


HOSTILE = {
    "the credential's own characters": "ab" * 250_000,
    "escapes": "%25" * 100_000,
    "backslashes": "\\" * 500_000,
    "HTML's escapes": "&amp;" * 100_000,
    "one long escape of HTML": f"&{'amp;' * 100_000}",
    "zeros": f"&#x{'0' * 500_000}",
    "percent signs": "%" * 500_000,
}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_takes_no_noticeable_time(text: str) -> None:
    redactor = Redactor(["".join("ab"[int(bit)] for bit in f"{7**n:b}")[:8000] for n in range(2900, 2908)])
    began = time.process_time()
    redactor.quote(HOSTILE[text], 1200)
    assert time.process_time() - began < 1.0
