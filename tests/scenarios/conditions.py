"""What only the operator can find wrong, each told with a reason and a next step of its own.

All of it goes wrong at once, to a tenant each, and is mended while other scenarios run: `recovery` has the end.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import pytest
import pytest_asyncio

from harness.kubernetes_apis import Manifest
from harness.rig import OperatorProcess, Rig, condition
from scenarios.tenant import Stopwatch, Tenant
from simulators.buildkite.organization import Organization

Step = Callable[[Tenant], Awaitable[None]]
OTHER = "globex"
MINUTE = 60.0


@dataclass(frozen=True)
class Trouble:
    """`says` is in the message. `make` applies the tenant's resources so that it comes, `mend` ends it.

    `stalled`: it waits for a person; else the operator goes on trying.
    """

    title: str
    reason: str
    says: tuple[str, ...]
    make: Step
    mend: Step
    organizations: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ("read_organizations", "read_teams")
    stalled: bool = True


def applying(spec: dict[str, object] | None = None, **secret: str | None) -> Step:
    """Applies both, with this spec, and these of the Secret's keys changed."""
    return lambda tenant: tenant.apply(tenant.secret(**secret), tenant.connector(**(spec or {})))


def respecified(**spec: object) -> Step:
    return lambda tenant: tenant.apply(tenant.connector(**spec))


async def without_secret(tenant: Tenant) -> None:
    await tenant.apply(tenant.connector())


async def with_good_secret(tenant: Tenant) -> None:
    await tenant.apply(tenant.secret())


async def with_cut_secret(tenant: Tenant) -> None:
    await tenant.apply(tenant.secret(BATON_CLIENT_SECRET=tenant.client.client_secret[:-9]), tenant.connector())


async def revoked(tenant: Tenant) -> None:
    tenant.rig.buildkite.revoke(tenant.token)
    await tenant.apply()


async def revoked_at_work(tenant: Tenant) -> None:
    await tenant.become_ready()
    tenant.rig.buildkite.revoke(tenant.token)
    await tenant.request_sync()


async def with_new_token(tenant: Tenant) -> None:
    tenant.renew_token()
    await tenant.apply(tenant.secret())


async def refused(tenant: Tenant) -> None:
    tenant.c1.authority.refuse(tenant.client.client_id)
    await tenant.apply()


async def refused_at_work(tenant: Tenant) -> None:
    await tenant.become_ready()
    tenant.c1.authority.refuse(tenant.client.client_id)


async def with_new_client(tenant: Tenant) -> None:
    tenant.client = tenant.c1.register_client()
    await tenant.apply(tenant.secret())


async def out_of_reach(tenant: Tenant) -> None:
    tenant.c1 = tenant.rig.other_c1
    tenant.client = tenant.c1.register_client()
    tenant.c1.close_port()
    await tenant.apply()


async def in_reach(tenant: Tenant) -> None:
    await tenant.c1.reopen_port()


REVOKED = ("does not accept the API token", "replace this one")
REFUSED = ("invalid_client", "rotate its credentials")
SCOPE = "scopes read_organizations, read_teams, but lacks"
BOTH = ("acme-inc", OTHER)
TROUBLES = (
    Trouble(
        "the Secret is missing",
        "SecretNotFound",
        ("create it", "BATON_CLIENT_ID, BATON_CLIENT_SECRET and BATON_API_TOKEN"),
        without_secret,
        with_good_secret,
        stalled=False,  # for the first minutes: it may be on its way
    ),
    Trouble(
        "a key is missing",
        "SecretKeyMissing",
        ("no key BATON_API_TOKEN", "it has BATON_CLIENT_ID, BATON_CLIENT_SECRET"),
        applying(BATON_API_TOKEN=None),
        with_good_secret,
        stalled=False,
    ),
    Trouble(
        "a key is empty",
        "SecretKeyEmpty",
        ("BATON_CLIENT_SECRET", "is empty"),
        applying(BATON_CLIENT_SECRET=""),
        with_good_secret,
    ),
    Trouble(
        "the client ID is malformed",
        "ClientIDInvalid",
        ("has no '@'", "NAME@HOST/REST"),
        applying(BATON_CLIENT_ID="brave-otter-12345"),
        with_good_secret,
    ),
    Trouble(
        "the client secret is malformed",
        "ClientSecretInvalid",
        ("cut short", "Copy the client secret whole"),
        with_cut_secret,
        with_good_secret,
    ),
    Trouble("the API token is revoked", "TokenRejected", REVOKED, revoked, with_new_token),
    Trouble("the API token is revoked at work", "TokenRejected", REVOKED, revoked_at_work, with_new_token),
    Trouble(
        "the scope read_organizations is missing",
        "TokenScopeMissing",
        (f"{SCOPE} read_organizations.",),
        applying(),
        with_new_token,
        scopes=("read_teams",),
    ),
    Trouble(
        "the scope read_teams is missing",
        "TokenScopeMissing",
        (f"{SCOPE} read_teams.",),
        applying(),
        with_new_token,
        scopes=("read_organizations",),
    ),
    Trouble(
        "the organization is not found",
        "OrganizationNotFound",
        ("'nowhere'", "acme-inc, globex"),
        applying({"organization": "nowhere"}),
        respecified(organization="acme-inc"),
        BOTH,
    ),
    Trouble(
        "several organizations and none is chosen",
        "OrganizationAmbiguous",
        ("can access 2", "acme-inc, globex"),
        applying(),
        respecified(organization="globex"),
        BOTH,
    ),
    Trouble(
        "the cron cannot be parsed",
        "CronInvalid",
        ("61 * * * *",),
        applying({"schedule": {"cron": "61 * * * *"}}),
        respecified(schedule={"cron": "1 * * * *"}),
    ),
    Trouble(
        "the cron fires too often",
        "CronInvalid",
        ("*/2 * * * *", "2 minutes", "5 minutes"),
        applying({"schedule": {"cron": "*/2 * * * *"}}),
        respecified(schedule={"cron": "*/5 * * * *"}),
    ),
    Trouble(
        "the cron names a date that never comes",
        "CronInvalid",
        ("0 0 30 2 *", "never fires"),
        applying({"schedule": {"cron": "0 0 30 2 *"}}),
        respecified(schedule={"cron": "0 0 28 2 *"}),
    ),
    Trouble(
        "the time zone is unknown",
        "TimeZoneInvalid",
        ("Europe/Atlantis",),
        applying({"schedule": {"cron": "0 3 * * *", "timeZone": "Europe/Atlantis"}}),
        respecified(schedule={"cron": "0 3 * * *", "timeZone": "Europe/Athens"}),
    ),
    Trouble("C1 refuses the client", "C1ClientRejected", REFUSED, refused, with_new_client),
    Trouble("C1 refuses the client at work", "C1ClientRejected", REFUSED, refused_at_work, with_new_client),
    Trouble("C1 is out of reach", "C1Unreachable", ("could not be reached",), out_of_reach, in_reach, stalled=False),
)


