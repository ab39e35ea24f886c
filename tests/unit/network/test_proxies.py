"""Which proxy a URL goes through: the rules of Go's httpproxy, in tables. Most rows are of Go's own test."""

import pytest

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.network import Proxies, read_proxies

BUILDKITE = "https://api.buildkite.com/v2"
PROXY = "http://proxy.example:3128"


def chosen(url: str, **environment: str) -> str | None:
    proxy = read_proxies(environment).proxy_for(url)
    return None if proxy is None else proxy.url


@pytest.mark.parametrize(
    ("environment", "https", "http"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": PROXY}, PROXY, None),
        ({"https_proxy": PROXY}, PROXY, None),
        ({"HTTP_PROXY": PROXY}, None, PROXY),
        ({"http_proxy": PROXY}, None, PROXY),
        ({"HTTPS_PROXY": PROXY, "https_proxy": "http://small.example:1"}, PROXY, None),
        ({"HTTPS_PROXY": "", "https_proxy": PROXY}, PROXY, None),
        ({"HTTPS_PROXY": PROXY, "HTTP_PROXY": "http://other.example:1"}, PROXY, "http://other.example:1"),
        ({"ALL_PROXY": PROXY}, None, None),
        ({"HTTPS_PROXY": PROXY, "ALL_PROXY": "socks5://user:hunter22pass@socks.example:1080"}, PROXY, None),
        ({"all_proxy": "nonsense://%%%", "HTTP_PROXY": PROXY}, None, PROXY),
        ({"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, None, PROXY),
    ],
)
def test_the_variable_counts_whose_scheme_the_url_has(
    environment: dict[str, str], https: str | None, http: str | None
) -> None:
    assert chosen("https://c1.example", **environment) == https
    assert chosen("http://collector.example:4318", **environment) == http


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (PROXY, PROXY),
        (f" {PROXY}/\n", PROXY),
        (f"{PROXY}/path/of%20nothing", PROXY),
        ("proxy.example:3128/:", PROXY),
        ("http://svc:pass@proxy.example/path", "http://svc:pass@proxy.example:80"),
        ("HTTP://Proxy.Example:3128", PROXY),
        ("proxy.example:3128", PROXY),
        ("proxy.example", "http://proxy.example:80"),
        ("http://proxy.example", "http://proxy.example:80"),
        ("10.0.0.1:3128", "http://10.0.0.1:3128"),
        ("http://[fd00::1]:3128", "http://[fd00::1]:3128"),
        ("[fd00::1]", "http://[fd00::1]:80"),
        ("svc:pass@proxy.example:3128", "http://svc:pass@proxy.example:3128"),
        ("http://svc@proxy.example:3128", "http://svc:@proxy.example:3128"),
        ("http://svc:p@ss:word@proxy.example:3128", "http://svc:p%40ss%3Aword@proxy.example:3128"),
        ("http://a%5Csvc:p%2Fss%25@proxy.example:3128", "http://a%5Csvc:p%2Fss%25@proxy.example:3128"),
    ],
)
def test_an_address_is_read_as_go_reads_it(given: str, used: str) -> None:
    assert chosen(BUILDKITE, HTTPS_PROXY=given) == used


SECRET = "hunter22pass"


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"])
@pytest.mark.parametrize(
    "text",
    [
        f"socks5://svc:{SECRET}@proxy:1080",
        f"socks5h://svc:{SECRET}@proxy:1080",
        f"https://svc:{SECRET}@proxy:3128",
        f"{SECRET}://proxy:3128",
        f"http://svc:a:b/{SECRET}@host:9",
        f"http://svc:3/{SECRET}@host:9",
        f"http://svc:{SECRET}#3@host:9",
        f"http://svc:{SECRET}?3@host:9",
        f"http://svc:{SECRET}%zz@host:9",
        f"http://svc:{SECRET} 3@host:9",
        f"http://svc:{SECRET}é@host:9",
        f"http://svc:{SECRET}@host:99999",
        f"http://svc:{SECRET}@host:0",
        f"http://svc:{SECRET}@host:port",
        f"http://svc:{SECRET}@[fd00::g]:9",
        f"http://svc:{SECRET}@[:::]:9",
        f"http://svc:{SECRET}@:9",
        f"http://host:9/{SECRET}@path",
        f"http://host:9/path?{SECRET}",
        f"http://host:9/path {SECRET}",
        f"http:{SECRET}",
        "http://",
        "://",
    ],
)
def test_one_that_cannot_be_used_is_a_sentence_with_the_name_of_the_variable_and_nothing_of_its_text(
    variable: str, text: str
) -> None:
    with pytest.raises(Failure, match=f"^{variable} ") as caught:
        read_proxies({variable: text}).proxy_for("http://collector.example:4318")
    assert caught.value.reason is Reason.SPEC_INVALID
    assert SECRET not in str(caught.value)
    assert "host:9" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
