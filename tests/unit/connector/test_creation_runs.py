"""A connector's runs of its creation: what they hand on, when they come, and what the log says of them."""

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta

import pytest

from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.ports import C1Rest
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.spec import C1Access, ConnectorSpec, Credentials
from buildkite_connector.model.status import ConditionType
from buildkite_connector.timing.slots import Slots
from fakes.c1_creation import MARKER, FakeRest, Fate
from fakes.connector_ports import C1, MINUTE
from fakes.creation_setup import CreationSetup
from fakes.log_lines import lines
from fakes.virtual_time import until, virtual_time

NO_APP = "The app is not created in C1 yet."
NOT_REPLACED = "The connector's credentials in C1 could not be replaced:"


class Observed(CreationSetup):
    """It keeps what C1's clients are made of, and when a run began; the first `broken` runs fail unexpectedly."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[Credentials, ConnectorSpec]] = []
        self.runs: list[float] = []
        self.open = 0
        self.broken = 0
        self.slots = Slots(1, shared=False)

    def environment(self) -> Environment:
        return replace(super().environment(), creation_slots=self.slots)

    def connect_c1(self, credentials: Credentials, spec: ConnectorSpec) -> C1:
        self.made.append((credentials, spec))
        return super().connect_c1(credentials, spec)

    def _rest(self, access: C1Access) -> C1Rest:
        setup = self
        self.runs.append(self.clock.monotonic())
        if self.broken:
            self.broken -= 1
            raise ValueError("the-secret")

        class Closing(FakeRest):
            async def aclose(self) -> None:
                setup.open -= 1

        self.open += 1
        return Closing(self.its)


@virtual_time
async def test_a_new_credential_is_greeted_without_the_api_token_and_the_clients_are_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = Observed()
    setup.its.apps = {"app8": MARKER, "app9": MARKER}
    async with setup.running():
        await asyncio.sleep(10)
        assert setup.made[0] == (Credentials("client-credential2", "secret-credential2", ""), setup.order.spec)
    assert setup.open == 0
    assert [each.connector for each in caplog.records if hasattr(each, "used")] == ["default.acme"]  # type: ignore[attr-defined]


@virtual_time
async def test_a_creation_that_fails_is_logged_once_for_each_reason(caplog: pytest.LogCaptureFixture) -> None:
    setup = Observed()
    setup.broken = 2
    setup.its.refusal = lambda: Failure(Reason.C1_UNAVAILABLE, "Busy.")
    setup.its.fate = lambda name: Fate.REFUSED if name == "find apps" else Fate.ANSWERED
    async with setup.running():
        await asyncio.sleep(10 * MINUTE)
    here = "buildkite_connector.connector.creation"
    logged = [each for each in caplog.records if each.name == here]
    unexpected = (logging.ERROR, "the creation in C1 failed unexpectedly", {"connector": "default.acme"})
    told = "Internal error (ValueError). Please report it, with the log if there is one."
    expected = [
        unexpected,
        not_complete(Reason.INTERNAL_ERROR, told),
        unexpected,
        not_complete(Reason.C1_NOT_CREATED, f"{NO_APP} Busy."),
    ]
    assert lines(logged) == expected
    assert [each.exc_info is not None for each in logged] == [True, False, True, False]
    assert setup.runs[:3] == pytest.approx([0.0, 22.5, 67.5], abs=0.2)


def not_complete(reason: Reason, error: str) -> tuple[int, str, dict[str, object]]:
    fields: dict[str, object] = {"connector": "default.acme", "reason": reason.value, "error": error}
    return logging.WARNING, "the creation in C1 is not complete", fields


@virtual_time
async def test_an_edit_while_the_status_is_written_ends_the_run(caplog: pytest.LogCaptureFixture) -> None:
    setup = CreationSetup()
    setup.reports.seconds = 5.0
    async with setup.running():
        await asyncio.sleep(7)
        setup.edit(c1=None)
        await asyncio.sleep(MINUTE)
    told = f"{NO_APP} The resource was edited or deleted meanwhile."
    assert lines(caplog.records)[-1:] == [not_complete(Reason.C1_NOT_CREATED, told)]


@virtual_time
async def test_what_an_edit_ends_while_credentials_are_replaced_is_no_fault_of_c1(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = CreationSetup()
    setup.its.life = timedelta(minutes=4)
    async with setup.running():
        await asyncio.sleep(MINUTE)
        setup.reports.seconds = 5.0
        await until(lambda: setup.status.c1 is not None and setup.status.c1.creating is not None)
        setup.edit(c1=None)
        await asyncio.sleep(MINUTE)
    told = f"{NOT_REPLACED} The resource was edited or deleted meanwhile."
    assert lines(caplog.records)[-1:] == [not_complete(Reason.PENDING, told)]


@pytest.mark.parametrize(("edits", "runs"), [(False, 2), (True, 3)])
@virtual_time
async def test_an_edit_during_a_run_leads_to_one_more(edits: bool, runs: int) -> None:
    setup = Observed()
    setup.reports.seconds = 5.0
    async with setup.running():
        await asyncio.sleep(7)
        if edits:
            setup.edit(max_drop_percent=10)
        await asyncio.sleep(2 * MINUTE)
        assert setup.condition(ConditionType.READY) == ("True", "Ready")
        assert len(setup.runs) == runs


@virtual_time
async def test_what_is_suspended_while_it_waits_for_a_slot_is_not_created() -> None:
    setup = Observed()
    async with setup.running():
        async with setup.slots.slot("another"):
            await asyncio.sleep(10)
            setup.edit(suspend=True)
        await asyncio.sleep(MINUTE)
        assert setup.runs == []
