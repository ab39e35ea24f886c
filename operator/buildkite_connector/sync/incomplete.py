"""The failures of listings that contradict one another: nothing is delivered, because C1 would treat what is missing as
deleted."""

from collections.abc import Sequence

from buildkite_connector.model.directory import OrganizationSlug
from buildkite_connector.model.failure import Failure, Reason

MOST_LEAVERS = 10
"""How many people may be in a team but not in the list of members, because they left while the lists were read. If
there are more, the list of members is read again. Then the limit is MOST_LEAVERS_SHARE of the accounts, if that is
more: somebody may just have removed many people at once."""
MOST_LEAVERS_SHARE = 0.02
MOST_NAMED = 3
"""How many ids a message has."""

_GATEWAY = "Check for a gateway between here and Buildkite that changes or caches answers; the next sync tries again."


def most_leavers(accounts: int) -> int:
    """How many people may have left while the lists were read, in an organization of so many accounts."""
    return max(MOST_LEAVERS, round(accounts * MOST_LEAVERS_SHARE))


def listing(what: str, expected: str, missing: Sequence[str]) -> Failure:
    """The organization's list of `what` lacks some that others name."""
    return Failure(
        Reason.LIST_INCOMPLETE,
        f"Expected the organization's list of {what} to contain {expected}, but it lacks {len(missing)} of them, also"
        f" when it is read again ({_named(missing)}). Nothing is delivered, because C1 would treat them as deleted."
        f" {_GATEWAY}",
    )


def portal(slug: OrganizationSlug, missing: Sequence[str]) -> Failure:
    """The portal lacks accounts that Buildkite has."""
    return Failure(
        Reason.LIST_INCOMPLETE,
        f"Expected the portal to list every account of {slug}, but it lacks {len(missing)} of them, also when it is"
        f" read again ({_named(missing)}). Nothing is delivered, because C1 would treat these accounts as never used."
        f" {_GATEWAY}",
    )


def gone_but_listed(what: str, of: str, id_: str) -> Failure:
    """A team or cluster that is in its list is in no list once it is deleted."""
    return Failure(
        Reason.LIST_INCOMPLETE,
        f"Expected the {what} of {of} {id_}, which the list of {of}s still has, but Buildkite answers that the"
        f" {of} does not exist. Nothing is delivered, because C1 would treat it as deleted. Check whether the token"
        f" can see the {of}, and check for a gateway between here and Buildkite that changes or caches answers;"
        " the next sync tries again.",
    )


def no_accounts(slug: OrganizationSlug) -> Failure:
    return Failure(
        Reason.LIST_INCOMPLETE,
        f"Expected {slug} to have at least one account, but the list is empty. {_GATEWAY}",
    )


def no_pipelines(slug: OrganizationSlug) -> Failure:
    """The list of pipelines is empty, although a team can access one."""
    return Failure(
        Reason.LIST_INCOMPLETE,
        f"Expected the pipelines of {slug} to have those that its teams can access, but the list is empty. Check"
        " whether the token can see the pipelines, and check for a gateway between here and Buildkite that"
        " changes or caches answers; the next sync tries again.",
    )


def _named(missing: Sequence[str]) -> str:
    return ", ".join(missing[:MOST_NAMED]) + ("" if len(missing) <= MOST_NAMED else ", …")
