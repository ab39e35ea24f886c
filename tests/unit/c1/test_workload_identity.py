"""Workload identity: the service-account token from its file, exchanged for an access token; what a refusal says."""

import json
import logging
import os
import re
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buildkite_connector.c1 import C1Settings, RestClient
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import C1Access
from fakes.c1_setup import SetClock
from simulators.c1.federation import Mismatch
from simulators.c1.server import C1Simulator
from unit.c1.rest_setup import ADMINISTRATOR, rest_client

ISSUER = "https://cluster.example/oidc"
SUBJECT = "system:serviceaccount:operators:buildkite-connector"
VARIABLE = "BUILDKITE_CONNECTOR_C1_TOKEN_FILE"
FILL = (
    f"Set the chart value c1.workloadIdentity.enabled, which mounts the token, or set {VARIABLE} to the file "
    "of a projected service-account token."
)
KEYS = ", and that C1 can fetch the issuer's keys."
TRUST = f"Check that the trust in C1 fits this token [(]issuer {ISSUER}, subject {SUBJECT}[)]{KEYS}"


class Issuer:
    """A cluster that signs service-account tokens."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()

    @property
    def keys(self) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [{**public, "kid": "1", "alg": "EdDSA"}]}

    def sign(self, clock: SetClock, audience: object = ("localhost",), age: float = 0.0, **claims: object) -> str:
        issued = int(clock.now().timestamp() - age)
        usual = {"iss": ISSUER, "sub": SUBJECT, "aud": list(audience) if isinstance(audience, tuple) else audience}
        return jwt.encode(
            {**usual, "iat": issued, "exp": issued + 600 + age, **claims}, self._key, "EdDSA", headers={"kid": "1"}
        )


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    return tmp_path / "token"


@asynccontextmanager
async def federated(
    sim: C1Simulator, issuer: Issuer, token_file: Path | str, clock: SetClock | None = None
) -> AsyncIterator[RestClient]:
    """A client that has no secret; C1 trusts the issuer."""
    trust = sim.register_trust(ISSUER, issuer.keys, subject=SUBJECT, roles=ADMINISTRATOR)
    access = C1Access(trust.client_id)
    async with rest_client(sim, access=access, clock=clock, token_file=str(token_file)) as client:
        yield client


async def test_the_token_is_exchanged_once_for_what_c1_says_and_read_again_each_time(
    sim: C1Simulator, issuer: Issuer, token_file: Path
) -> None:
    clock, connector = SetClock(), sim.register_connector()
    async with federated(sim, issuer, token_file, clock) as client:
        token_file.write_text(f"{issuer.sign(clock)}\n", encoding="ascii")
        for _ in range(2):
            await client.connector(connector.app_id, connector.id)
        assert sim.token_requests == 1
        token_file.write_text("rotated to nonsense", encoding="ascii")
        clock.ahead += 1700
        await client.connector(connector.app_id, connector.id)
        assert sim.token_requests == 1
        clock.ahead += 100
        with pytest.raises(Failure, match="does not hold a service-account token"):
            await client.connector(connector.app_id, connector.id)
        token_file.unlink()
        token_file.write_text(issuer.sign(clock), encoding="ascii")
        await client.connector(connector.app_id, connector.id)
    assert sim.token_requests == 2
    assert sim.violations == []


async def test_the_kubelets_links_are_followed(sim: C1Simulator, issuer: Issuer, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    for name in ("..1", "..2"):
        (volume / name).mkdir(parents=True)
    (volume / "..1" / "token").write_text(issuer.sign(SetClock(), sub="another"), encoding="ascii")
    (volume / "..data").symlink_to("..1")
    (volume / "token").symlink_to("..data/token")
    async with federated(sim, issuer, volume / "token") as client:
        with pytest.raises(Failure, match="refused the service-account token"):
            await client.authenticate()
        (volume / "..2" / "token").write_text(issuer.sign(SetClock()), encoding="ascii")
        (volume / "..data_tmp").symlink_to("..2")
        (volume / "..data_tmp").replace(volume / "..data")
        await client.authenticate()


@pytest.mark.parametrize(
    ("changes", "mismatch", "hint"),
    [
        (
            {"exp": 1},
            Mismatch.TOKEN_EXPIRED,
            f"The token expired [0-9]+ s ago: check that the kubelet renews {VARIABLE}. {TRUST}",
        ),
        ({"audience": "LocalHost"}, Mismatch.AUDIENCE_MISMATCH, TRUST),
        (
            {"age": 700.0},
            Mismatch.TOKEN_TOO_OLD,
            "The token was issued 7[0-9]+ s ago, and C1 accepts 600 s: set expirationSeconds of its volume to 600. "
            + TRUST,
        ),
        (
            {"iss": "https://kubernetes.default.svc"},
            Mismatch.ISSUER_MISMATCH,
            TRUST.replace(ISSUER, "https://kubernetes.default.svc"),
        ),
        ({"sub": "system:node:1"}, Mismatch.CEL_CONDITION_NOT_MET, TRUST.replace(SUBJECT, "system:node:1")),
        (
            {"audience": ["a", "localhost"], "exp": 1, "age": 5000.0},
            Mismatch.TOKEN_EXPIRED,
            "The token expired .* The token was issued 500[0-9] s ago.*",
        ),
        (
            {"iss": "x" * 5000, "sub": None},
            Mismatch.ISSUER_MISMATCH,
            f"Check that the trust in C1 fits this token [(]issuer x{{100,200}}…[)]{KEYS}",
        ),
        (
            {"exp": "soon", "iat": True},
            Mismatch.TOKEN_EXPIRED,
            TRUST,
        ),
    ],
    ids=["expired", "case", "old", "issuer", "subject", "all", "long", "nonsense"],
)
async def test_a_refused_token_is_explained_by_what_it_claims(
    sim: C1Simulator, issuer: Issuer, token_file: Path, changes: dict[str, Any], mismatch: Mismatch, hint: str
) -> None:
    token_file.write_text(issuer.sign(SetClock(), **changes), encoding="ascii")
    async with federated(sim, issuer, token_file) as client:
        with pytest.raises(Failure) as caught:
            await client.force_sync("app1", "con1")
    refused = (
        rf"C1's token endpoint {sim.url}/auth/v1/token refused the service-account token with 401 \(invalid_\w+\)\. "
    )
    assert re.fullmatch(refused + hint, caught.value.message)
    assert (caught.value.reason, caught.value.remedy) == (Reason.WORKLOAD_IDENTITY_REJECTED, Remedy.CREDENTIALS)
    assert [why for _, why in sim.journal.system_log] == [mismatch]
    assert len(caught.value.message) < 600


@pytest.mark.parametrize(
    "audience",
    ["https://kubernetes.default.svc", ["a", "b"], "localhost.evil.example", [["localhost"]], None],
)
async def test_a_token_for_another_audience_is_not_sent(
    sim: C1Simulator, issuer: Issuer, token_file: Path, audience: object
) -> None:
    token_file.write_text(issuer.sign(SetClock(), aud=audience), encoding="ascii")
    async with federated(sim, issuer, token_file) as client:
        with pytest.raises(Failure) as caught:
            await client.force_sync("app1", "con1")
    assert caught.value.message == (
        "The service-account token was not sent to C1. The token's audience is not localhost: set "
        "c1.workloadIdentity.audience of the chart to it."
    )
    assert (caught.value.reason, caught.value.remedy) == (Reason.WORKLOAD_IDENTITY_REJECTED, Remedy.CREDENTIALS)
    assert sim.token_requests == 0
    assert sim.transcript == type(sim.transcript)()


async def test_behind_a_redirection_the_audience_stays_the_client_ids_host(
    sim: C1Simulator, issuer: Issuer, token_file: Path
) -> None:
    access = C1Access("otter@acme.conductor.one/wfe")
    async with rest_client(sim, access=access, token_file=str(token_file), api_host=sim.address) as client:
        token_file.write_text(issuer.sign(SetClock()), encoding="ascii")
        with pytest.raises(Failure, match=r"was not sent to C1. The token's audience is not acme\.conductor\.one: "):
            await client.authenticate()
        assert sim.token_requests == 0
        token_file.write_text(issuer.sign(SetClock(), audience="acme.conductor.one"), encoding="ascii")
        with pytest.raises(Failure, match="refused the service-account token"):
            await client.authenticate()
    assert sim.token_requests == 1


@pytest.mark.parametrize("seconds", [-4000, 4000])
async def test_the_age_is_told_by_c1s_clock_and_ours_is_not_blamed(
    sim: C1Simulator, issuer: Issuer, token_file: Path, seconds: int
) -> None:
    clock = SetClock()
    token_file.write_text(issuer.sign(clock, age=700.0, sub="another"), encoding="ascii")
    clock.wrong_by = timedelta(seconds=seconds)
    async with federated(sim, issuer, token_file, clock) as client:
        with pytest.raises(Failure, match=r"The token was issued [67][0-9][0-9] s ago") as caught:
            await client.authenticate()
    assert caught.value.reason is Reason.WORKLOAD_IDENTITY_REJECTED
    assert "expired" not in caught.value.message


async def test_a_token_that_is_taken_and_then_refused_names_the_trust(
    sim: C1Simulator, issuer: Issuer, token_file: Path
) -> None:
    token_file.write_text(issuer.sign(SetClock()), encoding="ascii")
    sim.answer_rest("ForceSync", 401, "{}", times=None)
    async with federated(sim, issuer, token_file) as client:
        with pytest.raises(Failure, match=r": 401\. Check in C1 that the trust and its service principal") as caught:
            await client.force_sync("app1", "con1")
    assert caught.value.reason is Reason.C1_CLIENT_REJECTED


def fifo(path: Path) -> None:
    os.mkfifo(path)


def sparse(path: Path) -> None:
    """More than fits into memory."""
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: None, "does not exist."),
        (Path.mkdir, "cannot be read (Is a directory)."),
        (fifo, "is not a regular file."),
        (lambda path: path.symlink_to(path), "cannot be read (Too many levels of symbolic links)."),
        (lambda path: path.write_bytes(b""), "is empty."),
        (lambda path: path.write_bytes(b" \n\n"), "is empty."),
        (lambda path: path.write_bytes(b"a" * 8193), "has more than 8192 bytes."),
        (sparse, "has more than 8192 bytes."),
        (lambda path: path.symlink_to("/dev/zero"), "is not a regular file."),
        (lambda path: path.write_bytes(bytes(range(256))), "does not hold a service-account token (a JWT)."),
        (lambda path: path.write_bytes(b"password"), "does not hold a service-account token (a JWT)."),
        (lambda path: path.write_bytes(b"eyJh.eyJh."), "does not hold a service-account token (a JWT)."),
    ],
    ids=[
        "missing",
        "directory",
        "fifo",
        "loop",
        "empty",
        "blank",
        "huge",
        "sparse",
        "device",
        "binary",
        "password",
        "unsigned",
    ],
)
async def test_a_file_that_cannot_be_used_is_named_and_nothing_is_sent(
    sim: C1Simulator, issuer: Issuer, token_file: Path, make: Any, what: str
) -> None:
    make(token_file)
    async with federated(sim, issuer, token_file) as client:
        with pytest.raises(Failure) as caught:
            await client.force_sync("app1", "con1")
    assert caught.value.message == f"The file {token_file} ({VARIABLE}) {what} {FILL}"
    assert (caught.value.reason, caught.value.remedy) == (Reason.WORKLOAD_IDENTITY_REJECTED, Remedy.CREDENTIALS)
    assert sim.transcript == type(sim.transcript)()


async def test_a_token_in_place_of_its_path_is_not_shown(sim: C1Simulator, issuer: Issuer) -> None:
    token = issuer.sign(SetClock())
    for path in (token, "a\0b"):
        async with federated(sim, issuer, path) as client:
            with pytest.raises(Failure, match=f"The file of the service-account token .{VARIABLE}. ") as caught:
                await client.authenticate()
        assert path not in "".join(traceback.format_exception(caught.value))


async def test_without_the_variable_there_is_no_workload_identity(sim: C1Simulator, issuer: Issuer) -> None:
    assert C1Settings.from_environment({}).token_file == C1Settings().token_file == ""
    assert C1Settings.from_environment({VARIABLE: " /run/token "}).token_file == "/run/token"
    with pytest.raises(Failure) as caught:
        async with federated(sim, issuer, ""):
            pass
    assert caught.value.message == f"There is no service-account token for C1: {VARIABLE} is not set. {FILL}"
    assert caught.value.reason is Reason.WORKLOAD_IDENTITY_REJECTED


async def test_nothing_that_is_logged_or_raised_holds_a_token(
    sim: C1Simulator, issuer: Issuer, token_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, logger=name)
    subject, minted = issuer.sign(SetClock()), "c1at_0123456789abcdef0123456789abcdef"
    echo = json.dumps({"message": f"no {subject} and {minted} here"})
    token_file.write_text(subject, encoding="ascii")
    told = []
    async with federated(sim, issuer, token_file) as client:
        for status, body in (
            (401, json.dumps({"error": "invalid_grant", "error_description": subject})),
            (500, subject),
            (200, json.dumps({"access_token": [subject]})),
        ):
            sim.answer_token(status, body)
            with pytest.raises(Failure) as caught:
                await client.authenticate()
            told.append("".join(traceback.format_exception(caught.value)))
        good = json.dumps({"access_token": minted, "token_type": "Bearer", "expires_in": 600})
        sim.answer_token(200, good, times=None)
        for status in (200, 401, 403, 404, 409, 500):
            sim.answer_rest("ForceSync", status, "{}" if status == 200 else echo, times=2 if status == 401 else 1)
            if status == 200:
                await client.force_sync("app1", "con1")
                continue
            with pytest.raises(Failure) as caught:
                await client.force_sync("app1", "con1")
            assert "no [redacted] and [redacted] here" in caught.value.message
            told.append("".join(traceback.format_exception(caught.value)))
        told.append(f"{client!r} {vars(client)!r}")
    told += [f"{record.getMessage()} {record.args!r} {record.exc_text}" for record in caplog.records]
    assert any("auth/v1/token" in text for text in told)
    for text in told:
        for secret in (minted, *subject.split(".")):
            assert secret not in text
