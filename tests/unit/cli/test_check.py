"""`check`: how its steps are carried out, and the command as people run it; what it costs both sides."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from buildkite_connector.cli.findings import LONGEST_MESSAGE, Check, Finding, State, print_finding, print_summary
from buildkite_connector.model.directory import ResourceKind
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor
from buildkite_connector.model.tasks import Code
from fakes.check_setup import API_TOKEN, HOST_ID, Setup
from harness.command import Ended, run, run_on_terminal
from simulators.buildkite.api import Token

NAMES = [
    "certificates",
    "proxies",
    "buildkite.settings",
    "buildkite.connection",
    "buildkite.clock",
    "buildkite.token",
    "buildkite.expiry",
    "buildkite.scope.read_organizations",
    "buildkite.scope.read_teams",
    "buildkite.organization",
    "buildkite.accounts",
    "buildkite.owner",
    "buildkite.teams",
    "c1.client_id",
    "c1.client_secret",
    "c1.host",
    "c1.connection",
    "c1.clock",
    "c1.token",
    "c1.hello",
]


PAGE = (Path(__file__).parents[3] / "docs" / "check.md").read_text()


SECRET = "5ec4e75ec4e7"


async def step(check: Check, name: str, act: Callable[[Finding], None], *needs: Finding) -> Finding:
    async with check.step(name, f"Title of {name}") as found:
        found.needs(*needs)
        act(found)
    return found


async def test_a_step_is_skipped_after_a_need_that_failed_or_was_skipped_and_not_after_a_warning() -> None:
    heard: list[Finding] = []
    check = Check(heard.append, Redactor([]))
    a = await step(check, "a", lambda found: found.fail("no", Code.UNAVAILABLE))
    b = await step(check, "b", lambda found: found.warn("hm"))
    c = await step(check, "c", lambda found: found.ok("yes"), a)
    d = await step(check, "d", lambda found: found.ok("yes"), b)
    e = await step(check, "e", lambda found: found.ok("yes"), b, c)
    f = await step(check, "f", lambda found: found.skip("not asked for"))
    assert heard == check.findings == [a, b, c, d, e, f]
    assert "".join(each.state[0] for each in heard) == "fwsoss"
    assert (a.code, e.message) == (14, "needs: Title of c")


@pytest.mark.parametrize(
    ("raised", "reason", "code", "says"),
    [
        (
            Failure(Reason.TOKEN_SCOPE_MISSING, "It lacks one.", remedy=Remedy.CREDENTIALS),
            "TokenScopeMissing",
            7,
            "It lacks one.",
        ),
        (RuntimeError("some inner text"), "InternalError", 2, "RuntimeError"),
        (TimeoutError(), "", 4, "No result within 0.05 s. Check the network"),
        (None, "", 4, "No result within 0.05 s. Check the network"),
    ],
)
async def test_what_a_step_raises_is_its_finding_and_the_next_goes_on(
    raised: Exception | None, reason: str, code: int, says: str
) -> None:
    """None: the step has no end."""
    check = Check(lambda _: None, Redactor([]), 0.05)
    async with check.step("a", "A") as a:
        a.ok("well")
        if raised is not None:
            raise raised
        await asyncio.Event().wait()
    async with check.step("b", "B") as b:
        b.ok("yes")
    assert (a.state, a.reason, a.code) == (State.FAILED, reason, code)
    assert says in a.message
    assert "some inner text" not in a.message
    assert b.state is State.OK


async def test_a_check_that_is_cancelled_ends() -> None:
    check, begun = Check(lambda _: None, Redactor([])), asyncio.Event()

    async def run() -> None:
        async with check.step("a", "A"):
            begun.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(run())
    await begun.wait()
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    assert check.findings == []


async def test_a_message_is_one_bounded_printable_line_without_credentials() -> None:
    check = Check(lambda _: None, Redactor([SECRET]))
    async with check.step("a", "A") as a:
        a.ok(f"\x1b[2J{SECRET}\n" + "x" * 5000)
    assert SECRET not in a.message
    assert a.message.isprintable()
    assert len(a.message) <= LONGEST_MESSAGE


def environment(setup: Setup) -> dict[str, str]:
    """The vendor's variables."""
    return {
        "BUILDKITE_API_URL": setup.buildkite.url,
        "BATON_API_TOKEN": API_TOKEN,
        "BATON_ORGANIZATION": "acme-inc",
        "BATON_CLIENT_ID": setup.client.client_id,
        "BATON_CLIENT_SECRET": setup.client.client_secret,
        "BATON_HOST_ID": HOST_ID,
        "BUILDKITE_CONNECTOR_C1_HOSTS": setup.c1.address,
        **setup.settings.environment,
    }


