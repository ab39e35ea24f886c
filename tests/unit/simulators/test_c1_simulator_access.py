"""What the simulated C1 takes and refuses of grants to teams, which expand, and the SDK's expander as it ports it."""

import sqlite3
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from buildkite_connector.proto import connector_pb2 as pb
from simulators.c1.expander import expanded
from simulators.c1.ingest import Expected, Rejected, ingest
from simulators.c1.probe import Probe
from simulators.c1.server import C1Simulator
from simulators.c1.tiny_snapshot import SYNC_ID, WHEN, replace_message, tiny_snapshot
from unit.simulators.c1_uploads import Alteration, refusal, running_task, sql

ADDRESS = "https://buildkite.com/acme/deploy"
TEAM = pb.ResourceId(resource_type="team", resource="t1")
DEPLOY = pb.ResourceId(resource_type="pipeline", resource="p1")
READS = pb.Entitlement(
    id="pipeline:p1:read_only", resource=pb.Resource(id=DEPLOY), display_name="Read", slug="read_only"
)
MEMBERS = pb.GrantExpandable(entitlement_ids=["team:t1:member"], shallow=True)
FULL = Expected("full")
HELD = pb.Grant(
    id="pipeline:p1:read_only:team:t1",
    entitlement=pb.Entitlement(id=READS.id, resource=READS.resource),
    principal=pb.Resource(id=TEAM),
)
OF_ADA = pb.Grant(
    id="pipeline:p1:read_only:user:u1",
    entitlement=READS,
    principal=pb.Resource(id=pb.ResourceId(resource_type="user", resource="u1")),
)


def pipeline_type(*annotations: pb.OptInRequired | pb.CapabilityPermissions) -> pb.ResourceType:
    kind = pb.ResourceType(id="pipeline", display_name="Pipeline")
    for annotation in annotations or (pb.OptInRequired(),):
        kind.annotations.add().Pack(annotation)
    return kind


def pipeline(url: str = ADDRESS) -> pb.Resource:
    resource = pb.Resource(id=DEPLOY, display_name="Deploy")
    resource.annotations.add().Pack(pb.ExternalLink(url=url))
    return resource


def inherited(*sources: str, immutable: bool = True, is_direct: bool = True, user: str = "u1") -> pb.Grant:
    grant = pb.Grant()
    grant.CopyFrom(OF_ADA)
    grant.id, grant.principal.id.resource = f"pipeline:p1:read_only:user:{user}", user
    if immutable:
        grant.annotations.add().Pack(pb.GrantImmutable())
    for source in sources:
        grant.sources.sources[source].is_direct = is_direct
    return grant


def insert(database: sqlite3.Connection, table: str, external_id: str, data: bytes, **columns: object) -> None:
    values = {"external_id": external_id, "data": data, "sync_id": SYNC_ID, "discovered_at": WHEN, **columns}
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    database.execute(f"insert into {table} ({names}) values ({marks})", tuple(values.values()))  # noqa: S608


def grant_row(database: sqlite3.Connection, grant: pb.Grant, expansion: pb.GrantExpandable | None = None) -> None:
    of, to = grant.entitlement.resource.id, grant.principal.id
    insert(
        database,
        "v1_grants",
        grant.id,
        grant.SerializeToString(),
        resource_type_id=of.resource_type,
        resource_id=of.resource,
        entitlement_id=grant.entitlement.id,
        principal_resource_type_id=to.resource_type,
        principal_resource_id=to.resource,
        expansion=expansion.SerializeToString() if expansion is not None else None,
        needs_expansion=int(expansion is not None),
    )


def with_pipeline(
    expansion: pb.GrantExpandable = MEMBERS,
    *more: pb.Grant,
    altered: Alteration = lambda _: None,
) -> Callable[[sqlite3.Connection], None]:
    """The tiny snapshot with a pipeline that its team can read."""

    def alter(database: sqlite3.Connection) -> None:
        insert(database, "v1_resource_types", "pipeline", pipeline_type().SerializeToString())
        insert(database, "v1_resources", "pipeline:p1", pipeline().SerializeToString(), resource_type_id="pipeline")
        of = {"resource_type_id": "pipeline", "resource_id": "p1"}
        insert(database, "v1_entitlements", READS.id, READS.SerializeToString(), **of)
        grant_row(database, HELD, expansion)
        for grant in more:
            grant_row(database, grant)
        altered(database)

    return alter


