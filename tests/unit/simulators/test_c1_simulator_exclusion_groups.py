"""What the simulated C1 refuses of exclusion groups in a snapshot."""

import pytest

from buildkite_connector.proto import connector_pb2 as pb
from simulators.c1.exclusion_groups import ExclusionGroups, exclusion_group
from simulators.c1.tiny_snapshot import entitlement
from unit.simulators.c1_changes import packed


def member_of(group: str, id: str = "e", kind: str = "team", *, default: bool = False) -> pb.Entitlement:  # noqa: A002
    made = pb.Entitlement(id=id)
    made.resource.id.resource_type = kind
    annotation = pb.EntitlementExclusionGroup(exclusion_group_id=group, is_default=default)
    made.annotations.append(packed(annotation))
    return made


def test_an_entitlement_may_be_in_no_group() -> None:
    ExclusionGroups().take(entitlement())
    assert exclusion_group(entitlement()) is None


def test_fifty_of_one_type_with_one_default_are_a_group() -> None:
    groups = ExclusionGroups()
    for number in range(50):
        groups.take(member_of("g", f"e{number}", default=number == 7))
    groups.take(member_of("other", "e50", "user", default=True))
    with pytest.raises(ValueError, match="e51: exclusion group g has more than 50 entitlements"):
        groups.take(member_of("g", "e51"))


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (member_of("", "b"), "without an id"),
        (member_of("g", "b", "user"), "exclusion group g is of team, not of user"),
        (member_of("g", "b", default=True), "exclusion group g has a default already"),
    ],
)
def test_an_entitlement_that_does_not_fit_its_group_is_refused(second: pb.Entitlement, says: str) -> None:
    groups = ExclusionGroups()
    groups.take(member_of("g", "a", default=True))
    with pytest.raises(ValueError, match=f"b: .*{says}"):
        groups.take(second)