def test_an_http_proxy_that_cannot_be_used_is_a_warning_for_those_who_do_not_need_it(variable: str) -> None:
    text = f"socks5://svc:{SECRET}@proxy:1080"
    proxies = read_proxies({variable: text, "HTTPS_PROXY": PROXY, "NO_PROXY": "near.example"})
    assert str(proxies.proxy_for(BUILDKITE)) == "proxy.example:3128"
    assert proxies.proxy_for("http://127.0.0.1:4318") is None
    assert proxies.proxy_for("http://near.example:4318") is None
    (warning,) = proxies.warnings
    assert warning.startswith(f"{variable} starts with socks5://")
    assert SECRET not in f"{warning} {proxies!r}"
    for _ in range(2):
        with pytest.raises(Failure, match=f"^{variable} starts with socks5://"):
            proxies.proxy_for("http://collector.example:4318")


def test_both_warnings_are_given() -> None:
    assert len(read_proxies({"HTTP_PROXY": "socks5://proxy:1", "ALL_PROXY": "socks5://proxy:1"}).warnings) == 2


def test_a_kind_of_proxy_that_is_not_supported_is_named() -> None:
    with pytest.raises(Failure, match=r"socks5://.*only HTTP proxies"):
        read_proxies({"HTTPS_PROXY": "socks5://proxy:1080"})
    with pytest.raises(Failure, match=r"https://.*only HTTP proxies"):
        read_proxies({"HTTPS_PROXY": "https://proxy:443"})


