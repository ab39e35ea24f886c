"""Where the token may go is settled before anything is sent."""

import pytest

from buildkite_connector.buildkite import BuildkiteSettings


@pytest.mark.parametrize(
    "url",
    [
        "https://api.buildkite.com/v2",
        "https://buildkite.example:8443/v2",
        "http://127.0.0.1:8080/v2",
        "http://127.9.9.9",
        "http://[::1]:8080/v2",
        "http://localhost:8080/v2",
    ],
)
def test_https_anywhere_and_plain_http_on_this_machine(url: str) -> None:
    assert BuildkiteSettings(url).api_url == url


def test_a_slash_at_the_end_makes_no_difference() -> None:
    assert BuildkiteSettings("https://api.buildkite.com/v2/").api_url == BuildkiteSettings().api_url


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://api.buildkite.com/v2", "plain http"),
        ("http://10.0.0.1/v2", "plain http"),
        ("http://localhost.evil.example/v2", "plain http"),
        ("http://127.0.0.1.evil.example/v2", "plain http"),
        ("ftp://api.buildkite.com", "but it is"),
        ("api.buildkite.com/v2", "but it is"),
        ("", "but it is"),
        ("https://", "but it is"),
        ("https://user:pass@api.buildkite.com/v2", "without a user name"),
        ("https://api.buildkite.com/v2?x=1", "without a query"),
        ("https://api.buildkite.com/v2#x", "without a query"),
        ("https://api.buildkite.com:port/v2", "not a URL"),
        ("https://[::1", "not a URL"),
        ("https://xn--0.example/v2", "not a URL"),
        ("https://999.1.1.1/v2", "not a URL"),
    ],
)
def test_anything_else_is_refused_with_a_sentence(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^BUILDKITE_API_URL must be like .*{complaint}"):
        BuildkiteSettings(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@api.buildkite.com/v2",
        "https://user:hunter2#x@api.buildkite.com/v2",
        "https://user:hunter2?x@api.buildkite.com/v2",
        "https://user:hunter2/x@api.buildkite.com/v2",
        "https://user:8/hunter2@api.buildkite.com/v2",
        "https://user:[hunter2@api.buildkite.com/v2",
        "https://user:hunter2\n@api.buildkite.com/v2",
        "http://hunter2/x@api.buildkite.com/v2",
        "ftp://user:hunter2@api.buildkite.com/v2",
        "user:hunter2@api.buildkite.com/v2",
    ],
)
def test_a_password_in_the_url_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="without a user name or password in it") as refused:
        BuildkiteSettings(url)
    assert "hunter2" not in str(refused.value)


def test_a_port_that_is_none_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="its host or port cannot be used") as refused:
        BuildkiteSettings("https://api.buildkite.com:hunter2/v2")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("size", [0, 101, -1])
def test_a_page_holds_1_to_100(size: int) -> None:
    with pytest.raises(ValueError, match="1 to 100"):
        BuildkiteSettings(page_size=size)
