"""Each way in which an exchange fails, over a real socket: its reason, its remedy and what a person is told."""

import base64
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from unittest.mock import Mock

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from buildkite_connector.buildkite import SigningKey
from buildkite_connector.buildkite.errors import LONGEST_BUILDKITE_WAIT
from buildkite_connector.model.credential_forms import Credential, mistake
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import PLACEHOLDER
from buildkite_connector.model.spec import Credentials
from fakes.exchange_setup import ec_pem, pem_of, rsa_pem
from fakes.task_ports import Records
from fakes.virtual_time import virtual_time
from simulators.buildkite import faults
from simulators.buildkite.faults import Effect
from unit.buildkite.exchanging import Exchanging, exchanging

REJECTED, INVALID = Reason.TOKEN_EXCHANGE_REJECTED, Reason.BUILDKITE_RESPONSE_INVALID
CREDENTIALS, EDIT, RETRY = Remedy.CREDENTIALS, Remedy.EDIT, Remedy.RETRY
HTML = {"Content-Type": "text/html"}


@dataclass(frozen=True)
class Case:
    """What is wrong, and what comes of it. `asked`: how often."""

    name: str
    break_it: Callable[[Exchanging], object]
    reason: Reason
    remedy: Remedy
    says: str
    asked: int = 1


def error(code: str, description: str = "", status: int = 400) -> Callable[[Exchanging], object]:
    return answered(faults.answer(status, {"error": code, "error_description": description}))


def answered(effect: Effect) -> Callable[[Exchanging], object]:
    return lambda setup: setup.sim.fault(effect, path="/oauth/token", times=None)


def another(**changes: str) -> Callable[[Exchanging], object]:
    def change(setup: Exchanging) -> None:
        setup.registered.exchange = replace(setup.registered.exchange, **changes)

    return change


def app(**changes: object) -> Callable[[Exchanging], object]:
    def change(setup: Exchanging) -> None:
        for name, value in changes.items():
            setattr(setup.registered.app, name, value)

    return change


def clock(seconds: float) -> Callable[[Exchanging], object]:
    def change(setup: Exchanging) -> None:
        now = setup.clock.now
        setup.sim.exchanges.now = setup.sim._now = lambda: now() + timedelta(seconds=seconds)

    return change


def disabled(setup: Exchanging) -> None:
    setup.sim.exchanges.enabled = False


def elsewhere(setup: Exchanging) -> None:
    setup.registered.app.organization = "other"


