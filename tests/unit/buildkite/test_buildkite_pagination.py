"""A listing's number of pages as its pages tell it, and what makes a link suspicious."""

import httpx
import pytest

from buildkite_connector.buildkite.pagination import Told, read_links, refused, same_origin
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.redactor import Redactor

URL = "https://api.buildkite.com/v2/organizations/acme/teams?page=2&per_page=100"


def links(**targets: str) -> dict[str | None, dict[str, str]]:
    header = ", ".join(f'<{target}>; rel="{rel}"' for rel, target in targets.items())
    return httpx.Response(200, headers={"Link": header} if header else {}).links


def page(number: object) -> str:
    return f"https://api.buildkite.com/v2/organizations/acme/teams?page={number}&per_page=100"


def read(**targets: str) -> Told:
    return read_links(links(**targets), page=2, most=10_000, url=URL, call="GET teams", redactor=Redactor())


def test_the_last_link_tells_the_number_of_pages() -> None:
    assert read(next=page(3), last=page(7), prev=page(1), first=page(1)) == Told(7, more=True)


def test_a_page_whose_links_lead_back_alone_is_the_last() -> None:
    assert read(prev=page(1), first=page(1)) == read(prev=page(1)) == read(first=page(1)) == Told(2)
    assert read(prev=page(1), last=page(2)) == read(last=page(2)) == Told(2)


def test_a_page_without_links_says_nothing() -> None:
    assert read() == Told()


def test_a_last_link_without_a_next_one_says_that_another_follows() -> None:
    assert read(last=page(7)) == read(last=page(7), prev=page(1)) == Told(7, more=True)


def test_a_page_beyond_the_end_says_which_the_last_is() -> None:
    at = {"page": 5, "most": 9, "url": URL, "call": "GET teams", "redactor": Redactor()}
    assert read_links(links(prev=page(3), first=page(1)), **at) == Told(3)  # type: ignore[arg-type]
    assert read_links(links(first=page(1), last=page(3)), **at) == Told(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "targets",
    [
        {"prev": page(2)},
        {"prev": page(3)},
        {"prev": page(0)},
        {"first": page(2)},
        {"first": page(0), "next": page(3)},
        {"prev": page(2), "next": page(3)},
    ],
    ids=str,
)
def test_links_that_lead_back_to_where_no_page_is_are_another_pages(targets: dict[str, str]) -> None:
    with pytest.raises(Failure, match="but its link leads to") as failed:
        read(**targets)
    assert failed.value.reason is Reason.BUILDKITE_RESPONSE_INVALID


ELSEWHERE = (
    "GET teams: expected a response from the API itself, but its 'next' link leads to {}. The token was not sent there."
    " Check BUILDKITE_API_URL and the proxies in between."
)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ({"first": page(2)}, "the first page to be 1, but its link leads to 2"),
        ({"prev": page(2)}, "on page 2 a page before it, but its link leads to 2"),
        ({"next": page(4)}, "on page 2 the next page to be 3, but its link leads to 4"),
        ({"next": page(3), "last": page(2)}, "on page 2 a last page from 3 to 10000, but it is 2"),
        ({"next": page(3), "last": page(10_001)}, "on page 2 a last page from 3 to 10000, but it is 10001"),
        ({"next": page("x")}, "a page number in the 'next' link"),
        ({"next": page("1234567890")}, "a page number in the 'next' link"),
        ({"next": page(123_456_789)}, "on page 2 the next page to be 3, but its link leads to 123456789"),
        ({"next": "http://[/?page=3"}, "a URL in the 'next' link"),
    ],
    ids=str,
)
def test_links_that_cannot_be_are_named(targets: dict[str, str], expected: str) -> None:
    with pytest.raises(Failure) as failed:
        read(**targets)
    assert failed.value.message == f"GET teams: expected {expected}. Check the proxies and gateways in between."


def test_the_last_page_that_may_be_is_taken() -> None:
    assert read(next=page(3), last=page(10_000)) == Told(10_000, more=True)


def test_a_link_that_leads_elsewhere_is_named() -> None:
    with pytest.raises(Failure) as failed:
        read(next="http://evil.example:81/v2?page=3")
    assert failed.value.message == ELSEWHERE.format("http://evil.example:81")
    assert refused("GET teams", "its 'next' link", "http://[/", Redactor()).message == ELSEWHERE.format(
        "an invalid URL"
    )


