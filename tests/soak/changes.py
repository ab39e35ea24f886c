"""Grants and revokes under way while a connector's process ends at random moments, with syncs beside them.

Nobody else edits Buildkite here. So who is in a team follows from how C1's requests ended, and every write that had no
effect is one that was made twice.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simulators.c1.access import ROLES, Book
from simulators.c1.requests import AccessRequest
from simulators.c1.tasks import State
from soak.endings import RPCS, Endings, until_seen
from soak.modes import OperatorMode

PAIRS = 20
"""Of a team and a user, each with one request at a time: so many are interleaved."""
LEASE = 5.0
"""Seconds after which C1 hands a change out again that has not ended."""
SLOTS = ("grant", "revoke")
SPEC: Mapping[str, Any] = {"provisioning": {"enabled": True}, "delivery": {"maxSnapshotAge": "1h"}}

Roles = frozenset[str | None]


@dataclass
class Pair:
    """A user in a team, and C1's requests about it, one after the other. None is no membership."""

    team: str
    user: str
    start: str | None
    requests: list[AccessRequest] = field(default_factory=list)

    @property
    def idle(self) -> bool:
        return all(request.ended for request in self.requests)

    def roles(self, requests: list[AccessRequest] | None = None) -> Roles:
        """What may be so after these requests, all by default: one thing, unless one of them failed."""
        may: Roles = frozenset({self.start})
        for request in self.requests if requests is None else requests:
            done = frozenset(_after(request, role) for role in may)
            may = done if request.reading is not None and request.reading.success else may | done
        return may


def _after(request: AccessRequest, role: str | None) -> str | None:
    """A revoke leaves another role than its own as it is."""
    if request.action == "grant":
        return request.role
    return None if role == request.role else role


class Changes(Endings):
    """A connector whose provisioning is on. What it has staged may go out unless a change has made it stale."""

    moments = ("start", "sync", "change", "change", "change", *RPCS)

    def __init__(self, mode: OperatorMode, chance: random.Random) -> None:
        super().__init__(mode, chance)
        self.tenant = mode.tenant
        mode.c1.policy.change_lease, mode.c1.policy.next_poll = LEASE, 0.0
        organization = mode.buildkite.organization
        teams = [team["id"] for team in organization.teams.records]
        users = chance.sample([member["id"] for member in organization.members.records], PAIRS)
        chosen = [(chance.choice(teams), user) for user in users]
        self.pairs = [Pair(team, user, self._live(team, user)) for team, user in chosen]

    def give_work(self) -> None:
        """A request for each pair that has none under way, and a sync where none waits."""
        for pair in self.pairs:
            if pair.idle:
                action, role = self._chance.choice(SLOTS), self._chance.choice(ROLES)
                asked = self.mode.c1.request(action, pair.team, role, pair.user, client=self.tenant.client)
                pair.requests.append(asked)
        syncs = (task for task in self.mode.c1.tasks.values() if task.kind == "sync_full")
        if all(task.state is State.FINISHED for task in syncs):
            self.mode.add_task()

    async def until(self, moment: str) -> None:
        """`change`: one more write has reached Buildkite, or all that could lead to one has ended."""
        if moment != "change":
            await super().until(moment)
            return
        before = len(self.mode.buildkite.writes)
        await until_seen(lambda: len(self.mode.buildkite.writes) > before or self._all_ended())

    async def settle(self) -> None:
        await super().settle()
        self.check()

    def check(self) -> None:
        """What must be so in the end. C1's book is that of the last snapshot, which was delivered after all else."""
        self.mode.buildkite.journal.check()
        for pair in self.pairs:
            assert pair.idle, f"not ended: {pair}"
            live = self._live(pair.team, pair.user)
            assert live in pair.roles(), f"Buildkite has {live}, the requests say {pair.roles()}: {pair}"
        twice = [write for write in self.mode.buildkite.writes if not write.effective]
        assert twice == [], f"written twice: {twice}"
        asked = sum(len(pair.requests) for pair in self.pairs)
        assert len(self.mode.buildkite.writes) <= asked, (
            f"{len(self.mode.buildkite.writes)} writes for {asked} requests"
        )
        book = self.mode.c1.book(client=self.tenant.client)
        assert (found := self.contradictions()) == [], found
        assert (other := set(book.grants) ^ self._all_live()) == set(), f"the last snapshot is wrong of {other}"

    def contradictions(self) -> list[str]:
        """Snapshots that left after a change had ended and do not show it. Pairs that were in flux then say nothing."""
        found = []
        for received in self.mode.c1.ingested:
            if not received.expected.grants or received.expected.kinds:
                continue
            book = Book.read(received.path)
            for pair in self.pairs:
                ended = [each for each in pair.requests if each.ended_at and each.ended_at < received.began]
                after = pair.requests[len(ended) :]
                if any(each.made_at < received.at for each in after):
                    continue
                shown = _shown(book, pair)
                if shown not in pair.roles(ended):
                    found.append(f"{received.task_id}: {pair.user} in {pair.team} is {shown}, not {pair.roles(ended)}")
        return found

    @property
    def told(self) -> str:
        requests = [request for pair in self.pairs for request in pair.requests]
        failed = sum(request.ended and not (request.reading and request.reading.success) for request in requests)
        open_ = sum(not request.ended for request in requests)
        again = sum(len(request.tasks) - 1 for request in requests)
        writes = len(self.mode.buildkite.writes)
        return f"{len(requests)} requests, {open_} open, {failed} failed, {again} attempts more; {writes} writes"

    def _live(self, team: str, user: str) -> str | None:
        rows = self.mode.buildkite.organization.team_members[team].records
        return next((row["role"] for row in rows if row["user_id"] == user), None)

    def _all_live(self) -> set[str]:
        return {
            f"team:{team}:{row['role']}:user:{row['user_id']}"
            for team, roster in self.mode.buildkite.organization.team_members.items()
            for row in roster.records
        }


def _shown(book: Book, pair: Pair) -> str | None:
    return next((role for role in ROLES if f"team:{pair.team}:{role}:user:{pair.user}" in book.grants), None)
