"""Checks whether a connector can work: its spec, its Secret, Buildkite's tokens. C1 is checked by its session."""

from dataclasses import replace

from buildkite_connector.connector.environment import Environment
from buildkite_connector.connector.state import OF_A_PORTAL, DesiredState
from buildkite_connector.connector.transitions import CheckResult
from buildkite_connector.model.directory import ResourceKind
from buildkite_connector.model.failure import Failure
from buildkite_connector.model.spec import ConnectorKey, Credentials, OrganizationChoice, check_schedule, namespace_of
from buildkite_connector.model.token_scopes import WRITE_SCOPE
from buildkite_connector.sync.portal import check_portal, portal_missing
from buildkite_connector.sync.preflight import (
    WRITING_SCOPES,
    Preflight,
    ScopesMissing,
    preflight,
    required_scopes,
    write_scope_missing,
)


async def check(
    key: ConnectorKey, desired: DesiredState, known: Credentials | None, environment: Environment, *, forced: bool
) -> CheckResult:
    """Read the Secret; ask Buildkite when it differs from `known`, or in any case (`forced`). Raises no Failure."""
    result = CheckResult(desired.generation, desired.sync_request, None, forced=forced)
    try:
        if desired.spec_error is not None:
            raise desired.spec_error.without_traceback()
        check_schedule(desired.spec.schedule)
        if ResourceKind.API_TOKEN in desired.spec.kinds and not desired.spec.portal:
            raise portal_missing()
        credentials = await desired.credentials.read()
        result = replace(result, credentials=credentials)
        if not forced and credentials == known:
            return result
        result = replace(result, asked_buildkite=True)
        found, of_portal = await _ask_buildkite(key, desired, credentials, environment)
    except Failure as failure:
        return replace(result, failure=failure, missing_scopes=_missing(failure))
    refused = await _check_writing(key, desired, credentials, found, environment)
    return replace(
        result,
        preflight=found,
        failure=of_portal,
        missing_scopes=_missing(refused),
        write_failure=refused and refused.without_traceback(),
    )


def _missing(failure: Failure | None) -> tuple[str, ...]:
    return failure.missing if isinstance(failure, ScopesMissing) else ()


async def _check_writing(
    key: ConnectorKey, desired: DesiredState, credentials: Credentials, found: Preflight, environment: Environment
) -> Failure | None:
    """Why memberships cannot be changed although that is enabled, or None. A second token costs one request, and so
    does one that is exchanged for writing alone."""
    if not desired.spec.provisioning.enabled:
        return None
    token = found.token
    try:
        if credentials.write_api_token or credentials.exchanges:
            writing = credentials.for_writing(found.organization.slug, WRITING_SCOPES)
            async with environment.check_slots.slot(namespace_of(key)) as slot:
                client = environment.buildkite(writing, credentials.redactor, slot=slot, urgent=True)
                token = await client.token()
    except Failure as failure:
        return failure
    return write_scope_missing() if WRITE_SCOPE not in token.scopes else None


async def _ask_buildkite(
    key: ConnectorKey, desired: DesiredState, credentials: Credentials, environment: Environment
) -> tuple[Preflight, Failure | None]:
    """What a sync goes on with, and what is wrong with the portal alone. Raises Failure."""
    spec = desired.spec
    choice = OrganizationChoice(spec.organization) if spec.organization else credentials.organization
    async with environment.check_slots.slot(namespace_of(key)) as slot:
        client = environment.buildkite(
            credentials.for_reading(choice.slug if choice else None, required_scopes(spec.kinds)),
            credentials.redactor,
            quota_percent=spec.quota_percent,
            slot=slot,
            urgent=True,  # whoever edits looks at the status; another connector's slow sync may use the same token
            waits=False,  # the status shows what comes of it, and it is repeated: a silence would last for minutes
        )
        found = await preflight(client, choice, spec.kinds)
        if spec.portal:
            slug = found.organization.slug
            redactor = credentials.redactor.without(slug)  # public by now
            portal = environment.portals(
                slug, spec.portal, credentials.portal_token, redactor, slot=slot, urgent=True, waits=False
            )
            try:
                await check_portal(portal, spec.kinds)
            except Failure as failure:
                if failure.reason not in OF_A_PORTAL:
                    raise
                return found, failure
        return found, None