CASES = [
    # What the simulator finds out by itself
    Case("another key", another(private_key=ec_pem(1)), REJECTED, CREDENTIALS, "lacks the public key"),
    Case("another client ID", another(client_id="f" * 20), REJECTED, CREDENTIALS, "the app still exists"),
    Case("no member", another(subject="nobody@example.com"), REJECTED, CREDENTIALS, "an active member"),
    Case("another organization", elsewhere, REJECTED, EDIT, "Correct the organization's slug"),
    Case("no app", disabled, REJECTED, CREDENTIALS, "must create an app"),
    Case("another address", app(addresses=frozenset()), REJECTED, CREDENTIALS, "allowed IP addresses"),
    Case("the clock is behind", clock(400), Reason.CLOCK_WRONG, RETRY, "behind Buildkite's. Set it by NTP"),
    Case("no scope", app(grantable=()), Reason.TOKEN_SCOPE_MISSING, CREDENTIALS, "lacks read_organ|does not grant", 3),
    # What its documentation lists
    Case("aud", error("invalid_client", "JWT `aud` claim is invalid", 401), REJECTED, RETRY, "TOKEN_EXCHANGE_URL"),
    Case("exp", error("invalid_client", "JWT `exp` claim must be in the future", 401), REJECTED, RETRY, "by NTP"),
    Case("jti used", error("invalid_client", "JWT has already been used (jti)", 401), REJECTED, RETRY, "twice", 4),
    Case("no jti", error("invalid_client", "JWT must contain a `jti` claim", 401), REJECTED, RETRY, "upgrade"),
    Case("signature", error("invalid_client", "Invalid client assertion signature"), REJECTED, CREDENTIALS, "JWKS"),
    Case("invalid_client", error("invalid_client"), REJECTED, CREDENTIALS, "(invalid_client)"),
    Case("another error", error("server_says_no", "Because."), REJECTED, CREDENTIALS, "(server_says_no: Because.)"),
    # What else an endpoint, or something before it, may answer
    Case("403", answered(faults.answer(403, {"message": "no"})), REJECTED, CREDENTIALS, "allowed IP addresses"),
    Case("403 in HTML", answered(faults.answer(403, {}, HTML)), INVALID, RETRY, "403 in text/html"),
    Case("404", answered(faults.answer(404, {})), INVALID, RETRY, "does not lead to Buildkite's token endpoint"),
    Case("418", answered(faults.answer(418, {})), INVALID, RETRY, "the response is 418"),
    Case("429", answered(faults.answer(429, {})), Reason.BUILDKITE_RATE_LIMITED, RETRY, "rate limit is used up"),
    Case("500", answered(faults.server_error()), Reason.BUILDKITE_UNAVAILABLE, RETRY, "responded with 500", 4),
    Case("502", answered(faults.bad_gateway()), Reason.BUILDKITE_UNAVAILABLE, RETRY, "responded with 502", 4),
    Case(
        "a redirect", answered(faults.redirect("https://x.example/")), Reason.BUILDKITE_LINK_REFUSED, RETRY, "https://x"
    ),
    Case("200 in HTML", answered(faults.not_json()), INVALID, RETRY, "expected a token or an OAuth error"),
    Case("no token", answered(faults.answer(200, {"expires_in": 60})), INVALID, RETRY, "expected a token"),
    Case(
        "no bearer", answered(faults.answer(200, {"access_token": "t", "token_type": "mac"})), INVALID, RETRY, "200 in"
    ),
    Case(
        "a long token", answered(faults.answer(200, {"access_token": "t" * 9000})), INVALID, RETRY, "expected a token"
    ),
    Case(
        "a long life", answered(faults.answer(200, {"access_token": "t", "expires_in": 1e9})), INVALID, RETRY, "200 in"
    ),
    Case("an odd life", answered(faults.answer(200, {"access_token": "t", "expires_in": True})), INVALID, RETRY, "200"),
    Case("endless", answered(faults.endless()), INVALID, RETRY, "is larger than"),
    Case("cut off", answered(faults.reset()), Reason.BUILDKITE_UNREACHABLE, RETRY, "Check the network", 4),
    Case("silence", answered(faults.stall(None)), Reason.BUILDKITE_UNREACHABLE, RETRY, "no response in time"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@virtual_time
async def test_each_failure_has_its_reason_its_remedy_and_advice(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    records = Records()
    async with exchanging(observer=records) as setup:
        known = setup.registered.exchange
        case.break_it(setup)
        redactor = Credentials("", "", "", token_exchange=setup.registered.exchange).redactor
        with pytest.raises(Failure) as raised:
            await setup.client(redactor=redactor).token()
        asked = max(setup.exchanges, setup.sim.transcript.connections)  # what is cut off leaves no record
        used = setup.registered.exchange
    failure = raised.value
    assert (failure.reason, failure.remedy) == (case.reason, case.remedy), failure.message
    assert any(each in failure.message for each in case.says.split("|")), failure.message
    assert len(failure.message) < 700
    assert "\n" not in failure.message
    assert asked == case.asked
    told = f"{failure!r} {traceback.format_exception(failure)} {caplog.text} {records}"
    for exchange in (known, used):
        body = "".join(exchange.private_key.splitlines()[1:-1])
        assert body[20:60] not in told.replace("\\n", "")
        assert exchange.subject not in told


@pytest.mark.parametrize("after", [7, 5000, None])
@virtual_time
async def test_a_rate_limit_says_when_to_come_back(after: int | None) -> None:
    headers = {} if after is None else {"Retry-After": str(after)}
    async with exchanging() as setup:
        setup.sim.fault(faults.answer(429, {}, headers), path="/oauth/token", times=None)
        with pytest.raises(Failure) as raised:
            await setup.client().token()
        assert raised.value.retry_after == (None if after is None else min(after, LONGEST_BUILDKITE_WAIT))


@virtual_time
async def test_an_error_may_have_null_for_its_description() -> None:
    async with exchanging() as setup:
        document = {"error": "invalid_target", "error_description": None}
        setup.sim.fault(faults.answer(400, document), path="/oauth/token")
        with pytest.raises(Failure, match=r"refuses the token exchange \(invalid_target\)") as raised:
            await setup.client().token()
        assert (raised.value.reason, raised.value.remedy) == (REJECTED, EDIT)


@virtual_time
async def test_a_failure_that_passes_is_waited_out() -> None:
    async with exchanging() as setup:
        setup.sim.fault(faults.server_error(), path="/oauth/token", times=2)
        setup.sim.fault(faults.answer(401, {"error": "invalid_client", "error_description": "already been used"}))
        await setup.client().token()
        assert setup.exchanges == 4


@pytest.mark.parametrize("what", ["client_assertion", "jti", "token", "client_id", "subject_token"])
@virtual_time
async def test_what_was_sent_or_received_is_not_repeated(what: str) -> None:
    """By an endpoint, or by the API, that sends it back."""
    async with exchanging() as setup:
        exchange = setup.registered.exchange
        client = setup.client(redactor=Credentials("", "", "", token_exchange=exchange).redactor)
        await client.token()
        sent = setup.sim.exchanges.minted[0]
        secret = {
            "client_assertion": sent.assertion,
            "jti": str(jwt.decode(sent.assertion, options={"verify_signature": False})["jti"]),
            "token": sent.token,
            "client_id": exchange.client_id,
            "subject_token": exchange.subject,
        }[what]
        setup.sim.fault(faults.answer(403, {"message": f"No {secret} here"}), path="/v2/organizations/*")
        with pytest.raises(Failure) as by_api:
            await setup.ask(client)
        setup.sim.api.revoke(sent.token)
        setup.sim.fault(
            faults.answer(401, {"error": "invalid_client", "error_description": f"No {secret} here"}),
            path="/oauth/token",
        )
        with pytest.raises(Failure) as by_endpoint:
            await setup.ask(client)
    for failure in (by_api.value, by_endpoint.value):
        assert secret[:20] not in failure.message
        assert PLACEHOLDER in failure.message


def encrypted() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"p")).decode()


def openssh() -> str:
    return (
        ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    )


def public() -> str:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def mismatched() -> str:
    """An RSA key whose private exponents belong to no key; its primes are those of the modulus."""
    known = rsa.generate_private_key(65537, 2048).private_numbers()
    parts = (known.d + 2, known.dmp1 + 2, known.dmq1, known.iqmp)
    numbers = rsa.RSAPrivateNumbers(known.p, known.q, *parts, known.public_numbers)
    return pem_of(numbers.private_key(unsafe_skip_rsa_key_validation=True))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (public(), "is a public key"),
        (encrypted(), "is encrypted with a passphrase"),
        (openssh(), "is in OpenSSH's format"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "is a certificate"),
        ("-----BEGIN PUBLIC", "is not a private key in PEM format"),
        (ec_pem().replace("\n", " "), "has lost its line breaks"),
        (ec_pem()[:-20], "is cut short"),
        (ec_pem()[:-20].replace("\n", "\\n"), "is cut short"),
        (ec_pem() + ec_pem(1), "has several private keys"),
        ("", "is empty"),
    ],
)
def test_a_text_that_is_no_private_key_is_named_for_what_it_is(value: str, says: str) -> None:
    with pytest.raises(Failure, match=says.replace("\\", "\\\\")) as raised:
        SigningKey.parse(value)
    assert (raised.value.reason, raised.value.remedy) == (Reason.SECRET_KEY_INVALID, Remedy.CREDENTIALS)
    if value:
        assert says in (mistake(value, Credential.EXCHANGE_KEY) or "")
        assert value not in raised.value.message


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (pem_of(ec.generate_private_key(ec.SECP384R1())), "an EC key on the curve secp384r1"),
        (pem_of(ed25519.Ed25519PrivateKey.generate()), "neither an RSA key nor an EC key"),
        (pem_of(rsa.generate_private_key(65537, 1024)), "an RSA key of 1024 bits"),  # noqa: S505
        (ec_pem().replace("MI", "NI", 1), "cannot be read"),
        (mismatched(), "cannot be read"),
    ],
)
def test_a_key_that_buildkite_does_not_take_is_named(value: str, says: str) -> None:
    assert mistake(value, Credential.EXCHANGE_KEY) is None
    with pytest.raises(Failure, match=says) as raised:
        SigningKey.parse(value)
    assert value.splitlines()[1] not in raised.value.message