def test_the_longest_address_that_is_shown() -> None:
    with pytest.raises(Failure) as failed:
        read(next=f"http://{'x' * 300}/?page=3")
    assert failed.value.message == ELSEWHERE.format(f"http://{'x' * 192}…")


def test_a_page_in_the_middle_leads_back_to_the_one_before() -> None:
    at = {"page": 5, "most": 9, "url": URL, "call": "GET teams", "redactor": Redactor()}
    with pytest.raises(
        Failure, match=r"^GET teams: expected on page 5 the page before to be 4, but its link leads to 3"
    ):
        read_links(links(prev=page(3), next=page(6)), **at)  # type: ignore[arg-type]


def test_a_next_link_alone_tells_only_that_more_follow() -> None:
    assert read(next=page(3)) == Told(more=True)


def test_links_may_be_relative() -> None:
    assert read(next="?page=3", last="/v2/organizations/acme/teams?page=4") == Told(4, more=True)


@pytest.mark.parametrize("following", [1, 2, 4])
def test_a_next_link_that_leads_anywhere_but_to_the_next_page_is_a_loop(following: int) -> None:
    with pytest.raises(Failure, match="next page to be 3") as failed:
        read(next=page(following))
    assert failed.value.reason is Reason.BUILDKITE_RESPONSE_INVALID


@pytest.mark.parametrize("last", [1, 2, 10_001])
def test_a_last_page_that_cannot_be_is_refused(last: int) -> None:
    with pytest.raises(Failure) as failed:
        read(next=page(3), last=page(last))
    assert failed.value.reason is Reason.BUILDKITE_RESPONSE_INVALID


@pytest.mark.parametrize("number", ["", "-3", "three", "%D9%A3", "9999999999999"])
def test_a_link_without_a_sensible_page_number_is_refused(number: str) -> None:
    with pytest.raises(Failure, match="page number") as failed:
        read(next=page(number))
    assert failed.value.reason is Reason.BUILDKITE_RESPONSE_INVALID


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/v2/organizations/acme/teams?page=3",
        "http://api.buildkite.com/v2/organizations/acme/teams?page=3",
        "https://api.buildkite.com:8443/v2/organizations/acme/teams?page=3",
        "//evil.example/?page=3",
        "https://api.buildkite.com@evil.example/?page=3",
        "https://api.buildkite.com:port/?page=3",
    ],
)
@pytest.mark.parametrize("rel", ["next", "last"])
def test_a_link_to_another_scheme_host_or_port_is_refused(target: str, rel: str) -> None:
    with pytest.raises(Failure, match="was not sent there") as failed:
        read(**{"next": page(3), rel: target})
    assert failed.value.reason is Reason.BUILDKITE_LINK_REFUSED


def test_the_default_port_may_be_named() -> None:
    assert same_origin("https://api.buildkite.com:443/v2", "https://api.buildkite.com/")
    assert same_origin("https://API.buildkite.com/v2", "https://api.buildkite.com/")
    assert same_origin("http://127.0.0.1:80/v2", "http://127.0.0.1/")
    assert not same_origin("http://127.0.0.1:81/v2", "http://127.0.0.1/")
    assert not same_origin("http://127.0.0.1:1/v2", "http://127.0.0.1:port/")


def test_a_listing_has_no_more_pages_than_can_be_whether_it_tells_of_the_last_or_not() -> None:
    for last in ({}, {"last": page(3)}):
        expected = "^GET teams: expected at most 2 pages, but page 2 links to another"
        with pytest.raises(Failure, match=expected) as failed:
            read_links(links(next=page(3), **last), page=2, most=2, url=URL, call="GET teams", redactor=Redactor())
        assert failed.value.reason is Reason.BUILDKITE_RESPONSE_INVALID


@pytest.mark.parametrize("rel", ["next", "last"])
def test_a_link_that_is_no_url_is_refused(rel: str) -> None:
    with pytest.raises(Failure, match=f"a URL in the '{rel}' link"):
        read(**{"next": page(3), rel: "http://[/?page=3"})


def test_where_a_link_leads_is_shown_without_the_token_and_not_at_any_length() -> None:
    target = f"https://bkua_0123456789.{'x' * 5000}.example/?page=3"
    with pytest.raises(Failure, match=r"leads to https://\[redacted\]\.x+…\. ") as failed:
        read_links(links(next=target), page=2, most=9, url=URL, call="GET", redactor=Redactor(["bkua_0123456789"]))
    assert len(failed.value.message) < 500