async def check(setup: Setup, *arguments: str) -> Ended:
    return await run("check", *arguments, **environment(setup))


async def test_a_sound_set_up_is_ok_in_every_line_and_exits_0(sound: Setup) -> None:
    ended = await check(sound)
    assert (ended.code, ended.err) == (0, "")
    *lines, blank, summary = ended.out.splitlines()
    assert len(lines) == len(NAMES)
    assert all(line.startswith("ok ") for line in lines)
    assert (blank, summary) == ("", f"{len(NAMES)} ok")
    assert API_TOKEN not in ended.out


async def test_a_broken_one_exits_with_the_first_failures_code_and_json_says_the_same(sound: Setup) -> None:
    sound.buildkite.grant(Token(API_TOKEN, scopes=("read_organizations",)))
    sound.c1.fail("Hello", "UNAVAILABLE", times=None)
    ended = await check(sound, "--output", "json")
    document: dict[str, Any] = json.loads(ended.out)
    assert ended.code == document["exitCode"] == 7
    assert document["ok"] is False
    assert [each["name"] for each in document["checks"]] == NAMES
    states = {each["name"]: each["state"] for each in document["checks"]}
    assert states["buildkite.scope.read_teams"] == states["c1.hello"] == "failed"
    assert states["buildkite.teams"] == "skipped"
    hello = document["checks"][-1]
    assert (hello["reason"], hello["exitCode"]) == ("C1Unavailable", 14)
    assert document["checks"][0]["reason"] is document["checks"][0]["exitCode"] is None


async def test_a_terminal_has_colour(sound: Setup) -> None:
    ended = await run_on_terminal("check", **environment(sound))
    assert ended.code == 0
    assert "\x1b[32mok" in ended.out


async def test_without_a_client_id_c1_is_left_out_and_says_so(sound: Setup) -> None:
    sound.change(client_id="", client_secret="")
    checked = await sound.check()
    assert checked.exit_code == 0
    assert [finding.name for finding in checked.findings] == [*NAMES[:13], "c1"]
    assert checked.named("c1").state is State.SKIPPED
    assert "BATON_CLIENT_ID" in checked.named("c1").message


async def test_it_costs_six_requests_of_buildkite_and_one_hello(sound: Setup) -> None:
    sound.buildkite.grant(Token(API_TOKEN, expires_at=datetime(2099, 1, 2, 3, 4, tzinfo=UTC)))
    checked = await sound.check()
    assert checked.exit_code == 0
    assert "it expires on 2099-01-02 03:04 UTC" in checked.named("buildkite.expiry").message
    paths = [request.path for request in sound.buildkite.requests]
    assert len(paths) == 6
    assert len(sound.c1.calls("Token")) == len(sound.c1.calls("Hello")) == 1
    assert sound.c1.calls("GetTask") == []
    assert [call.host_id for call in sound.c1.calls("Hello")] == [HOST_ID]
    assert sound.c1.violations == []


async def test_accounts_alone_need_no_right_to_read_teams(sound: Setup) -> None:
    sound.buildkite.grant(Token(API_TOKEN, scopes=("read_organizations",)))
    sound.change(kinds=frozenset({ResourceKind.USER}))
    checked = await sound.check()
    assert checked.exit_code == 0
    assert "read_teams" not in checked.text


@pytest.mark.parametrize("width", [20, 80, 200])
def test_a_terminal_folds_a_long_message_beside_its_title(width: int) -> None:
    finding = Finding("x", "A title", State.FAILED, "word " * 60 + "[bold]end[/bold]")
    console = Console(force_terminal=True, color_system=None, width=width)
    with console.capture() as capture:
        print_finding(finding, console)
        print_summary([finding], console)
    assert "".join(capture.get().split()).count("word") == 60
    assert "[bold]end" in "".join(capture.get().split())
    if width == 80:
        assert all(line.startswith(("failed   A title", " " * 35)) for line in capture.get().splitlines()[:-2])


def test_a_pipe_gets_one_line_a_finding() -> None:
    console = Console(width=40)
    with console.capture() as capture:
        print_finding(Finding("x", "A title", State.WARNING, "word " * 60), console)
    assert capture.get().count("\n") == 1


async def test_the_page_shows_the_lines_as_they_are_and_says_what_to_do(sound: Setup) -> None:
    explained = PAGE.split("## Checks and remedies")[1].split("\n## ")[0]
    assert [name for name in (*NAMES, "c1") if f"`{name}`" not in explained] == []
    shown = PAGE.split("```")[1]
    for line in (await sound.check()).text.splitlines()[: len(NAMES)]:
        assert f"\n{line[:35].rstrip()}" in shown
