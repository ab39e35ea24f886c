"""What C1 refuses in a text never reaches it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkite_connector.c1z.texts import checked_id, cut, display_name, is_email, valid_unicode
from buildkite_connector.model.failure import Failure, Reason

anything = st.text(st.characters(exclude_categories=()))


@given(anything, st.integers(0, 50))
def test_a_cut_text_is_the_longest_whole_beginning_within_the_limit(text: str, limit: int) -> None:
    whole, found = valid_unicode(text), cut(text, limit)
    assert whole.startswith(found)
    assert len(found.encode()) <= limit
    assert found == whole or len(whole[: len(found) + 1].encode()) > limit


@given(anything)
def test_valid_unicode_alters_nothing_but_lone_surrogates(text: str) -> None:
    found = valid_unicode(text)
    assert len(found) == len(text)
    for before, after in zip(text, found, strict=True):
        assert after == ("\N{REPLACEMENT CHARACTER}" if "\ud800" <= before <= "\udfff" else before)


def test_a_display_name_is_the_first_name_that_there_is() -> None:
    assert display_name("Ada", "ada@example.com", "the id") == "Ada"
    assert display_name(" Ada ", "ada@example.com", "the id") == " Ada "
    assert display_name("", "ada@example.com", "the id") == "ada@example.com"
    assert display_name("", "", "the id") == "the id"
    assert display_name("é" * 1000, "the id") == "é" * 512


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u00a0", "\u200b\u200d", "\ufeff", "\u2800", "\u3164", "\x00"])
def test_a_blank_name_is_none(blank: str) -> None:
    assert display_name(blank, blank, "the id") == "the id"


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.com",
        "a@b",
        "ada+buildkite@sub.example.co.uk",
        "!#$%&'*+-/=?^_`{|}~@example.com",
        "žofia@example.com",
        "a" * 64 + "@example.com",
        "ada@1.2.3.4",
    ],
)
def test_c1_takes_an_email(address: str) -> None:
    assert is_email(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@@example.com",
        "Ada <ada@example.com>",
        "ada@example.com, bob@example.com",
        " ada@example.com",
        "ada@example.com\n",
        "ada\0@example.com",
        ".ada@example.com",
        "a..b@example.com",
        "ada.@example.com",
        "ada@example..com",
        "ada@example.com.",
        "ada@-example.com",
        "ada@example-.com",
        "ada@exa_mple.com",
        "ada@exämple.com",
        "ada@[127.0.0.1]",
        "a" * 65 + "@example.com",
        "é" * 33 + "@example.com",
        "ada@" + "a" * 64 + ".com",
        "ada@" + ".".join(["a" * 50] * 5),
    ],
)
def test_c1_refuses_what_is_not_an_email(address: str) -> None:
    assert not is_email(address)


def test_an_id_is_taken_as_it_is() -> None:
    assert checked_id("team", "22d5e5d1-1180-5313-bced-c1584f06efcd") == "22d5e5d1-1180-5313-bced-c1584f06efcd"


@pytest.mark.parametrize("identity", ["", "é", "\ud800", "a\0b", "a" * 256])
def test_an_id_that_c1_cannot_hold_is_a_failure_that_shows_it(identity: str) -> None:
    with pytest.raises(Failure, match="expected 1 to 255 printable ASCII characters") as caught:
        checked_id("team", identity)
    assert caught.value.reason is Reason.SNAPSHOT_INVALID
    assert caught.value.message.encode()
