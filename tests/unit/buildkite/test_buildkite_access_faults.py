"""What goes wrong in each call for pipelines and clusters: one failure with its own message, and nothing is staged."""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pytest

from buildkite_connector.buildkite import BuildkiteSettings, open_buildkite
from buildkite_connector.connector.run_sync import run_sync
from buildkite_connector.connector.state import SyncRun, TeamChanges
from buildkite_connector.model.directory import Organization, OrganizationSlug, TokenFacts
from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.snapshot import SyncID
from buildkite_connector.model.status import Trigger
from buildkite_connector.sync.preflight import Preflight
from buildkite_connector.timing.clock import instant
from fakes.connector_ports import KEY, Store
from fakes.connector_setup import Setup
from fakes.connector_states import CREDENTIALS
from fakes.organization_api import REST_KINDS
from fakes.virtual_time import virtual_time
from harness.trust import DIRECT
from unit.hostile.buildkite_answers import (
    A_CLUSTER,
    A_PIPELINE,
    CLUSTER,
    CLUSTERS,
    HONEST,
    MAINTAINED,
    MOST_PAGES,
    PATIENCE,
    PIPELINES,
    TEAM_PIPELINE,
    TEAM_PIPELINES,
    TEAMS,
    TIMEOUTS,
    document,
    endless,
    head,
    linked,
    one,
    told,
    whole,
)
from unit.hostile.http_server import Answer, HostileServer, Part, Request

PATHS = {"pipelines": PIPELINES, "team pipelines": TEAM_PIPELINES, "clusters": CLUSTERS, "cluster": CLUSTER}
SCOPES = {
    "pipelines": "read_pipelines",
    "team pipelines": "read_teams",
    "clusters": "read_clusters",
    "cluster": "read_clusters",
}
MINIMUM = 7
"""Accounts, teams, members; pipelines, the team's; clusters, the one whose maintainers the list does not show."""
DOTS: Mapping[str, Answer] = {
    "pipelines": one(A_PIPELINE, id=".."),
    "team pipelines": one(TEAM_PIPELINE, pipeline_id=".."),
    "clusters": one(A_CLUSTER, id=".."),
    "cluster": document({**MAINTAINED, "id": ".."}),
}


@dataclass(frozen=True)
class Fault:
    """An answer, the reason and the words of the failure, and how many requests one call may make of it."""

    answer: Answer
    reason: Reason
    said: str
    tries: int = 1
    remedy: Remedy = Remedy.RETRY


def forbidden(scope: str) -> Answer:
    return whole(told(f"Your access token doesn't have the {scope} scope"), "403 Forbidden")


FAULTS: dict[str, Fault] = {
    "the IP address is not allowed": Fault(
        whole(told("Your IP is not in the allowlist"), "403 Forbidden"),
        Reason.ACCESS_DENIED,
        "denies access",
        remedy=Remedy.CREDENTIALS,
    ),
    "429": Fault(whole(b"{}", "429 Slow"), Reason.BUILDKITE_RATE_LIMITED, "its rate limit is used up", 3),
    "503": Fault(whole(b"", "503 No"), Reason.BUILDKITE_UNAVAILABLE, "responded with 503", 2),
    "a body without an end": Fault(
        endless(head() + b'[{"id": "', b"a" * 1_000_000), Reason.BUILDKITE_RESPONSE_INVALID, "is larger than"
    ),
    "HTML": Fault(whole(b"<html>sign in</html>"), Reason.BUILDKITE_RESPONSE_INVALID, "body: Invalid JSON", 2),
    "a link to another host": Fault(
        linked("https://evil.example/v2/organizations/acme/pipelines?page=2"),
        Reason.BUILDKITE_LINK_REFUSED,
        "https://evil.example. The token was not sent there",
    ),
    "a body that is another's": Fault(
        document({"id": "o", "slug": "acme"}), Reason.BUILDKITE_RESPONSE_INVALID, "not what Buildkite documents"
    ),
}


async def sync(routes: Mapping[str, Answer], caplog: pytest.LogCaptureFixture) -> tuple[Failure | None, HostileServer]:
    """One sync of all types, as a connector runs it."""
    caplog.set_level(logging.INFO)
    setup, store, server = Setup(), Store(), HostileServer({**HONEST, **routes})
    preflight = Preflight(TokenFacts("t", frozenset()), Organization("o", OrganizationSlug("acme"), "Acme"))
    spec = replace(setup.order.spec, kinds=REST_KINDS)
    run = SyncRun(SyncID("sync1"), Trigger.REQUEST, 1, CREDENTIALS, spec, preflight, instant(setup.clock))
    failure = None
    async with server.running() as origin:
        settings = BuildkiteSettings(
            f"{origin}/v2",
            page_size=10,
            most_pages=MOST_PAGES,
            longest_window=0.2,
            timeouts=TIMEOUTS,
            patience=PATIENCE,
        )
        async with open_buildkite(settings, DIRECT, clock=setup.clock) as buildkite:
            environment = replace(setup.environment(), buildkite=buildkite.client, store=store)
            async with environment.sync_slots.slot("default") as slot:
                try:
                    await run_sync("default.acme", KEY, run, environment, settled, slot)
                except Failure as error:
                    failure = error
    assert bool(store.files) is (failure is None), "all or nothing"
    said = [record.getMessage() for record in caplog.records if record.name.startswith("buildkite_connector")]
    assert said == ["sync succeeded" if failure is None else "sync failed"]
    return failure, server


async def settled() -> TeamChanges:
    return TeamChanges()


