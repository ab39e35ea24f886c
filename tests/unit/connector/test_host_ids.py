"""Two connectors that C1 would take for one: the oldest that C1 accepts holds the identity."""

import asyncio

from buildkite_connector.connector.environment import Age, HostIDs
from buildkite_connector.connector.state import C1Identity
from buildkite_connector.model.spec import ConnectorKey

OLD, YOUNG, YOUNGEST = (ConnectorKey(f"default.{name}") for name in ("the.old", "young", "youngest"))
AGES = {OLD: Age("2026-01-01T00:00:00Z", OLD), YOUNG: Age("2026-02-01T00:00:00Z", YOUNG)}
AGES[YOUNGEST] = Age("2026-03-01T00:00:00Z", YOUNGEST)
THE_OLD, THE_YOUNG = (f"BuildkiteConnector default/{name}" for name in ("the.old", "young"))
IDENTITY = C1Identity("client", "secret", "host")


class Claims:
    """`called`: whose listener was called, in order."""

    def __init__(self) -> None:
        self.host_ids = HostIDs()
        self.called: list[ConnectorKey] = []

    async def claim(
        self, key: ConnectorKey, identity: C1Identity | None = IDENTITY, accepted: bool | None = True
    ) -> list[ConnectorKey]:
        self.host_ids.claim(AGES[key], identity, lambda: self.called.append(key), accepted)
        return await self.heard()

    async def release(self, key: ConnectorKey) -> list[ConnectorKey]:
        self.host_ids.release(key)
        return await self.heard()

    async def heard(self) -> list[ConnectorKey]:
        await asyncio.sleep(0)
        called, self.called = self.called, []
        return called

    def holders(self) -> list[str | None]:
        return [self.host_ids.holder(key) for key in (OLD, YOUNG, YOUNGEST)]


async def test_the_oldest_holds_an_identity_whoever_came_first() -> None:
    claims = Claims()
    assert await claims.claim(YOUNG) == []
    assert await claims.claim(OLD) == [YOUNG]
    assert await claims.claim(YOUNGEST) == [YOUNG, OLD]
    assert claims.holders() == [None, THE_OLD, THE_OLD]


async def test_when_the_oldest_goes_the_next_oldest_holds_it() -> None:
    claims = Claims()
    for key in (OLD, YOUNG, YOUNGEST):
        await claims.claim(key)
    assert await claims.release(OLD) == [YOUNG, YOUNGEST]
    assert claims.holders() == [None, None, THE_YOUNG]
    assert await claims.release(OLD) == []


async def test_the_same_claim_again_calls_nobody() -> None:
    claims = Claims()
    await claims.claim(OLD)
    await claims.claim(YOUNG)
    assert await claims.claim(OLD) == []


async def test_another_secret_of_the_client_is_the_same_identity_another_host_or_client_is_not() -> None:
    claims = Claims()
    await claims.claim(OLD)
    assert await claims.claim(YOUNG, C1Identity("client", "other", "host")) == [OLD]
    assert await claims.claim(YOUNG, C1Identity("client", "secret", "elsewhere")) == [OLD]
    assert claims.holders() == [None, None, None]
    assert await claims.claim(YOUNG, C1Identity("other", "secret", "host")) == []


async def test_who_uses_no_identity_holds_none() -> None:
    claims = Claims()
    await claims.claim(OLD)
    await claims.claim(YOUNG)
    assert await claims.claim(OLD, None) == [YOUNG]
    assert claims.holders() == [None, None, None]
    assert await claims.claim(OLD, None) == []


async def test_of_two_made_at_the_same_moment_the_first_by_name_holds_it() -> None:
    host_ids = HostIDs()
    for key in (YOUNG, OLD):
        host_ids.claim(Age("2026-01-01T00:00:00Z", key), IDENTITY, lambda: None, accepted=True)
    assert host_ids.holder(YOUNG) == THE_OLD
    assert host_ids.holder(OLD) is None


async def test_a_claim_counts_while_c1_accepts_the_client() -> None:
    claims = Claims()
    assert await claims.claim(OLD, accepted=None) == []
    assert await claims.claim(YOUNG) == [OLD]
    assert claims.holders() == [None, None, None]
    assert await claims.claim(OLD, accepted=False) == []
    assert await claims.claim(OLD) == [YOUNG]
    assert claims.holders() == [None, THE_OLD, None]
    assert await claims.claim(OLD, accepted=False) == [YOUNG]
    assert claims.holders() == [None, None, None]


async def test_a_claim_stays_while_c1_has_not_answered_again() -> None:
    claims = Claims()
    await claims.claim(OLD)
    await claims.claim(YOUNG)
    assert await claims.claim(OLD, accepted=None) == []
    assert claims.holders() == [None, THE_OLD, None]


async def test_another_identity_starts_without_what_c1_said_of_the_last() -> None:
    claims = Claims()
    elsewhere = C1Identity("client", "secret", "elsewhere")
    await claims.claim(OLD)
    await claims.claim(YOUNG, elsewhere)
    await claims.claim(OLD, elsewhere, accepted=None)
    assert claims.holders() == [None, None, None]


async def test_a_connector_of_another_namespace_is_not_named() -> None:
    host_ids = HostIDs()
    other = ConnectorKey("elsewhere.old")
    for age in (AGES[YOUNG], Age("2026-01-01T00:00:00Z", other)):
        host_ids.claim(age, IDENTITY, lambda: None, accepted=True)
    assert host_ids.holder(YOUNG) == "Another connector, in another namespace,"
