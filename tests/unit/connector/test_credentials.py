"""What the Secret, the token and the client do to a connector."""

import asyncio

import pytest

from buildkite_connector.connector.state import UNREAD_SECONDS
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import Credentials
from buildkite_connector.model.status import ConditionType, Phase
from fakes.connector_setup import HOUR, MINUTE, Setup, client_rejected, ready_setup
from fakes.virtual_time import virtual_time

FORBIDDEN = Failure(Reason.SECRET_FORBIDDEN, "The operator may not read it.", remedy=Remedy.CREDENTIALS)


@virtual_time
async def test_a_changed_secret_is_seen_within_a_minute_and_syncs() -> None:
    async with ready_setup() as setup:
        setup.fake_secret.credentials = Credentials("id", "secret", "rotated")
        await asyncio.sleep(MINUTE)
        assert len(setup.buildkite.collections) == 2
        assert setup.c1.hellos == [None]


@virtual_time
async def test_a_changed_client_begins_a_new_session_with_c1() -> None:
    async with ready_setup() as setup:
        setup.fake_secret.credentials = Credentials("id", "rotated", "token")
        await asyncio.sleep(MINUTE)
        assert setup.c1.hellos == [None, None]
        assert setup.c1.closed == 1


@virtual_time
async def test_a_secret_that_comes_late_is_picked_up() -> None:
    setup = Setup()
    setup.fake_secret.failure = Failure(Reason.SECRET_NOT_FOUND, "There is no Secret acme.", remedy=Remedy.CREDENTIALS)
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.CREDENTIALS_VALID) == ("False", "SecretNotFound")
        setup.fake_secret.failure = None
        await asyncio.sleep(30)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_rejected_token_stops_syncs_and_is_checked_again_every_five_minutes() -> None:
    setup = Setup()
    setup.buildkite.refusal = setup.rejected()
    async with setup.running():
        await asyncio.sleep(HOUR)
        assert setup.condition(ConditionType.CREDENTIALS_VALID) == ("False", "TokenRejected")
        assert setup.condition(ConditionType.STALLED) == ("True", "TokenRejected")
        assert not setup.buildkite.collections
        assert 12 <= setup.buildkite.preflights <= 14
        assert [each.phase for each in setup.reports.written] == [Phase.PENDING, Phase.ERROR]
        setup.buildkite.refusal = None
        await asyncio.sleep(6 * MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_corrected_secret_is_tried_at_once() -> None:
    setup = Setup()
    setup.buildkite.refusal = setup.rejected()
    async with setup.running():
        await asyncio.sleep(MINUTE)
        setup.buildkite.refusal = None
        setup.fake_secret.credentials = Credentials("id", "secret", "right")
        await asyncio.sleep(20)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_token_revoked_during_a_sync_is_told_as_bad_credentials() -> None:
    async with ready_setup() as setup:
        setup.buildkite.failures.append(setup.rejected())
        setup.annotate(sync_request="now")
        await asyncio.sleep(10)
        assert setup.condition(ConditionType.CREDENTIALS_VALID) == ("False", "TokenRejected")
        assert setup.condition(ConditionType.SYNCED) == ("False", "TokenRejected")
        await asyncio.sleep(6 * MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@pytest.mark.parametrize("reason", [Reason.KUBERNETES_UNAVAILABLE, Reason.KUBERNETES_REFUSED])
@virtual_time
async def test_a_secret_that_cannot_be_read_is_told_and_stops_no_sync(
    reason: Reason, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with ready_setup() as setup:
        setup.fake_secret.failure = Failure(reason, "The API server says 500.")
        await asyncio.sleep(MINUTE)
        assert told_of_the_secret(caplog) == [("WARNING", "the Secret cannot be read")]
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        await asyncio.sleep(UNREAD_SECONDS)
        assert setup.condition(ConditionType.CREDENTIALS_VALID) == ("Unknown", reason.value)
        assert setup.condition(ConditionType.READY) == ("False", reason.value)
        assert setup.condition(ConditionType.RECONCILING) == ("True", "Retrying")
        await asyncio.sleep(2 * HOUR)
        assert len(setup.buildkite.collections) == 3
        assert setup.condition(ConditionType.READY) == ("False", reason.value)
        setup.fake_secret.failure = None
        await asyncio.sleep(11)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        assert told_of_the_secret(caplog)[1:] == [("INFO", "the Secret was read again")]


@virtual_time
async def test_a_secret_that_cannot_be_read_for_a_moment_changes_no_condition() -> None:
    async with ready_setup() as setup:
        written = len(setup.reports.written)
        for _ in range(10):
            setup.fake_secret.failure = Failure(Reason.KUBERNETES_UNAVAILABLE, "The API server says 500.")
            await asyncio.sleep(UNREAD_SECONDS - MINUTE)
            setup.fake_secret.failure = None
            await asyncio.sleep(MINUTE)
        told = [each.condition(ConditionType.READY) for each in setup.reports.written[written:]]
        assert {each.reason for each in told if each is not None} <= {Reason.READY}


@virtual_time
async def test_an_api_server_that_has_not_read_the_roles_yet_costs_no_connector_its_session() -> None:
    async with ready_setup() as setup:
        written = len(setup.reports.written)
        setup.fake_secret.failure = FORBIDDEN
        await asyncio.sleep(2 * MINUTE)
        setup.fake_secret.failure = None
        await asyncio.sleep(MINUTE)
        assert (setup.c1.hellos, setup.c1.closed, len(setup.reports.written)) == ([None], 0, written)


@virtual_time
async def test_a_secret_that_stays_forbidden_ends_the_contact_after_five_minutes() -> None:
    async with ready_setup() as setup:
        setup.fake_secret.failure = FORBIDDEN
        await asyncio.sleep(UNREAD_SECONDS)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.CREDENTIALS_VALID) == ("False", "SecretForbidden")
        assert setup.c1.closed == 1
        setup.fake_secret.failure = None
        await asyncio.sleep(20)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


def told_of_the_secret(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(each.levelname, each.getMessage()) for each in caplog.records if "the Secret" in each.getMessage()]


@virtual_time
async def test_a_secret_taken_away_ends_the_contact_and_put_back_resumes_it_within_seconds() -> None:
    async with ready_setup() as setup:
        setup.fake_secret.failure = Failure(Reason.SECRET_NOT_FOUND, "There is no Secret.", remedy=Remedy.CREDENTIALS)
        await asyncio.sleep(2 * MINUTE)
        polls = setup.c1.polls
        await asyncio.sleep(10 * MINUTE)
        assert setup.c1.polls == polls
        setup.fake_secret.failure = None
        await asyncio.sleep(20)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_c1_refusing_the_client_stops_syncs_until_the_credentials_change() -> None:
    setup = Setup()
    setup.c1.refusal = Failure(Reason.C1_CLIENT_REJECTED, "C1 refused the client.", remedy=Remedy.CREDENTIALS)
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.CREDENTIALS_VALID) == ("False", "C1ClientRejected")
        assert not setup.buildkite.collections
        setup.c1.refusal = None
        setup.fake_secret.credentials = Credentials("id", "new secret", "token")
        await asyncio.sleep(20)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_client_refused_later_is_told_too() -> None:
    async with ready_setup() as setup:
        setup.c1.refusal = Failure(Reason.C1_CLIENT_REJECTED, "C1 refused the client.", remedy=Remedy.CREDENTIALS)
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.CREDENTIALS_VALID) == ("False", "C1ClientRejected")
        setup.c1.refusal = None
        await asyncio.sleep(6 * MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_a_changed_secret_is_checked_with_buildkite_again() -> None:
    async with ready_setup() as setup:
        preflights = setup.buildkite.preflights
        setup.buildkite.refusal = setup.rejected()
        setup.rotate(api_token="wrong")
        await asyncio.sleep(MINUTE)
        assert setup.buildkite.preflights > preflights
        assert setup.condition(ConditionType.CREDENTIALS_VALID) == ("False", "TokenRejected")


@virtual_time
async def test_an_unchanged_secret_is_not_checked_with_buildkite_again() -> None:
    async with ready_setup() as setup:
        preflights, reads = setup.buildkite.preflights, setup.fake_secret.reads
        await asyncio.sleep(10 * MINUTE)
        assert setup.buildkite.preflights == preflights
        assert setup.fake_secret.reads > reads


@virtual_time
async def test_a_secret_taken_away_closes_the_session_with_c1() -> None:
    async with ready_setup() as setup:
        setup.fake_secret.failure = Failure(Reason.SECRET_NOT_FOUND, "There is no Secret.", remedy=Remedy.CREDENTIALS)
        await asyncio.sleep(MINUTE)
        assert setup.c1.closed == 1
        assert setup.condition(ConditionType.CREDENTIALS_VALID) == ("False", "SecretNotFound")
        syncs = len(setup.buildkite.collections)
        setup.annotate(sync_request="now")
        await asyncio.sleep(2 * HOUR)
        assert len(setup.buildkite.collections) == syncs


@virtual_time
async def test_what_c1_says_during_a_check_outlives_that_checks_success() -> None:
    async with ready_setup() as setup:
        setup.buildkite.preflight_seconds = 60
        setup.edit(quota_percent=60)
        await asyncio.sleep(5)
        setup.c1.refusal = client_rejected()
        await asyncio.sleep(40)
        setup.c1.refusal = None
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.CREDENTIALS_VALID) == ("False", "C1ClientRejected")
        assert setup.condition(ConditionType.READY) == ("False", "C1ClientRejected")
    assert len(setup.buildkite.collections) == 1


