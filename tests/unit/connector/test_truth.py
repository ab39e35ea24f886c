"""Whatever grants, revokes, syncs, deliveries and faults come in whatever order: no snapshot that leaves contradicts a
membership that was changed through the connector before it left."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from buildkite_connector.model.directory import (
    Account,
    AccountID,
    Directory,
    Membership,
    OrganizationSlug,
    Role,
    Team,
    TeamID,
)
from buildkite_connector.model.snapshot import OpenSnapshot, StagedSnapshot, SyncID
from buildkite_connector.model.spec import ConnectorKey, Provisioning
from buildkite_connector.model.tasks import Code, MembershipTask, TaskID
from buildkite_connector.sync.listing import Page
from fakes.connector_ports import C1, Buildkite, BuildkiteReader, Store
from fakes.connector_setup import MINUTE, Setup
from fakes.membership_api import LOST, MembershipAPI
from fakes.virtual_time import virtual_time
from harness.examples import examples

TEAMS = tuple(TeamID(f"t-{number}") for number in range(3))
PEOPLE = tuple(AccountID(f"u-{number}") for number in range(3))
Rows = dict[tuple[TeamID, AccountID], Role]


@dataclass
class LiveBuildkite(Buildkite):
    """Reads each team at its own moment of the sync, as it is then."""

    api: MembershipAPI = field(default_factory=MembershipAPI)

    def client(self) -> "LiveReader":
        return LiveReader(self)


class LiveReader(BuildkiteReader):
    def __init__(self, live: LiveBuildkite) -> None:
        super().__init__(live)
        self._live = live
        self._moments = iter(range(1, 1 + len(TEAMS)))

    async def accounts(self, slug: OrganizationSlug, page: int) -> Page[Account]:
        await asyncio.sleep(self._live.seconds * (1 + 1 / len(TEAMS)))  # the sync ends later than its last team is read
        return Page([Account(person, person, "") for person in PEOPLE], 1)

    async def teams(self, slug: OrganizationSlug, page: int) -> Page[Team]:
        return Page([Team(team, team, team, "", "visible", False, "") for team in TEAMS], 1)

    async def members(self, slug: OrganizationSlug, team: TeamID, page: int) -> Page[Membership]:
        moment = next(self._moments, None)
        await asyncio.sleep(self._live.reread_seconds if moment is None else self._live.seconds * moment / len(TEAMS))
        rows = self._live.api.rows.items()
        return Page([Membership(each, person, role) for (each, person), role in rows if each == team], 1)


@dataclass
class SlowStore(Store):
    """`rows` is what each file shows; writing one takes `seconds`."""

    rows: dict[Path, Rows] = field(default_factory=dict)
    seconds: float = 0.0

    async def stage(
        self, key: ConnectorKey, directory: Directory, *, sync_id: SyncID, started_at: datetime
    ) -> StagedSnapshot:
        await asyncio.sleep(self.seconds)
        staged = await super().stage(key, directory, sync_id=sync_id, started_at=started_at)
        self.rows[staged.path] = {(each.team, each.account): each.role for each in directory.memberships}
        return staged


@dataclass
class JudgingC1(C1):
    """Compares each snapshot with Buildkite at the moment at which its upload begins."""

    store: SlowStore = field(default_factory=SlowStore)
    api: MembershipAPI = field(default_factory=MembershipAPI)
    contradictions: list[tuple[Rows, Rows]] = field(default_factory=list)

    async def upload(self, task_id: TaskID, file: OpenSnapshot, sent: Callable[[], None]) -> None:
        rows = self.store.rows[file.snapshot.path]
        if rows != self.api.rows:
            self.contradictions.append((rows, dict(self.api.rows)))
        await super().upload(task_id, file, sent)


class LiveSetup(Setup):
    """Everything here is changed through the connector alone, so that a true snapshot equals Buildkite."""

    def __init__(self, **seconds: float) -> None:
        super().__init__(provisioning=Provisioning(enabled=True), max_drop_percent=0)
        self.members = MembershipAPI(
            slugs=dict.fromkeys(TEAMS, "slug"), seconds=seconds["write"], answer_seconds=seconds["answer"]
        )
        self.members.rows[TEAMS[0], PEOPLE[0]] = Role.MEMBER
        self.buildkite = LiveBuildkite(
            api=self.members, seconds=seconds["sync"], reread_seconds=seconds["reread"], preflight_seconds=0.0
        )
        self.store = SlowStore(seconds=seconds["stage"])
        self.c1 = JudgingC1(store=self.store, api=self.members, next_poll=0.0, upload_seconds=seconds["upload"])


@dataclass(frozen=True)
class Move:
    """After `wait` seconds: `sync` a task for a snapshot, `grant`, `revoke`, or a write that is lost."""

    wait: float
    what: str
    team: TeamID
    person: AccountID
    role: Role


moves = st.lists(
    st.builds(
        Move,
        st.sampled_from([0.0, 0.5, 1.0, 3.0, 20.0]),
        st.sampled_from(["sync", "sync", "grant", "grant", "revoke", "lost before", "lost after", "request"]),
        st.sampled_from(TEAMS),
        st.sampled_from(PEOPLE),
        st.sampled_from(list(Role)),
    ),
    min_size=1,
    max_size=14,
)
durations = st.fixed_dictionaries(
    {
        "write": st.sampled_from([0.0, 0.02, 1.5]),
        "answer": st.sampled_from([0.0, 3.0]),
        "sync": st.sampled_from([0.5, 5.0, 40.0]),
        "reread": st.sampled_from([0.0, 0.7]),
        "stage": st.sampled_from([0.0, 1.1]),
        "upload": st.sampled_from([0.0, 6.0]),
    }
)


def move(what: str, wait: float = 0.0, person: int = 1) -> Move:
    return Move(wait, what, TEAMS[0], PEOPLE[person], Role.MEMBER)


def lasting(**changes: float) -> dict[str, float]:
    """Seconds that each thing takes: none but the sync, unless they are changed."""
    return {"write": 0.0, "answer": 0.0, "sync": 5.0, "reread": 0.0, "stage": 0.0, "upload": 0.0, **changes}


@settings(max_examples=examples(60))
@given(moves, durations)
@example([move("grant"), move("sync")], lasting())  # the staged snapshot is from before it
@example([move("grant"), move("sync", 1.0)], lasting(answer=3.0))  # it took effect, and nobody knows yet
@example([move("sync"), move("sync", 1.0), move("grant", 1.0)], lasting(upload=6.0))  # one waits for its turn
@example(
    [move("sync"), move("sync", 1.0), move("grant", 1.0)], lasting(upload=6.0, answer=9.0)
)  # the same, and no write has ended yet
@example(
    [move("sync"), move("sync", 1.0), move("grant", 1.0), move("request", 1.0)], lasting(upload=6.0, sync=0.5)
)  # it waits, and meanwhile another snapshot takes its place
@example([move("request"), move("grant", 2.0), move("sync", 4.0)], lasting())  # its team was read already
@example([move("request"), move("grant", 7.0), move("sync", 2.0)], lasting(stage=5.0))  # the file is being written
@example([move("request"), move("grant", 3.0), move("sync", 6.0)], lasting(answer=5.0))  # the sync ends before it
@example(
    [move("request"), move("grant", 8.0), *[move(each, 3.0) for each in ("revoke", "grant") * 2], move("sync", 2.5)],
    lasting(stage=3.0),
)  # each time that the file is written
def test_no_snapshot_that_leaves_contradicts_a_change_made_before(made: list[Move], seconds: dict[str, float]) -> None:
    play(made, seconds)


@virtual_time
async def play(made: list[Move], seconds: dict[str, float]) -> None:
    setup = LiveSetup(**seconds)
    asked: list[TaskID] = []
    async with setup.running():
        await asyncio.sleep(MINUTE)
        for number, each in enumerate(made):
            await asyncio.sleep(each.wait)
            match each.what:
                case "sync":
                    asked.append(setup.task())
                case "request":
                    setup.annotate(sync_request=str(number))
                case "grant" | "revoke":
                    wanted = Membership(each.team, each.person, each.role)
                    asked.append(TaskID(f"change{number}"))
                    setup.c1.tasks.append(MembershipTask(asked[-1], each.what == "grant", wanted))
                case "lost before":
                    setup.members.before.append(LOST)
                case _:
                    setup.members.after.append(LOST)
        async with asyncio.timeout(20 * MINUTE):
            while not set(asked) <= set(setup.c1.finished):  # noqa: ASYNC110  # costs nothing in virtual time
                await asyncio.sleep(1.0)
    assert isinstance(setup.c1, JudgingC1)
    assert setup.c1.contradictions == []
    assert {setup.c1.finished[task].code for task in asked} <= {Code.OK, Code.UNAVAILABLE}
