"""Organizations of any size, made up: the same one for the same numbers."""

import random
from collections.abc import Iterable, Sequence
from math import gcd

from simulators.buildkite.listing import Listing, Record
from simulators.buildkite.organization import Organization

TEAM_SETTINGS = {
    "default_member_role": "member",
    "members_can_create_pipelines": True,
    "members_can_create_suites": False,
    "members_can_create_registries": False,
    "members_can_destroy_registries": False,
    "members_can_destroy_packages": True,
}
"""What Buildkite tells of some teams and not of others; every other made team has it."""


GIVEN_NAMES = ("Zoë Ångström", "李小龙", "O'Brien, Pat", "Ada Lovelace", "Nguyễn Thị Hương", 'Test "Quote"')


def make_organization(
    accounts: int,
    teams: int,
    memberships: int,
    seed: int = 0,
    slug: str = "synthetic",
) -> Organization:
    """An organization of exactly these sizes; the same arguments always give the same one.

    Teams are of uneven size, the first by far the largest, as in real organizations; one member in
    eight is a maintainer. Raises ValueError when every account in every team were still too few.
    """
    if memberships > accounts * teams:
        raise ValueError(f"{memberships} memberships do not fit {accounts} accounts in {teams} teams")
    jitter = random.Random(seed)
    organization = Organization(made_uuid(jitter), slug, f"Synthetic {slug}")
    members = [
        {
            "id": made_uuid(jitter),
            "name": f"{GIVEN_NAMES[index % len(GIVEN_NAMES)]} {index}",
            "email": f"user{index}@example.com",
            "role": "admin" if index % 50 == 0 else "member",
            "sso_mode": "optional" if index % 50 == 0 else "required",
        }
        for index in range(accounts)
    ]
    organization.members = Listing("id", members)
    sizes = sizes_of_teams(accounts, teams, memberships)
    listed = [_team(made_uuid(jitter), index, members) for index in range(teams)]
    organization.teams = Listing("id", listed)
    for team, size in zip(listed, sizes, strict=True):
        roster = [
            {
                "role": "maintainer" if place % 8 == 0 else "member",
                "created_at": "2023-03-14T00:49:55.534Z",
                "user_id": members[account]["id"],
                "user_name": members[account]["name"],
            }
            for place, account in enumerate(draw(jitter, accounts, size))
        ]
        organization.team_members[team["id"]] = Listing("user_id", roster)
    return organization


def _team(id: str, index: int, members: Sequence[Record]) -> Record:  # noqa: A002
    creator = members[index % len(members)] if members and index % 5 else None
    return {
        "id": id,
        "graphql_id": f"VGVhbS0tLQ{index}",
        "name": f"Team {index} – ops & dev",
        "slug": f"team-{index}",
        "description": "" if index % 3 else f"Description of team {index} <b>&",
        "created_at": "2023-03-14T00:45:16.215Z",
        "privacy": "secret" if index % 4 == 0 else "visible",
        "default": index == 0,
        "created_by": creator
        and {**{field: creator[field] for field in ("id", "name", "email")}, "created_at": "2022-01-18T02:51:30.983Z"},
        **(TEAM_SETTINGS if index % 2 else {}),
    }


def made_uuid(jitter: random.Random) -> str:
    digits = f"{jitter.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def sizes_of_teams(accounts: int, teams: int, memberships: int) -> list[int]:
    """Sizes that fall with the team's rank, none above `accounts`, in all exactly `memberships`."""
    sizes: list[int] = []
    left = memberships
    weights = [1 / (rank + 10) for rank in range(teams)]
    weight_left = sum(weights)
    for rank, weight in enumerate(weights):
        others = teams - rank - 1
        wanted = round(left * weight / weight_left) if others else left
        size = max(left - others * accounts, min(accounts, left, wanted))
        sizes.append(size)
        left -= size
        weight_left -= weight
    return sizes


def draw(jitter: random.Random, accounts: int, size: int) -> Iterable[int]:
    """`size` different accounts, strewn over the roster by a stride that is coprime to its length."""
    if not size:
        return ()
    start, stride = jitter.randrange(accounts), jitter.randrange(1, accounts + 1)
    while gcd(stride, accounts) != 1:
        stride += 1
    return ((start + step * stride) % accounts for step in range(size))
