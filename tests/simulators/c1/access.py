"""What the simulated C1 believes of who has what: the last whole snapshot, and what its own tasks changed since.

It makes the messages of grant and revoke tasks from what a snapshot holds, as C1 does: ids are those that the
connector itself gave.
"""

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from buildkite_connector.proto import baton_pb2 as pb
from buildkite_connector.proto import connector_pb2 as v2
from simulators.c1.exclusion_groups import exclusion_group
from simulators.c1.ingest import decompress

UNKNOWN_GRANT_ID = "🧸_UNKNOWN_GRANT_ID"
"""The id of a grant of which C1 knows only entitlement and principal."""

ROLES = ("member", "maintainer")


@dataclass(frozen=True, slots=True)
class Form:
    """How much C1 tells of a change.

    `grant_id`: False for the placeholder in its place. `slug`: False leaves the entitlement's empty.
    `known`: False makes the messages up, for what no snapshot has named.
    """

    grant_id: bool = True
    slug: bool = True
    known: bool = True


WHOLLY_KNOWN = Form()


@dataclass(slots=True)
class Book:
    """Entitlements and grants by id, users by their own ids."""

    entitlements: dict[str, v2.Entitlement] = field(default_factory=dict)
    users: dict[str, v2.Resource] = field(default_factory=dict)
    grants: dict[str, v2.Grant] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Book":
        """From an uploaded file that was found sound."""
        book = cls()
        with _rows(path) as rows:
            for (data,) in rows.execute("select data from v1_entitlements"):
                entitlement = v2.Entitlement.FromString(data)
                book.entitlements[entitlement.id] = entitlement
            for (data,) in rows.execute("select data from v1_resources where resource_type_id = 'user'"):
                user = v2.Resource.FromString(data)
                book.users[user.id.resource] = user
            for (data,) in rows.execute("select data from v1_grants"):
                grant = v2.Grant.FromString(data)
                book.grants[grant.id] = grant
        return book

    def grant_options(self, team: str, role: str, user: str, form: Form = WHOLLY_KNOWN) -> dict[str, Any]:
        """A GrantTask's fields. Raises LookupError for what no snapshot named."""
        task = pb.Task.GrantTask(entitlement=self._entitlement(team, role, form), principal=self._user(user, form))
        return _fields(task)

    def revoke_options(self, team: str, role: str, user: str, form: Form = WHOLLY_KNOWN) -> dict[str, Any]:
        """A RevokeTask's fields: the snapshot's own grant, or one put together where the snapshot has none."""
        entitlement = self._entitlement(team, role, form)
        grant = v2.Grant(id=f"{entitlement.id}:user:{user}", entitlement=entitlement)
        grant.principal.CopyFrom(self._user(user, form))
        if form.known and grant.id in self.grants and form.slug:
            grant.CopyFrom(self.grants[grant.id])
        if not form.grant_id:
            grant.id = UNKNOWN_GRANT_ID
        return _fields(pb.Task.RevokeTask(grant=grant))

    def siblings(self, entitlement_id: str) -> frozenset[str]:
        """The entitlements of the same exclusion group; for one that no snapshot named, its team's other roles."""
        own = self.entitlements.get(entitlement_id)
        if own is None:
            team, _, role = entitlement_id.rpartition(":")
            return frozenset(f"{team}:{other}" for other in ROLES if other != role)
        group = _group_id(own)
        same = (each.id for each in self.entitlements.values() if _group_id(each) == group)
        return frozenset(same) - {entitlement_id} if group else frozenset()

    def _entitlement(self, team: str, role: str, form: Form) -> v2.Entitlement:
        entitlement = v2.Entitlement(id=f"team:{team}:{role}", slug=role, display_name=role.capitalize())
        entitlement.resource.id.CopyFrom(v2.ResourceId(resource_type="team", resource=team))
        if form.known:
            if entitlement.id not in self.entitlements:
                raise LookupError(f"no snapshot named the entitlement {entitlement.id}")
            entitlement.CopyFrom(self.entitlements[entitlement.id])
        if not form.slug:
            entitlement.slug = ""
        return entitlement

    def _user(self, user: str, form: Form) -> v2.Resource:
        if not form.known:
            return v2.Resource(id=v2.ResourceId(resource_type="user", resource=user))
        if user not in self.users:
            raise LookupError(f"no snapshot named the user {user}")
        return self.users[user]


def _group_id(entitlement: v2.Entitlement) -> str:
    group = exclusion_group(entitlement)
    return group.exclusion_group_id if group else ""


@contextlib.contextmanager
def _rows(path: Path) -> Iterator[sqlite3.Connection]:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "snapshot.db"
        decompress(path, database)
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)) as connection:
            yield connection


def _fields(task: pb.Task.GrantTask | pb.Task.RevokeTask) -> dict[str, Any]:
    return dict(MessageToDict(task, preserving_proto_field_name=True))
