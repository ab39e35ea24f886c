"""What a connector's life keeps account of beside the state: its own view of tasks, syncs and failures."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import NoReturn

from buildkite_connector.connector.decisions import Answer
from buildkite_connector.connector.state import DesiredState
from buildkite_connector.model.directory import Counts, SyncScope
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


def covered(scope: SyncScope) -> frozenset[str]:
    """The names of the counts that a snapshot of this scope has."""
    kinds = {"accounts": {"user"}, "teams": {"team"}, "pipelines": {"pipeline"}, "clusters": {"cluster"}}
    if scope.entitlements and scope.grants:
        kinds["memberships"] = {"team"}
        kinds["organization_roles"] = {"organization", "user"}
        kinds["pipeline_access"] = {"pipeline", "team"}
        kinds["cluster_maintainers"] = {"cluster", "user"}
        kinds["cluster_team_maintainers"] = {"cluster", "team"}
    return frozenset(name for name, needed in kinds.items() if needed <= scope.kinds)