def test_reading_a_large_rsa_key_does_not_hold_up_the_process() -> None:
    """The library's own test of its primes takes 0.1 s, and 0.3 s to 0.8 s for 4096 bits; it keeps the interpreter's
    lock, in a thread too."""
    pem = rsa_pem(3072)
    began = time.process_time()
    SigningKey.parse(pem)
    assert time.process_time() - began < 0.05


RFC_N = (
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs"
    "tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5ha"
    "jrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
)


def test_the_key_id_is_the_thumbprint_of_rfc_7638() -> None:
    """By RFC 7638's own example, section 3.1."""
    numbers = rsa.RSAPublicNumbers(65537, int.from_bytes(base64.urlsafe_b64decode(RFC_N + "==")))
    key = Mock(spec=rsa.RSAPrivateKey, key_size=2048)
    key.public_key.return_value = numbers.public_key()
    parsed = SigningKey.of(key)
    assert parsed.key_id == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    assert parsed.public_jwk() == {
        "kty": "RSA",
        "n": RFC_N,
        "e": "AQAB",
        "kid": parsed.key_id,
        "use": "sig",
        "alg": "RS256",
    }


@pytest.mark.parametrize("pem", [ec_pem(), rsa_pem()])
def test_the_jwk_has_nothing_private_and_verifies_what_the_key_signs(pem: str) -> None:
    key = SigningKey.parse(pem)
    jwk = key.public_jwk()
    assert jwt.decode(key.sign({"iss": "x"}), jwt.PyJWK(jwk).key, [jwk["alg"]]) == {"iss": "x"}
    assert jwk.keys() == {"kid", "use", "alg", "kty"} | ({"n", "e"} if jwk["kty"] == "RSA" else {"crv", "x", "y"})
    assert "private" not in repr(key).lower()