@dataclass(frozen=True)
class Story:
    """`told`: the connector when the trouble was told. `mended`: when it was over."""

    trouble: Trouble
    tenant: Tenant
    told: asyncio.Task[Manifest]
    mended: asyncio.Task["Mended"]


@dataclass(frozen=True)
class Mended:
    """The connector, how many seconds after the mending it was Ready, and the events by then."""

    connector: Manifest
    seconds: float
    events: list[Manifest]


async def tell(trouble: Trouble, tenant: Tenant) -> Manifest:
    await trouble.make(tenant)
    await tenant.until_condition("Ready", "False", trouble.reason)
    return await tenant.get()


async def mend(trouble: Trouble, tenant: Tenant, told: asyncio.Task[Manifest]) -> Mended:
    await asyncio.wait({told})
    await trouble.mend(tenant)
    watch = Stopwatch()
    await tenant.until_ready(MINUTE)
    seconds = watch.seconds
    connector = await tenant.until(lambda status: status["phase"] == "Connected" and not _reconciles(status))
    return Mended(connector, seconds, await tenant.events())


def _reconciles(status: Manifest) -> bool:
    """Whether a sync after a change of the resource or its Secret is still to come."""
    return any(each["type"] == "Reconciling" for each in status["conditions"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stories(shared_rig: Rig, operator: OperatorProcess) -> AsyncIterator[Mapping[str, Story]]:
    """By the titles of their troubles."""
    organizations = shared_rig.buildkite.api.organizations
    organizations[OTHER] = Organization.from_document(shared_rig.buildkite.organization.document())
    organizations[OTHER].slug = OTHER
    begun: dict[str, Story] = {}
    for number, trouble in enumerate(TROUBLES):
        name = f"{trouble.reason.lower()}-{number}"
        tenant = Tenant(shared_rig, name, *trouble.organizations, scopes=trouble.scopes)
        told = asyncio.create_task(tell(trouble, tenant))
        begun[trouble.title] = Story(trouble, tenant, told, asyncio.create_task(mend(trouble, tenant, told)))
    yield begun
    running = [task for story in begun.values() for task in (story.told, story.mended)]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for story in begun.values():
        await story.tenant.delete()


@pytest.fixture(params=TROUBLES, ids=lambda trouble: trouble.title)
def story(request: pytest.FixtureRequest, stories: Mapping[str, Story]) -> Story:
    trouble: Trouble = request.param
    return stories[trouble.title]


class TestConditions:
    async def test_what_is_wrong_is_told_with_its_own_reason_and_what_to_do(self, story: Story) -> None:
        trouble, told = story.trouble, await story.told
        ready = condition(told, "Ready")
        assert [says for says in trouble.says if says not in ready["message"]] == [], ready["message"]
        waiting = condition(told, "Stalled" if trouble.stalled else "Reconciling")
        assert (waiting["status"], waiting["message"]) == ("True", ready["message"])
        assert condition(told, "CredentialsValid")["status"] != "True"
        missing = told["status"].get("token", {}).get("missingScopes", [])
        assert missing == [scope for scope in Trouble.scopes if scope not in trouble.scopes]
