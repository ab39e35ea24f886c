"""What the Secret, the token and the client do to a connector."""

import asyncio

import pytest

from buildkite_connector.connector.state import UNREAD_SECONDS
from buildkite_connector.model.directory import SyncScope
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import Credentials
from buildkite_connector.model.status import ConditionType, Phase
from buildkite_connector.model.tasks import Code, SyncTask
from fakes.connector_setup import HOUR, MINUTE, Setup, client_rejected, ready_setup
from fakes.virtual_time import until, virtual_time

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
        [told] = [vars(each) for each in caplog.records if each.message == "the Secret cannot be read"]
        assert "The API server says 500." in told["error"]
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
    told = [each for each in caplog.records if "the Secret" in each.getMessage()]
    assert {each.__dict__["connector"] for each in told} == {"default.acme"}
    return [(each.levelname, each.getMessage()) for each in told]


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
async def test_an_unchanged_secret_is_not_checked_with_buildkite_again() -> None:
    async with ready_setup() as setup:
        preflights, reads = setup.buildkite.preflights, setup.fake_secret.reads
        await asyncio.sleep(10 * MINUTE)
        assert setup.buildkite.preflights == preflights
        assert setup.fake_secret.reads > reads


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


# A Secret that changes while something runs: nothing restarts, and no task is lost


REVOKED = Failure(Reason.TOKEN_REJECTED, "Buildkite refuses the token.", remedy=Remedy.CREDENTIALS)


@pytest.mark.parametrize("changes", [{"client_secret": "rotated"}, {"client_id": "another tenant's"}])
@virtual_time
async def test_another_client_or_secret_begins_anew_at_once_and_an_upload_goes_back(changes: dict[str, str]) -> None:
    async with ready_setup() as setup:
        setup.c1.upload_seconds = HOUR
        task = setup.task()
        await asyncio.sleep(31)
        setup.rotate(**changes)
        await asyncio.sleep(51)
        assert (setup.c1.finished[task].code, setup.c1.hellos, setup.c1.closed) == (Code.ABORTED, [None, None], 1)
        setup.c1.upload_seconds = 0.0
        setup.c1.tasks.append(SyncTask(task, SyncScope()))
        await asyncio.sleep(MINUTE)
        assert (setup.c1.finished[task].code, len(setup.c1.uploads)) == (Code.OK, 1)


@virtual_time
async def test_an_upload_that_is_whole_has_its_answer_awaited_before_the_session_gives_way() -> None:
    async with ready_setup() as setup:
        setup.c1.answer_seconds = 5.0
        task = setup.task()
        await asyncio.sleep(31)
        setup.rotate(client_secret="rotated")
        setup.session.reread()
        await until(lambda: task in setup.c1.finished)
        await asyncio.sleep(2)
        assert (setup.c1.finished[task].code, setup.c1.hellos) == (Code.OK, [None, None])
        assert setup.status.last_delivery is not None
        assert setup.status.last_delivery.task_id == task


@virtual_time
async def test_a_task_that_waits_for_a_long_sync_goes_back_and_is_delivered_by_the_new_session() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        setup.buildkite.seconds = 10 * MINUTE
        task = setup.task()
        await asyncio.sleep(MINUTE)
        setup.rotate(client_secret="rotated")
        await asyncio.sleep(MINUTE)
        assert (setup.c1.finished[task].code, setup.c1.hellos) == (Code.ABORTED, [None, None])
        again = setup.task()
        await asyncio.sleep(30 * MINUTE)
        assert setup.c1.finished[again].code is Code.OK
        assert [each.id for each in setup.status.history] == ["sync3", "sync2", "sync1"]


@virtual_time
async def test_a_new_api_token_during_a_long_sync_leaves_the_session_and_the_task_alone() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        setup.buildkite.seconds = 10 * MINUTE
        task = setup.task()
        await asyncio.sleep(MINUTE)
        setup.rotate(api_token="fresh")
        await asyncio.sleep(25 * MINUTE)
        assert (setup.c1.finished[task].code, setup.c1.hellos) == (Code.OK, [None])
        assert setup.c1.uploads == [(task, "sha-sync3")]


@virtual_time
async def test_a_token_revoked_during_a_sync_fails_no_task_once_the_new_one_is_in_the_secret() -> None:
    async with ready_setup(after=30 * MINUTE) as setup:
        setup.buildkite.seconds = 10 * MINUTE
        task = setup.task()
        await asyncio.sleep(MINUTE)
        setup.rotate(api_token="fresh")
        await asyncio.sleep(MINUTE)
        setup.buildkite.failures.append(REVOKED)
        await asyncio.sleep(25 * MINUTE)
        assert (setup.c1.finished[task].code, setup.c1.uploads) == (Code.OK, [(task, "sha-sync3")])
        assert [each.reason for each in setup.status.history[1:2]] == [Reason.TOKEN_REJECTED]
        assert setup.status.consecutive_failures == 0
        told = {each.condition(ConditionType.CREDENTIALS_VALID) for each in setup.reports.written[1:]}
        assert {each.reason for each in told if each is not None} == {Reason.VALID}