def asked(server: HostileServer, call: str) -> int:
    return sum(re.fullmatch(PATHS[call], request.path) is not None for request in server.requests)


@virtual_time
async def test_without_a_fault_it_is_the_fewest_requests(caplog: pytest.LogCaptureFixture) -> None:
    failure, server = await sync({}, caplog)
    assert failure is None
    assert len(server.requests) == MINIMUM
    assert [asked(server, call) for call in PATHS] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("call", "fault"),
    [(call, fault) for call in PATHS for fault in FAULTS if (call, fault) != ("cluster", "a link to another host")],
)
@virtual_time
async def test_each_fault_of_each_call_is_one_failure(call: str, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    made = FAULTS[fault]
    failure, server = await sync({PATHS[call]: made.answer}, caplog)
    assert failure is not None
    assert (failure.reason, failure.remedy) == (made.reason, made.remedy)
    assert made.said in failure.message
    remedy = "remove pipeline from" if call == "pipelines" else "remove cluster from"
    invalid = made.reason is Reason.BUILDKITE_RESPONSE_INVALID
    assert (f"{remedy} spec.sync.resourceTypes." in failure.message) is (invalid and call in ("pipelines", "clusters"))
    assert failure.message.startswith("GET /organizations/acme/")
    assert failure.message.isprintable()
    assert failure.message.endswith((".", "tries again."))
    assert len(failure.message) <= 400
    assert asked(server, call) == made.tries
    assert len(server.requests) <= MINIMUM - 1 + made.tries


@pytest.mark.parametrize("call", PATHS)
@virtual_time
async def test_a_scope_that_the_token_lacks_is_named(call: str, caplog: pytest.LogCaptureFixture) -> None:
    failure, _ = await sync({PATHS[call]: forbidden(SCOPES[call])}, caplog)
    assert failure is not None
    assert (failure.reason, failure.remedy) == (Reason.TOKEN_SCOPE_MISSING, Remedy.CREDENTIALS)
    assert f"the Buildkite API token lacks the scope {SCOPES[call]}" in failure.message


@pytest.mark.parametrize("call", PATHS)
@virtual_time
async def test_an_access_that_is_denied_names_the_scope_that_the_call_needs(
    call: str, caplog: pytest.LogCaptureFixture
) -> None:
    failure, _ = await sync({PATHS[call]: FAULTS["the IP address is not allowed"].answer}, caplog)
    assert failure is not None
    assert failure.message.endswith(f"its Organization Access and the scope {SCOPES[call]}.")


@virtual_time
async def test_another_cluster_than_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    failure, _ = await sync({CLUSTER: document({**MAINTAINED, "id": "c2"})}, caplog)
    assert failure is not None
    assert failure.reason is Reason.BUILDKITE_RESPONSE_INVALID
    assert "expected a response about c1, but it is about c2" in failure.message


@virtual_time
async def test_pipelines_full_of_yaml_and_a_cluster_of_many_maintainers_are_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    actor = {"id": "u1", "graphql_id": "x" * 300, "name": "U", "email": "u@example.com", "type": "user"}
    users = [{"id": f"m{number}", "actor": actor} for number in range(900)]
    routes = {
        PIPELINES: document([{**A_PIPELINE, "configuration": "- command: make, test\n" * 300_000}]),
        CLUSTERS: document(
            [{**A_CLUSTER, "id": f"c{number}", "maintainers": {"users": users, "teams": []}} for number in range(2, 7)]
            + [A_CLUSTER]
        ),
        CLUSTER: document({**A_CLUSTER, "maintainers": {"users": users, "teams": []}}),
    }
    failure, _ = await sync(routes, caplog)
    assert failure is None


@pytest.mark.parametrize("call", PATHS)
@virtual_time
async def test_an_id_with_dots_leads_nowhere(call: str, caplog: pytest.LogCaptureFixture) -> None:
    failure, server = await sync({PATHS[call]: DOTS[call]}, caplog)
    assert failure is not None
    assert failure.reason is Reason.BUILDKITE_RESPONSE_INVALID
    assert "id: expected 1 to 200 letters" in failure.message
    assert not [request.path for request in server.requests if ".." in request.path]


@pytest.mark.parametrize(
    ("call", "reason", "said"),
    [
        ("pipelines", Reason.ORGANIZATION_NOT_FOUND, "Buildkite knows no organization 'acme'"),
        ("team pipelines", Reason.LIST_INCOMPLETE, "Expected the pipelines of team t1, which the list of teams still"),
        ("clusters", Reason.ORGANIZATION_NOT_FOUND, "Buildkite knows no organization 'acme'"),
        ("cluster", Reason.LIST_INCOMPLETE, "Expected the maintainers of cluster c1, which the list of clusters still"),
    ],
)
@virtual_time
async def test_404_while_the_list_still_names_it(
    call: str, reason: Reason, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    failure, _ = await sync({PATHS[call]: whole(told("Not Found"), "404 No")}, caplog)
    assert failure is not None
    assert failure.reason is reason
    assert said in failure.message


@pytest.mark.parametrize(("call", "listing"), [("team pipelines", TEAMS), ("cluster", CLUSTERS)])
@virtual_time
async def test_404_of_what_no_list_names_any_more_is_left_out(
    call: str, listing: str, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter([HONEST[listing], document([])])

    def vanishing(request: Request) -> Iterable[Part]:
        return next(answers)(request)

    failure, server = await sync({PATHS[call]: whole(told("Not Found"), "404 No"), listing: vanishing}, caplog)
    assert failure is None
    assert len(server.requests) <= MINIMUM + 1
