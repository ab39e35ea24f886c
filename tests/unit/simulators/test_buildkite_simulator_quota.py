"""The Buildkite simulator's two rate limits, with a clock that the test turns."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from harness.trust import plain_client
from simulators.buildkite.api import Token, User
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.quota import BUILDKITE_LIMITS, NO_OTHER_USE, UNLIMITED, Limits, OtherUse
from simulators.buildkite.server import BuildkiteSimulator, Config

FIRST = Token()
COLLEAGUE = Token("bkua_" + "e" * 40, user=User("u2", "Pat", "pat@example.com"))
SECOND_OF_FIRST = Token("bkua_" + "d" * 40)


@dataclass
class Seconds:
    passed: float = 1000.0

    def __call__(self) -> float:
        return self.passed


@asynccontextmanager
async def serving(
    limits: Limits = BUILDKITE_LIMITS, other_use: OtherUse = NO_OTHER_USE
) -> AsyncIterator[tuple[BuildkiteSimulator, httpx.AsyncClient, Seconds]]:
    time = Seconds()
    organizations = [make_organization(1, 0, 0, seed, slug) for seed, slug in enumerate(("acme", "other"))]
    config = Config(organizations, [FIRST, COLLEAGUE, SECOND_OF_FIRST], limits, other_use)
    async with (
        BuildkiteSimulator(config, monotonic=time) as sim,
        plain_client(sim.url, headers=bearer(FIRST)) as client,
    ):
        yield sim, client, time


def bearer(token: Token) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.value}"}


def quota(answer: httpx.Response) -> dict[str, str]:
    """The rate-limit headers as they were written."""
    return {name.decode(): text.decode() for name, text in answer.headers.raw if name.lower().startswith(b"ratelimit")}


def remaining(answer: httpx.Response) -> tuple[int, int]:
    """What the user has left, and the organization."""
    return int(answer.headers["RateLimit-User-Remaining"]), int(answer.headers["RateLimit-Remaining"])


async def test_every_answer_to_a_known_token_tells_both_limits() -> None:
    async with serving() as (_, client, _time):
        first = await client.get("/organizations/acme/members")
        missing = await client.get("/organizations/nobody")
    assert quota(first) == {
        "RateLimit-User-Scope": "rest_user",
        "RateLimit-User-Limit": "50",
        "RateLimit-User-Remaining": "49",
        "RateLimit-User-Reset": "60",
        "RateLimit-Scope": "rest",
        "RateLimit-Limit": "200",
        "RateLimit-Remaining": "199",
        "RateLimit-Reset": "60",
    }
    assert missing.status_code == 404
    assert remaining(missing) == (48, 198)


async def test_an_unknown_token_uses_and_learns_nothing() -> None:
    async with serving() as (_, client, _time):
        stranger = await client.get("/user", headers={"Authorization": "Bearer bkua_unknown"})
        assert quota(stranger) == {}
        assert remaining(await client.get("/user")) == (49, 199)


async def test_the_user_is_refused_above_their_limit() -> None:
    async with serving(Limits(user=2)) as (sim, client, time):
        assert [(await client.get("/user")).status_code for _ in range(2)] == [200, 200]
        time.passed += 17.2
        refused = await client.get("/user")
        again = await client.get("/user")
        assert sim.transcript.throttled == 2
    warning = "You have exceeded your API rate limit. Please wait 43 seconds before making more requests."
    assert refused.status_code == 429
    assert refused.json() == {
        "message": warning,
        "scope": "rest_user",
        "limit": 2,
        "current": 3,
        "reset": 43,
    }
    assert refused.headers["RateLimit-User-Warning"] == warning
    assert "RateLimit-Warning" not in refused.headers
    assert remaining(refused) == (0, 197)
    assert again.json()["current"] == 4


async def test_the_organization_is_refused_above_its_limit() -> None:
    async with serving(Limits(organization=1)) as (_, client, _time):
        await client.get("/organizations/acme")
        refused = await client.get("/organizations/acme", headers=bearer(COLLEAGUE))
        elsewhere = await client.get("/organizations/other", headers=bearer(COLLEAGUE))
    assert refused.status_code == 429
    assert refused.json()["scope"] == "rest"
    assert refused.json()["limit"] == 1
    assert "RateLimit-Warning" in refused.headers
    assert "RateLimit-User-Warning" not in refused.headers
    assert elsewhere.status_code == 200


async def test_users_have_limits_of_their_own_and_tokens_of_one_user_share_theirs() -> None:
    async with serving(Limits(user=1)) as (_, client, _time):
        assert (await client.get("/user")).status_code == 200
        assert (await client.get("/user", headers=bearer(SECOND_OF_FIRST))).status_code == 429
        assert (await client.get("/user", headers=bearer(COLLEAGUE))).status_code == 200


async def test_a_window_opens_with_its_first_use_and_resets_after_its_length() -> None:
    async with serving(Limits(user=1)) as (_, client, time):
        time.passed += 3600
        assert (await client.get("/user")).headers["RateLimit-User-Reset"] == "60"
        time.passed += 59.9
        late = await client.get("/user")
        assert (late.status_code, late.headers["RateLimit-User-Reset"]) == (429, "1")
        time.passed += 0.1
        fresh = await client.get("/user")
        assert (fresh.status_code, fresh.headers["RateLimit-User-Reset"]) == (200, "60")


async def test_other_tools_can_use_a_part_and_open_the_window() -> None:
    async with serving() as (sim, client, time):
        sim.consume(organization=150)
        time.passed += 20
        answer = await client.get("/user")
        assert remaining(answer) == (49, 49)
        assert (answer.headers["RateLimit-User-Reset"], answer.headers["RateLimit-Reset"]) == ("60", "40")
        sim.consume(user=25)
        assert remaining(await client.get("/user")) == (23, 48)


async def test_other_tools_can_use_a_part_of_every_window() -> None:
    async with serving(other_use=OtherUse(user=25, organization=100)) as (_, client, time):
        assert remaining(await client.get("/user")) == (24, 99)
        time.passed += 60
        assert remaining(await client.get("/user")) == (24, 99)


async def test_other_tools_can_use_a_part_little_by_little() -> None:
    async with serving(other_use=OtherUse(user=30, spread=True)) as (_, client, time):
        assert remaining(await client.get("/user"))[0] == 49
        time.passed += 30
        assert remaining(await client.get("/user"))[0] == 50 - 2 - 15
        time.passed += 29
        assert remaining(await client.get("/user"))[0] == 50 - 3 - 29


@pytest.mark.parametrize(
    ("limits", "reset"),
    [
        (Limits(window=0.5), "1"),
        (Limits(window=0.5, reset_decimals=2), "0.40"),
        (Limits(window=2.0, reset_decimals=1), "1.9"),
    ],
)
async def test_a_short_window_tells_its_reset_in_the_decimals_asked_for(limits: Limits, reset: str) -> None:
    async with serving(limits) as (_, client, time):
        await client.get("/user")
        time.passed += 0.1
        assert (await client.get("/user")).headers["RateLimit-User-Reset"] == reset


async def test_a_refusal_tells_a_reset_with_decimals_as_its_headers_do() -> None:
    async with serving(Limits(user=0, window=0.5, reset_decimals=2)) as (_, client, _time):
        refused = await client.get("/user")
    assert refused.json()["reset"] == 0.5
    assert refused.headers["RateLimit-User-Reset"] == "0.50"


async def test_no_limit_is_told_as_one_that_nobody_reaches() -> None:
    async with serving(Limits(user=None, organization=None)) as (sim, client, _time):
        sim.consume(user=10_000, organization=10_000)
        answer = await client.get("/user")
    assert answer.status_code == 200
    assert answer.headers["RateLimit-User-Limit"] == str(UNLIMITED)
    assert remaining(answer) == (UNLIMITED - 10_001, UNLIMITED - 10_001)
