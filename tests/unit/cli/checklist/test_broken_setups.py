"""`check` against set-ups that are broken, each in one way: the first line that is not ok names the cause and what to
do, the exit code is that of the cause, and no credential is in the output.
"""

from dataclasses import replace
from datetime import timedelta

import pytest

from buildkite_connector.cli.checklist import State
from fakes.check_world import API_TOKEN, World
from unit.cli.checklist.broken_setups import BROKEN, OTHER_TOKEN


@pytest.mark.parametrize("name", BROKEN)
async def test_the_first_line_that_is_not_ok_names_the_cause(sound: World, name: str) -> None:
    broken = BROKEN[name]
    doing = broken.break_it(sound)
    if doing is not None:
        await doing  # type: ignore[misc]  # some are broken by a coroutine
    checked = await sound.check()
    line = checked.first_not_ok
    assert line.name == broken.line, checked.text
    for words in broken.says:
        assert words in line.message
    assert (line.state, checked.exit_code) == (State.FAILED if broken.code else State.WARNING, broken.code)
    key = sound.client.client_secret.rpartition(":")[2]
    for secret in (API_TOKEN, OTHER_TOKEN, key, key[:40], "hunter22pass"):
        assert secret not in checked.text


@pytest.mark.parametrize(("seconds", "way"), [(90, "ahead of"), (-90, "behind"), (-86_400, "behind")])
async def test_a_wrong_clock_is_the_cause_and_not_the_credentials(sound: World, seconds: float, way: str) -> None:
    sound.clock.off = timedelta(seconds=seconds)
    checked = await sound.check()
    assert (checked.first_not_ok.name, checked.first_not_ok.state) == ("buildkite.clock", State.WARNING)
    failed = checked.first_failed
    assert failed.name == "c1.clock"
    assert f"s {way} C1's" in failed.message
    assert "NTP" in failed.message
    assert checked.exit_code == 9
    assert checked.named("c1.token").state is State.SKIPPED
    assert sound.c1.calls("Token") == []


async def test_a_clock_within_a_minute_is_well(sound: World) -> None:
    sound.clock.off = timedelta(seconds=40)
    assert (await sound.check()).exit_code == 0


async def test_what_depends_on_a_failed_line_is_skipped_and_the_rest_is_checked(sound: World) -> None:
    sound.buildkite.revoke()
    checked = await sound.check()
    states = {finding.name: finding.state for finding in checked.findings}
    assert {name for name, state in states.items() if state is State.SKIPPED} == {
        "buildkite.expiry",
        "buildkite.scope.read_organizations",
        "buildkite.scope.read_teams",
        "buildkite.organization",
        "buildkite.accounts",
        "buildkite.owner",
        "buildkite.teams",
    }
    assert states["c1.hello"] is State.OK
    assert checked.named("buildkite.owner").message == "needs: Accounts"


async def test_an_answer_that_repeats_the_token_is_shown_without_it(sound: World) -> None:
    organization = sound.buildkite.organization
    sound.buildkite.api.organizations[organization.slug] = replace(organization, name=f"\x1b[31m{API_TOKEN}")
    checked = await sound.check()
    assert API_TOKEN not in checked.text
    assert "\x1b" not in checked.text
    assert "[redacted]" in checked.named("buildkite.organization").message