NO_PROXY = [
    # host of the URL, NO_PROXY, whether it is reached directly
    ("api.buildkite.com", "", False),
    ("api.buildkite.com", "api.buildkite.com", True),
    ("api.buildkite.com", "API.Buildkite.com", True),
    ("API.buildkite.COM", "buildkite.com", True),
    ("api.buildkite.com", "buildkite.com", True),
    ("buildkite.com", "buildkite.com", True),
    ("api.buildkite.com", ".buildkite.com", True),
    ("buildkite.com", ".buildkite.com", False),
    ("api.buildkite.com", "*.buildkite.com", True),
    ("buildkite.com", "*.buildkite.com", False),
    ("notbuildkite.com", "buildkite.com", False),
    ("api.buildkite.com", "buildkite", False),
    ("api.buildkite.com", "com", True),
    ("api.buildkite.com", "*", True),
    ("api.buildkite.com", "other.example, *", True),
    ("10.1.2.3", "*", True),
    ("api.buildkite.com", "*buildkite.com", False),
    ("api.buildkite.com", "other.example,\tapi.buildkite.com ,", True),
    ("api.buildkite.com", " ,, , ", False),
    ("api.buildkite.com", "other.example api.buildkite.com", False),
    ("api.buildkite.com", "api.buildkite.com:443", True),
    ("api.buildkite.com", "buildkite.com:443", True),
    ("api.buildkite.com", ".buildkite.com:8443", False),
    ("api.buildkite.com:8443", ".buildkite.com:8443", True),
    ("api.buildkite.com", "api.buildkite.com:", True),
    ("api.buildkite.com", "api.buildkite.com:https", False),
    ("api.buildkite.com", ":443", False),
    ("api.buildkite.com", "https://api.buildkite.com", False),
    ("10.1.2.3", "10.1.2.3", True),
    ("10.1.2.3", "10.1.2.3:443", True),
    ("10.1.2.3", "10.1.2.3:6443", False),
    ("10.1.2.3:6443", "10.1.2.3:6443", True),
    ("10.1.2.3", "10.0.0.0/8", True),
    ("10.1.2.3", "10.9.9.9/8", True),
    ("11.1.2.3", "10.0.0.0/8", False),
    ("10.1.2.3", "10.0.0.0/99", False),
    ("10.1.2.3", "10.0.0.0/255.0.0.0", False),
    ("10.1.2.3", "10.0.0", False),
    ("10.1.2.3", "2.3", False),
    ("10.1.2.3", "0.0.0.0/0", True),
    ("10.1.2.3", "::/0", False),
    ("10.1.2.3", "010.1.2.3", False),
    ("[fd00::1]", "fd00::1", True),
    ("[fd00::1]", "[fd00::1]", True),
    ("[fd00::1]", "[fd00::1]:443", True),
    ("[fd00::1]:6443", "[fd00::1]:443", False),
    ("[fd00::1]", "FD00:0:0::1", True),
    ("[fd00::1]", "fd00::/8", True),
    ("[fe80::1]", "fd00::/8", False),
    ("[fe80::1]", "fe80::/10", True),
    ("[fe80::1%25eth0]", "fe80::/10", True),
    ("[2001:db8::1]", "::1/128,fd00::/8,fe80::/10,[::1],.svc,10.0.0.0/8", False),
    ("api.buildkite.com", "::1/128,fd00::/8,fe80::/10,[::1],[::1]:443,::1,.svc,10.0.0.0/8", False),
    ("[::ffff:10.1.2.3]", "10.0.0.0/8", True),
    ("10.1.2.3", "::ffff:10.1.2.3", True),
    ("kubernetes.default.svc", ".svc,.cluster.local", True),
    ("api.bücher.example", "bücher.example", True),
    ("api.xn--bcher-kva.example", "bücher.example", True),
    ("localhost", "", True),
    ("localhost:8443", "", True),
    ("127.0.0.1", "", True),
    ("127.9.9.9:8443", "", True),
    ("[::1]:8443", "", True),
    ("[::ffff:127.0.0.1]", "", True),
    ("localhost.example", "", False),
]


@pytest.mark.parametrize(("host", "no_proxy", "direct"), NO_PROXY)
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_no_proxy_is_read_as_go_reads_it(host: str, no_proxy: str, direct: bool, variable: str) -> None:
    found = chosen(f"https://{host}/v2", HTTPS_PROXY=PROXY, **{variable: no_proxy})
    assert found == (None if direct else PROXY)


def test_capitals_count_before_small_letters_in_no_proxy_too() -> None:
    assert chosen(BUILDKITE, HTTPS_PROXY=PROXY, NO_PROXY="other.example", no_proxy="*") == PROXY
    assert chosen(BUILDKITE, HTTPS_PROXY=PROXY, NO_PROXY="", no_proxy="*") is None


def test_the_port_of_plain_http_is_80() -> None:
    assert chosen("http://collector.example/", HTTP_PROXY=PROXY, NO_PROXY="collector.example:80") is None
    assert chosen("http://collector.example/", HTTP_PROXY=PROXY, NO_PROXY="collector.example:443") == PROXY


def test_a_proxy_shows_neither_user_nor_password() -> None:
    proxy = read_proxies({"HTTPS_PROXY": f"http://svc-user:{SECRET}@proxy.example:3128"}).https
    assert proxy is not None
    assert str(proxy) == "proxy.example:3128"
    assert SECRET not in f"{proxy} {proxy!r} {Proxies(https=proxy)!r}"
    assert "svc-user" not in f"{proxy} {proxy!r}"
    assert proxy.secrets == (SECRET, f"svc-user:{SECRET}")


def test_all_proxy_alone_is_warned_of_without_its_text() -> None:
    (warning,) = read_proxies({"ALL_PROXY": f"http://svc:{SECRET}@proxy"}).warnings
    assert "ALL_PROXY" in warning
    assert "HTTPS_PROXY" in warning
    assert SECRET not in warning
    assert read_proxies({"ALL_PROXY": "socks5://proxy:1", "HTTPS_PROXY": PROXY}).warnings == ()
