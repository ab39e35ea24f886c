"""A creation that does not come to an end neither keeps others from C1, nor piles up credentials there."""

import asyncio
from dataclasses import replace

import pytest

from buildkite_connector.connector.connector import Connector
from buildkite_connector.connector.creation import SETTLE_SECONDS
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.spec import ConnectorKey, ConnectorSpec, Credentials
from buildkite_connector.model.status import C1Record, ConditionType, ConnectorStatus
from fakes.c1_creation import Fate, Surroundings, c1_refuses, check_promises
from fakes.c1_rest import C1_SPEC
from fakes.connector_ports import C1, HOUR, MINUTE, Reports
from fakes.connector_setup import Setup
from fakes.creation_setup import CreationSetup
from fakes.virtual_time import virtual_time


class Stuck(Reports):
    """No status is written, as with a CRD of an older version."""

    async def report(self, before: ConnectorStatus | None, after: ConnectorStatus) -> None:
        raise Failure(Reason.KUBERNETES_REFUSED, "The CRD is old.")


@virtual_time
async def test_creations_that_wait_for_their_status_keep_no_other_connector_from_c1() -> None:
    good, stuck = Setup(c1=C1_SPEC), CreationSetup()
    environment = good.environment()
    creating = replace(environment, c1_rest=stuck.environment().c1_rest)
    connectors = [
        Connector(ConnectorKey(f"{namespace}.c{number}"), stuck.order, None, Stuck(), creating)
        for namespace in "ab"
        for number in range(8)
    ]
    for each in connectors:
        each.start()
    await asyncio.sleep(5)
    connectors.append(Connector(ConnectorKey("z.good"), good.order, None, good.reports, environment))
    connectors[-1].start()
    await asyncio.sleep(10 * MINUTE)
    assert good.c1_rest.reads
    for each in connectors:
        await each.close(discard=False)


# Credentials that cannot be used


@pytest.mark.parametrize("reason", [Reason.CLIENT_ID_INVALID, Reason.CLIENT_SECRET_INVALID])
@virtual_time
async def test_a_credential_that_this_side_can_never_use_is_given_up_at_once(reason: Reason) -> None:
    its = Surroundings(greetings=[Failure(reason, "Its host is not allowed.", remedy=Remedy.CREDENTIALS)] * 100)
    with pytest.raises(Failure, match=r"has no credentials yet\. Its host is not allowed\."):
        await its.run_once()
    assert its.clock.monotonic() < 1
    assert (len(its.credentials), its.live(), len(its.greeted)) == (1, set(), 1)


class UselessSetup(CreationSetup):
    """The client IDs that C1 gives lead to a host that the settings do not allow, while `useless`."""

    useless = True

    def connect_c1(self, credentials: Credentials, spec: ConnectorSpec) -> C1:
        if self.useless:
            raise Failure(Reason.CLIENT_ID_INVALID, "Its host is not allowed.", remedy=Remedy.CREDENTIALS)
        return super().connect_c1(credentials, spec)


@pytest.mark.parametrize("how", ["edit", pytest.param("annotation", marks=pytest.mark.thorough)])
@virtual_time
async def test_credentials_that_cannot_be_used_are_created_every_six_hours_unless_a_person_asks(how: str) -> None:
    setup = UselessSetup()
    async with setup.running():
        await asyncio.sleep(5 * HOUR)
        assert len(setup.its.credentials) == 1
        await asyncio.sleep(2 * HOUR)
        assert len(setup.its.credentials) == 2
        assert setup.its.live() == set()
        assert setup.condition(ConditionType.READY) == ("False", "C1NotCreated")
        setup.useless = False
        if how == "edit":
            setup.edit(max_drop_percent=10)
        else:
            setup.annotate(sync_request="now")
        await asyncio.sleep(MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")


# A status that takes long


SLOW = (
    r"^Writing the status takes more than 20 seconds\. Nothing is created in C1 until the Kubernetes API is faster\.$"
)


@virtual_time
async def test_while_each_write_of_the_status_takes_long_the_run_ends_and_nothing_is_created() -> None:
    its = Surroundings()
    save, seconds = its.save, 30.0

    async def slow(record: C1Record) -> None:
        await asyncio.sleep(seconds)
        await save(record)

    its.save = slow  # type: ignore[method-assign]
    with pytest.raises(Failure, match=SLOW) as failed:
        await its.run_once()
    assert (failed.value.reason, failed.value.remedy) == (Reason.KUBERNETES_UNAVAILABLE, Remedy.RETRY)
    assert (its.created, its.record) == ([], C1Record())
    assert its.clock.monotonic() == pytest.approx(120, abs=1)
    seconds = 1.0
    await its.run()
    check_promises(its)


# What C1 did not take


@pytest.mark.parametrize("reason", [Reason.CLOCK_WRONG, Reason.C1_REQUEST_REJECTED, Reason.C1_CONFLICT])
@virtual_time
async def test_after_a_call_that_c1_did_not_take_nothing_is_waited_for(reason: Reason) -> None:
    its = Surroundings(refusal=lambda: c1_refuses(reason, Remedy.RETRY))
    its.fate = lambda name: Fate.REFUSED if name == "create the app" else Fate.ANSWERED
    with pytest.raises(Failure, match="C1 refused it") as failed:
        await its.run_once()
    assert (its.record, failed.value.retry_after) == (C1Record(), None)
    its.fate = lambda _: Fate.ANSWERED
    await its.run_once()
    assert its.clock.monotonic() < SETTLE_SECONDS
    assert its.created == ["Buildkite", "Buildkite"]


@virtual_time
async def test_what_c1_asks_to_wait_holds_for_the_annotation_too() -> None:
    setup = CreationSetup()
    setup.its.refusal = lambda: Failure(Reason.C1_UNAVAILABLE, "C1 answered 429.", retry_after=HOUR)
    setup.its.fate = lambda name: Fate.REFUSED if name == "find apps" else Fate.ANSWERED
    async with setup.running():
        await asyncio.sleep(MINUTE)
        setup.its.fate = lambda _: Fate.ANSWERED
        setup.annotate(sync_request="now")
        await asyncio.sleep(HOUR - 2 * MINUTE)
        assert setup.its.created == []
        await asyncio.sleep(3 * MINUTE)
        assert setup.its.created == ["Buildkite", "Buildkite"]
