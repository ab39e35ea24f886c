"""Credentials of a connector in C1 are replaced in time, and only by some that C1 accepts."""

import asyncio
from datetime import timedelta

import pytest

from buildkite_connector.connector.ports import Kept
from buildkite_connector.connector.rotation import rotates_at
from buildkite_connector.model.failure import Failure, Reason, Remedy
from fakes.c1_creation import Fate, Surroundings, check_promises, rotated
from fakes.virtual_time import START, virtual_time

DAY = 86_400.0


@virtual_time
async def test_credentials_are_replaced_and_the_old_ones_revoked_once_the_session_has_the_new_ones() -> None:
    its = await rotated(Surroundings())
    old = its.session
    await its.run_once()
    assert its.secret is not None
    assert its.record.credential is not None
    assert its.secret.client_id != old
    assert its.client_lives(old)
    assert its.record.credential.retiring == ("credential3",)
    await its.run_once()
    assert its.client_lives(old)
    its.session = its.secret.client_id
    await its.run_once()
    assert not its.client_lives(old)
    check_promises(its)


def refused() -> Failure:
    return Failure(Reason.C1_CLIENT_REJECTED, "C1 does not know the client.", remedy=Remedy.CREDENTIALS)


@virtual_time
async def test_credentials_that_c1_accepts_a_little_later_are_written_then() -> None:
    its = await rotated(Surroundings())
    its.greetings = [refused()] * 6
    secret, begun = its.secret, its.clock.monotonic()
    running = asyncio.create_task(its.run_once())
    await asyncio.sleep(25)
    assert its.secret == secret
    await running
    assert its.clock.monotonic() - begun == pytest.approx(30, abs=0.1)
    assert its.secret != secret
    assert its.greeted[-7:] == [f"client-{max(its.credentials)}"] * 7


@virtual_time
async def test_credentials_that_c1_never_accepts_take_the_place_of_nothing() -> None:
    its = await rotated(Surroundings())
    secret, live = its.secret, its.live()
    its.greetings = [refused()] * 100
    with pytest.raises(Failure, match="could not be replaced: C1 does not know the client"):
        await its.run_once()
    assert (its.secret, its.live(), its.record.creating) == (secret, live, None)


@virtual_time
async def test_a_c1_that_does_not_say_does_not_hold_up_new_credentials() -> None:
    its = Surroundings(greetings=[Failure(Reason.C1_UNREACHABLE, "No connection.")] * 3)
    await its.run()
    check_promises(its)
    assert its.clock.monotonic() < 1


@virtual_time
async def test_a_rotation_that_fails_says_so_and_what_is_there_stays() -> None:
    its = await rotated(Surroundings())
    secret = its.secret
    its.fate = lambda name: Fate.REFUSED if name == "create a credential" else Fate.ANSWERED
    with pytest.raises(Failure) as failed:
        await its.run_once()
    assert str(failed.value) == "The connector's credentials in C1 could not be replaced: C1 refused it."
    assert (failed.value.reason, its.secret, its.record.creating) == (Reason.C1_ACCESS_DENIED, secret, None)


@virtual_time
async def test_a_credential_whose_answer_was_lost_is_replaced_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    its = Surroundings()
    fates = {"create a credential": Fate.LOST}
    its.fate = lambda name: fates.pop(name, Fate.ANSWERED)
    await its.run()
    check_promises(its, lost=1)
    assert len(its.credentials) == 2
    lost = "a credential may be lost: it stays valid in C1 until it expires"
    assert [each.message for each in caplog.records] == [lost]


@virtual_time
async def test_a_credential_that_does_not_expire_is_not_replaced() -> None:
    its = Surroundings(life=None)
    await its.run()
    await asyncio.sleep(90 * DAY)
    await its.run()
    check_promises(its)
    assert len(its.credentials) == 1


@pytest.mark.parametrize(("days", "left"), [(180, 60), (90, 30), (42, 14), (30, 14), (28, 14), (10, 5), (1, 0.5)])
def test_when_credentials_are_replaced(days: float, left: float) -> None:
    ends = START + timedelta(days=days)
    assert rotates_at(ends, START) == ends - timedelta(days=left)


def test_nothing_that_is_kept_shows_a_secret() -> None:
    kept = Kept("app1", "connector1", "credential1", "the-client", "the-secret")
    assert "the-" not in repr(kept)