@pytest.mark.parametrize("reason", [Reason.SECRET_NOT_FOUND, Reason.SECRET_KEY_MISSING])
@virtual_time
async def test_a_secret_may_be_three_minutes_late(reason: Reason) -> None:
    setup = Setup()
    setup.fake_secret.failure = Failure(reason, "There is no Secret acme.", remedy=Remedy.CREDENTIALS)
    async with setup.running():
        await asyncio.sleep(2.9 * MINUTE)
        assert setup.condition(ConditionType.READY) == ("False", reason.value)
        assert setup.condition(ConditionType.RECONCILING)[0] == "True"
        assert setup.condition(ConditionType.STALLED) == ("absent", "")
        await asyncio.sleep(0.2 * MINUTE)
        assert setup.condition(ConditionType.STALLED) == ("True", reason.value)
        assert setup.condition(ConditionType.RECONCILING) == ("absent", "")


@virtual_time
async def test_after_an_edit_a_secret_may_be_late_again() -> None:
    setup = Setup()
    setup.fake_secret.failure = Failure(Reason.SECRET_NOT_FOUND, "There is no Secret acme.", remedy=Remedy.CREDENTIALS)
    async with setup.running():
        await asyncio.sleep(10 * MINUTE)
        setup.edit(quota_percent=60)
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.STALLED) == ("absent", "")
        await asyncio.sleep(3 * MINUTE)
        assert setup.condition(ConditionType.STALLED) == ("True", "SecretNotFound")


