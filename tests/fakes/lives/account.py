"""What a connector's life keeps account of beside the state: its own view of tasks, syncs and failures."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from typing import NoReturn

from buildkite_connector.connector.decisions import Answer
from buildkite_connector.connector.state import DesiredState
from buildkite_connector.model.directory import Counts, ResourceKind, SyncScope
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.model.spec import Credentials


class BrokenPromise(AssertionError):  # noqa: N818
    """A promise that the core did not keep."""


def promise(kept: bool, sentence: str, detail: object = "") -> None:
    if not kept:
        raise BrokenPromise(f"{sentence}: {detail!r}")


class SyncPhase(Enum):
    """QUEUED: waits for a slot. RUNNING: collects and stages. CANCELLING: told to end."""

    QUEUED = auto()
    RUNNING = auto()
    CANCELLING = auto()


class Unread:
    """A life reads its Secret by itself."""

    async def read(self) -> NoReturn:
        raise NotImplementedError


@dataclass
class Task:
    """A task of C1: it waits until it has an answer, uploads `file`, and then awaits C1's word on its end."""

    scope: SyncScope
    asked_at: float
    answer: Answer | None = None
    file: StagedSnapshot | None = None
    ending: bool = False


@dataclass(frozen=True)
class Sync:
    """What a sync that succeeded worked with, and when."""

    generation: int
    credentials: Credentials | None
    started: float
    finished: datetime
    counts: Counts


@dataclass
class Failed:
    """The last sync, when it failed: the next one begins no sooner than `not_before`, unless it was `excused`."""

    not_before: datetime
    excused: bool = False


@dataclass
class Check:
    """A check under way: what it was begun with."""

    desired: DesiredState
    known: Credentials | None
    forced: bool


def all_maintainers(scope: SyncScope) -> bool:
    """Whether cluster maintainers of both kinds are in a snapshot: the counts of two such can be compared."""
    return {ResourceKind.CLUSTER, ResourceKind.USER, ResourceKind.TEAM} <= scope.kinds and scope.wants_grants


def cut(counts: Counts, scope: SyncScope) -> Counts:
    """A third of the cluster maintainers are teams, and two thirds are accounts."""
    found = counts.within(scope)
    if found.cluster_maintainers is None or scope.wants_user_maintainers is scope.wants_team_maintainers:
        return found
    thirds = 2 if scope.wants_user_maintainers else 1
    return replace(found, cluster_maintainers=found.cluster_maintainers * thirds // 3)
