"""Whatever stands for a host in a client ID or a setting: it is refused in a sentence, or a call to it can be made."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from buildkite_connector.c1 import C1Settings, parse_credentials
from buildkite_connector.c1.channel import Channel
from buildkite_connector.c1.endpoint import parse_endpoint
from buildkite_connector.c1.token import TokenSource
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.observer import SILENT
from buildkite_connector.network import Network, read_proxies
from buildkite_connector.timing.clock import SystemClock
from unit.c1.test_c1_allowed_hosts import SECRET

NO_NAMES = [
    *("xn--.conductor.one", "xn--0.conductor.one", "XN--0.conductor.one", "xn--ls8h.conductor.one", "xn--a-ecp.ru"),
    *(f"xn--{'a' * 59}.conductor.one", "xn--www-.conductor.one", "xn--a.xn--b:8443"),
    *("999.1.1.1", "1.2.3.256"),
]
NAMES = [
    *("acme.conductor.one", "ACME.conductor.one:8443", "xn--e1afmkfd.conductor.one", "XN--E1AFMKFD.conductor.one"),
    *(
        "ab--cd.conductor.one",
        "a.xn--a.conductor.one",
        "a_b.conductor.one",
        "a-.conductor.one",
        f"{'a' * 64}.conductor.one",
        "a..conductor.one",
    ),
    *(
        "a.xn--a.conductor.one",
        "127.0.0.1",
        "1.2.3",
        "0x7f.1",
        "2130706433",
        "[::1]",
        "[fe80::1]:443",
        "[::ffff:1.2.3.4]",
    ),
]
NOWHERE = Network(proxies=read_proxies({"HTTPS_PROXY": "http://127.0.0.1:1"}))


async def call(host: str) -> Failure:
    """The first call to it, through a proxy that is not there: nothing is looked up."""
    channel = Channel(parse_endpoint(host), C1Settings(), NOWHERE, NOWHERE.trust.ssl_context(), NOWHERE.trust.pem)
    try:
        credentials = parse_credentials(f"a@{host}/x", SECRET)
        with pytest.raises(Failure) as caught:
            await TokenSource(credentials, channel, SystemClock(), 5.0, SILENT).current()
        return caught.value
    finally:
        await channel.aclose()


@pytest.mark.parametrize("host", NO_NAMES)
def test_a_host_that_is_no_name_is_refused_in_a_sentence(host: str) -> None:
    with pytest.raises(Failure, match=r"^The client ID has a host that is not the name of a host: .* must be Punycode"):
        parse_credentials(f"a@{host}/x", SECRET)


@pytest.mark.parametrize("host", NAMES)
async def test_a_call_to_any_other_is_made(host: str) -> None:
    assert (await call(host)).reason is Reason.C1_UNREACHABLE


_LABELS = st.text("xn-a0_.é", min_size=1, max_size=8) | st.text("an019-", max_size=12).map(lambda text: f"xn--{text}")


@settings(deadline=None, max_examples=200)
@example("xn--0.one")
@given(st.lists(_LABELS, min_size=1, max_size=3).map(".".join))
async def test_nothing_else_comes_of_any_text(host: str) -> None:
    try:
        parse_endpoint(host)
    except ValueError:
        return
    assert (await call(host)).reason is Reason.C1_UNREACHABLE