@virtual_time
async def test_a_restart_gives_a_missing_secret_no_more_time() -> None:
    setup = Setup()
    setup.fake_secret.failure = Failure(Reason.SECRET_NOT_FOUND, "There is no Secret acme.", remedy=Remedy.CREDENTIALS)
    async with setup.running():
        await asyncio.sleep(10 * MINUTE)
    async with setup.running(restored=setup.status):
        await asyncio.sleep(10)
        assert setup.condition(ConditionType.STALLED) == ("True", "SecretNotFound")


@pytest.mark.parametrize("reason", [Reason.SECRET_KEY_EMPTY, Reason.SECRET_FORBIDDEN, Reason.CLIENT_ID_INVALID])
@virtual_time
async def test_a_secret_that_is_there_and_wrong_stalls_at_once(reason: Reason) -> None:
    setup = Setup()
    setup.fake_secret.failure = Failure(reason, "The Secret acme cannot be used.", remedy=Remedy.CREDENTIALS)
    async with setup.running():
        await asyncio.sleep(10)
        assert setup.condition(ConditionType.STALLED) == ("True", reason.value)


@virtual_time
async def test_an_api_server_that_is_away_at_the_start_is_asked_a_few_times_a_minute() -> None:
    setup = Setup()
    setup.fake_secret.failure, setup.fake_secret.seconds = Failure(Reason.KUBERNETES_UNAVAILABLE, "No connection."), 0.1
    async with setup.running():
        await asyncio.sleep(MINUTE)
        assert setup.fake_secret.reads <= 8
        setup.fake_secret.failure = None
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


@virtual_time
async def test_an_api_server_that_is_away_after_an_edit_is_asked_a_few_times_a_minute() -> None:
    async with ready_setup() as setup:
        setup.fake_secret.failure, setup.fake_secret.seconds = (
            Failure(Reason.KUBERNETES_UNAVAILABLE, "No connection."),
            0.1,
        )
        reads = setup.fake_secret.reads
        setup.edit(quota_percent=60)
        await asyncio.sleep(MINUTE)
        assert setup.fake_secret.reads - reads <= 8