def taken(place: Path, alter: Alteration, expected: Expected = FULL) -> dict[str, int]:
    """The grants of each type. Raises Rejected."""
    path = place / "x.c1z"
    path.write_bytes(tiny_snapshot(alter))
    return ingest(path, expected).grants


def test_a_grant_that_expands_is_taken_with_and_without_what_it_expands_to(tmp_path: Path) -> None:
    assert taken(tmp_path, with_pipeline(), Expected("full", expanded=False)) == {"team": 1, "pipeline": 1}
    both = alone(inherited("team:t1:member"))
    assert taken(tmp_path, both, Expected("full", expanded=True)) == {"team": 1, "pipeline": 2}


def expansion(*ids: str) -> Alteration:
    return with_pipeline(pb.GrantExpandable(entitlement_ids=ids, shallow=True))


def alone(*grants: pb.Grant) -> Alteration:
    return with_pipeline(MEMBERS, *grants)


def altered(alteration: Alteration) -> Alteration:
    return with_pipeline(altered=alteration)


@pytest.mark.parametrize(
    ("alter", "says"),
    [
        (expansion(READS.id), "pipeline:p1:read_only is not an entitlement of the principal"),
        (expansion("team:t1:member", "team:t9:member"), "entitlement team:t9:member is not in v1_entitlements"),
        (expansion(), "expected at least one, none twice"),
        (expansion("team:t1:member", "team:t1:member"), "expected at least one, none twice"),
        (altered(sql("update v1_grants set needs_expansion = 0")), "needs_expansion is 0, expected 1"),
        (altered(sql("update v1_grants set needs_expansion = 1")), "needs_expansion is 1, expected 0"),
        (
            altered(sql("update v1_grants set expansion = x'ff' where id = 2")),
            "is not a c1.connector.v2.GrantExpandable",
        ),
        (alone(inherited("team:t1:owner")), "sources: entitlement team:t1:owner is not in v1_entitlements"),
        (alone(inherited("team:t1:member", immutable=False)), "GrantImmutable: expected on"),
        (alone(inherited()), "GrantImmutable: expected on"),
        (alone(inherited("team:t1:member", is_direct=False)), "has direct sources alone"),
        (alone(inherited("team:t1:member", user="u2")), "user:u1: not as grants expand"),
        (alone(*(inherited("team:t1:member", user=each) for each in ("u1", "u2"))), "user:u2: not as grants expand"),
        (altered(replace_message("v1_resources", "pipeline:p1", pipeline("http://x.example"))), "is not an https"),
        (altered(replace_message("v1_resource_types", "pipeline", pb.ResourceType(id="pipeline"))), "display_name"),
        (
            altered(
                replace_message(
                    "v1_resource_types",
                    "pipeline",
                    pipeline_type(pb.CapabilityPermissions(permissions=[pb.CapabilityPermission()])),
                )
            ),
            "a permission is empty",
        ),
        (altered(sql("delete from v1_resources where external_id = 'team:t1'")), "team:t1 is not in v1_resources"),
    ],
)
def test_what_does_not_expand_as_the_sdk_has_it_is_refused(tmp_path: Path, alter: Alteration, says: str) -> None:
    with pytest.raises(Rejected) as caught:
        taken(tmp_path, alter)
    assert says in str(caught.value)


def test_an_annotation_that_has_a_column_or_another_place_is_refused(tmp_path: Path) -> None:
    held = pb.Grant()
    held.CopyFrom(HELD)
    held.annotations.add().Pack(pb.GrantExpandable(entitlement_ids=["team:t1:member"]))
    with pytest.raises(Rejected, match=r"GrantExpandable' has no place here"):
        taken(tmp_path, altered(replace_message("v1_grants", HELD.id, held)))
    trait = pipeline()
    trait.annotations.add().Pack(pb.GroupTrait())
    with pytest.raises(Rejected, match="GroupTrait: its resource type has no such trait"):
        taken(tmp_path, altered(replace_message("v1_resources", "pipeline:p1", trait)))


def test_a_grant_to_whom_the_entitlement_is_not_for_is_refused(tmp_path: Path) -> None:
    for_users = pb.Entitlement()
    for_users.CopyFrom(READS)
    for_users.grantable_to.add(id="user", display_name="User", traits=[pb.ResourceType.TRAIT_USER])
    with pytest.raises(Rejected, match="the entitlement is not grantable to a team"):
        taken(tmp_path, altered(replace_message("v1_entitlements", READS.id, for_users)))
    for_users.grantable_to[0].display_name = "Person"
    with pytest.raises(Rejected, match="grantable_to: user is not as in v1_resource_types"):
        taken(tmp_path, altered(replace_message("v1_entitlements", READS.id, for_users)))


