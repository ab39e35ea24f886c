"""What two snapshots differ in, and that a file of the reference connector's says the same as ours."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from buildkite_connector.c1z import compare
from buildkite_connector.model.directory import Account, AccountID, Directory, Membership, ResourceKind, Role, SyncScope
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.snapshot import StagedSnapshot
from harness.organization import ACME_REFERENCE
from unit.c1z.altered_files import altered

Write = Callable[..., StagedSnapshot]


@pytest.fixture
def acme(write: Write, tmp_path: Path) -> Path:
    """Our file of the golden organization."""
    return write(tmp_path / "acme.c1z").path


def test_the_reference_connectors_file_and_ours_of_one_organization_do_not_differ(acme: Path) -> None:
    for before, after in ((ACME_REFERENCE, acme), (acme, ACME_REFERENCE)):
        difference = compare(before, after, 10)
        assert difference.is_empty
        assert difference.before.counts == difference.after.counts


def test_an_account_that_left_takes_its_memberships_along(
    acme: Path, acme_directory: Directory, write: Write, tmp_path: Path
) -> None:
    left = acme_directory.memberships[0].account
    theirs = [each for each in acme_directory.memberships if each.account == left]
    kept = tuple(each for each in acme_directory.memberships if each.account != left)
    accounts = tuple(each for each in acme_directory.accounts if each.id != left)
    after = write(tmp_path / "after.c1z", replace(acme_directory, accounts=accounts, memberships=kept)).path
    difference = compare(acme, after, 10)
    assert [each.id for each in difference.accounts.lost] == [left]
    assert (difference.accounts.count, difference.memberships.lost_count) == (1, len(theirs))
    lost = difference.memberships.lost[0]
    assert (lost.resource, lost.principal, lost.held) in {(each.team, each.account, each.role.value) for each in theirs}
    assert lost.principal_name == next(each.name for each in acme_directory.accounts if each.id == left)
    assert lost.resource_name == next(each.name for each in acme_directory.teams if each.id == lost.resource)
    gained = compare(after, acme, 10)
    assert [each.id for each in gained.accounts.gained] == [left]
    assert gained.memberships.gained_count == len(theirs)


def test_another_role_in_a_team_is_one_change_and_no_loss(
    acme: Path, acme_directory: Directory, write: Write, tmp_path: Path
) -> None:
    first, *others = acme_directory.memberships
    other = Role.MEMBER if first.role is Role.MAINTAINER else Role.MAINTAINER
    after = write(
        tmp_path / "after.c1z",
        replace(acme_directory, memberships=(Membership(first.team, first.account, other), *others)),
    ).path
    difference = compare(acme, after, 10)
    (changed,) = difference.memberships.changed
    assert (changed.before.held, changed.after.held, changed.attributes) == (first.role, other, ("held",))
    assert (difference.memberships.gained_count, difference.memberships.lost_count) == (0, 0)


def test_names_and_organization_roles_that_changed_are_named(
    acme_directory: Directory, write: Write, tmp_path: Path
) -> None:
    def with_first(account: Account, name: str) -> Path:
        _, *others = acme_directory.accounts
        return write(tmp_path / name, replace(acme_directory, accounts=(account, *others))).path

    before = replace(acme_directory.accounts[0], role="member", sso_mode="required")
    after = replace(before, name="Another", role="admin", sso_mode="optional")
    difference = compare(with_first(before, "a.c1z"), with_first(after, "b.c1z"), 10)
    (changed,) = difference.accounts.changed
    assert changed.attributes == ("name", "role")
    assert (changed.before.role, changed.after.role) == ("member", "admin")


def test_a_teams_name_that_changed_is_named(
    acme: Path, acme_directory: Directory, write: Write, tmp_path: Path
) -> None:
    first, *others = acme_directory.teams
    renamed = replace(first, name="Another", description="and another description")
    after = write(tmp_path / "b.c1z", replace(acme_directory, teams=(renamed, *others))).path
    (changed,) = compare(acme, after, 10).teams.changed
    assert (changed.after.id, changed.attributes) == (first.id, ("name",))


def test_lists_are_as_long_as_asked_for_and_counts_are_whole(
    large_directory: Directory, write: Write, tmp_path: Path
) -> None:
    none = replace(large_directory, accounts=large_directory.accounts[:1], memberships=())
    before, after = (write(tmp_path / name, each).path for name, each in (("a", large_directory), ("b", none)))
    accounts = compare(before, after, 7).accounts
    assert (len(accounts.lost), accounts.lost_count) == (7, 5999)


def test_what_only_one_file_covers_is_not_compared_and_said(
    acme: Path, acme_directory: Directory, write: Write, tmp_path: Path
) -> None:
    without_grants = replace(acme_directory, memberships=(), scope=SyncScope(grants=False))
    accounts_alone = replace(
        acme_directory, teams=(), memberships=(), scope=SyncScope(kinds=frozenset({ResourceKind.USER}))
    )
    for scoped, missing in ((without_grants, ("memberships",)), (accounts_alone, ("teams", "memberships"))):
        difference = compare(acme, write(tmp_path / "b.c1z", scoped).path, 10)
        assert difference.not_compared == missing
        assert difference.memberships.count == difference.teams.count == 0
        assert not difference.is_empty


def test_a_damaged_row_is_blamed_on_the_file_that_has_it(acme: Path, tmp_path: Path) -> None:
    damaged = altered(tmp_path / "damaged.c1z", "update v1_resources set data = x'ff' where id = 1")
    for before, after in ((damaged, acme), (acme, damaged)):
        with pytest.raises(Failure, match=r"damaged\.c1z.*not that of a snapshot") as caught:
            compare(before, after, 10)
        assert caught.value.reason is Reason.SNAPSHOT_INVALID


@pytest.mark.parametrize("column", ["entitlement_id", "principal_resource_id", "resource_id", "external_id"])
@pytest.mark.parametrize("value", ["x'ff'", "x'41'", "7"])
def test_ids_of_another_kind_are_a_difference_and_never_an_error(
    acme: Path, tmp_path: Path, column: str, value: str
) -> None:
    odd = altered(
        tmp_path / "odd.c1z",
        f"update v1_grants set external_id = 'x' where id = 1; update v1_grants set {column} = {value} where id = 1",  # noqa: S608
    )
    assert not compare(acme, odd, 10).is_empty
    assert not compare(odd, acme, 10).is_empty


def test_an_account_that_no_file_lists_is_shown_by_its_id(
    acme: Path, acme_directory: Directory, write: Write, tmp_path: Path
) -> None:
    scope = SyncScope(kinds=frozenset({ResourceKind.TEAM}))
    whole = replace(acme_directory, accounts=(), scope=scope)
    stranger = Membership(acme_directory.teams[0].id, AccountID("stranger"), Role.MEMBER)
    more = replace(whole, memberships=(*acme_directory.memberships, stranger))
    before, after = (write(tmp_path / name, each).path for name, each in (("a", whole), ("b", more)))
    (gained,) = compare(before, after, 10).memberships.gained
    assert (gained.principal, gained.principal_name) == ("stranger", "")


@pytest.mark.parametrize("table", ["v1_resources", "v1_grants"])
def test_an_id_that_comes_twice_is_refused_before_each_is_joined_with_each(
    acme: Path, tmp_path: Path, table: str
) -> None:
    """100,000 times the same id in both files would be 10,000 million pairs."""
    indexes = "idx_resources_parent_resource_id_v1", "idx_grants_external_sync_v1"
    odd = altered(
        tmp_path / "odd.c1z",
        *(f"drop index {each}" for each in indexes),
        f"update {table} set external_id = 'x'",  # noqa: S608
    )
    for before, after in ((odd, acme), (acme, odd)):
        with pytest.raises(Failure, match=rf"odd\.c1z.*{table} has an id twice"):
            compare(before, after, 10)