def test_nobody_of_an_opt_in_type_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="principal user:u9 is not in v1_resources"):
        taken(tmp_path, alone(inherited("team:t1:member", user="u9")))


async def test_a_task_says_whether_grants_are_to_be_expanded(sim: C1Simulator, host: Probe) -> None:
    plain, whole = tiny_snapshot(with_pipeline()), tiny_snapshot(alone(inherited("team:t1:member")))
    task_id = await running_task(sim, host)
    assert "pipeline:p1:read_only:user:u1: not as grants expand" in await refusal(host.upload(task_id, plain))
    await host.upload(task_id, whole)
    await host.finish(task_id)
    task_id = await running_task(sim, host, skip_expand_grants=True)
    assert "1 grants come from others" in await refusal(host.upload(task_id, whole))
    await host.upload(task_id, plain)
    await host.finish(task_id)
    assert len(sim.ingested) == 2


# The expander: what the product's files never have


def graph(*edges: tuple[str, str, bool], kinds: tuple[str, ...] = ()) -> sqlite3.Connection:
    """Groups, each a letter: whoever is in the first is in the second. Ada is in `a`."""
    database = sqlite3.connect(":memory:")
    database.execute("create table v1_entitlements (external_id, data)")
    database.execute("create table v1_grants (id integer primary key, data, expansion, needs_expansion)")
    groups = {letter: group(letter) for edge in edges for letter in edge[:2]}
    for each in groups.values():
        database.execute("insert into v1_entitlements values (?, ?)", (each.id, each.SerializeToString()))
    add = "insert into v1_grants (data, expansion, needs_expansion) values (?, ?, 1)"
    ada = pb.Grant(id="a:in:user:ada", entitlement=groups["a"], principal=OF_ADA.principal)
    database.execute(add, (ada.SerializeToString(), None))
    for source, destination, shallow in edges:
        grant = pb.Grant(
            id=f"{destination}:in:group:{source}", entitlement=groups[destination], principal=groups[source].resource
        )
        found = pb.GrantExpandable(
            entitlement_ids=[f"{source}:in", "gone:in"], shallow=shallow, resource_type_ids=kinds
        )
        database.execute(add, (grant.SerializeToString(), found.SerializeToString()))
    return database


def group(letter: str) -> pb.Entitlement:
    resource = pb.Resource(id=pb.ResourceId(resource_type="group", resource=letter))
    return pb.Entitlement(id=f"{letter}:in", resource=resource)


def of_ada(database: sqlite3.Connection) -> dict[str, list[str]]:
    """The sources of each grant of Ada's, by its entitlement."""
    return {
        grant.entitlement.id: sorted(grant.sources.sources)
        for grant in expanded(database).values()
        if grant.principal == OF_ADA.principal
    }


def test_a_deep_edge_carries_what_came_over_others_and_a_shallow_one_does_not() -> None:
    assert of_ada(graph(("a", "b", True), ("b", "c", False))) == {"a:in": [], "b:in": ["a:in"], "c:in": ["b:in"]}
    assert of_ada(graph(("a", "b", True), ("b", "c", True))) == {"a:in": [], "b:in": ["a:in"]}


def test_a_second_path_adds_its_source() -> None:
    found = of_ada(graph(("a", "b", False), ("a", "c", False), ("b", "c", False)))
    assert found["c:in"] == ["a:in", "b:in"]


def test_only_principals_of_the_types_that_an_edge_names_pass() -> None:
    assert of_ada(graph(("a", "b", False), kinds=("group",))) == {"a:in": []}
    assert of_ada(graph(("a", "b", False), kinds=("group", "user"))) == {"a:in": [], "b:in": ["a:in"]}


def test_a_circle_and_a_way_of_more_than_twenty_are_told() -> None:
    with pytest.raises(ValueError, match="in a circle"):
        expanded(graph(("a", "b", False), ("b", "a", False)))
    letters = "abcdefghijklmnopqrstuv"
    with pytest.raises(ValueError, match="over more than 20"):
        expanded(graph(*((one, other, False) for one, other in pairwise(letters))))


def test_an_entitlement_of_another_resource_fails_the_sync() -> None:
    database = graph(("a", "b", False))
    stranger = group("a")
    stranger.resource.id.resource = "z"
    database.execute("update v1_entitlements set data = ? where external_id = 'a:in'", (stranger.SerializeToString(),))
    with pytest.raises(ValueError, match="source entitlement resource id did not match grant principal id: a:in"):
        expanded(database)
