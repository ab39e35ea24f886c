"""A Buildkite portal on the command line: the command `portal`, and what is checked of the portal's settings.

Imports are inside the functions, as in `app`.
"""

import re
from collections.abc import Collection
from typing import Annotated

import typer

from buildkite_connector.cli.flags import BY_NAME
from buildkite_connector.cli.settings import SettingError
from buildkite_connector.model.credential_forms import Credential, mistake
from buildkite_connector.model.directory import ResourceKind
from buildkite_connector.model.redactor import LONGEST_SECRET
from buildkite_connector.model.spec import Credentials, repeats_credential

# ruff: noqa: PLC0415  (see above)


def register(app: typer.Typer) -> None:
    app.command()(portal)


def portal(
    without_machine_users: Annotated[
        bool,
        typer.Option(
            "--without-machine-users",
            help="Leave out User.machineUser, for a Buildkite that does not know this field.",
        ),
    ] = False,
) -> None:
    """Print the GraphQL document of this version, for an administrator to store in a Buildkite portal.

    Through the portal, the connector reads when people were last active, whether they use two-factor authentication,
    who is a machine user, and people's API tokens.

    In Buildkite, as an administrator of the organization:
    1. Open Organization Settings, Integrations, Portals, and create a portal.
    2. Paste the document as its GraphQL query. Restrict the portal to the IP addresses of your cluster, and leave
    user-invokable off. Save it. The last part of its URL is its slug.
    3. Copy the portal's token, which Buildkite shows only once. To create another one, open the portal's Security page.

    In Kubernetes:
    4. Add the token to the connector's Secret, as BUILDKITE_PORTAL_TOKEN.
    5. Set spec.portal.slug of the BuildkiteConnector to the slug.

    Without Kubernetes, set the variables BUILDKITE_PORTAL_SLUG and BUILDKITE_PORTAL_TOKEN.
    If a new version has another document, replace the portal's GraphQL query. The token stays valid.
    """
    from buildkite_connector.buildkite.portal_document import portal_document

    typer.echo(portal_document(machine_users=not without_machine_users), nl=False)


def check_portal_settings(slug: str, credentials: Credentials, kinds: Collection[str]) -> None:
    """Raises SettingError for what cannot work. `kinds`: the resource types to sync."""
    from buildkite_connector.kubernetes.schema.validation import SLUG_PATTERN

    token = credentials.portal_token
    if bool(slug) != bool(token):
        missing = "portal-token" if slug else "portal-slug"
        raise SettingError(_source(missing), "it is missing; a portal's slug and its token belong together")
    if slug and repeats_credential(slug, credentials):
        raise SettingError(_source("portal-slug"), "it repeats a credential: write the slug of the portal")
    if slug and re.fullmatch(SLUG_PATTERN, slug) is None:
        raise SettingError(
            _source("portal-slug"),
            "it must be the last part of the portal's URL: lower-case letters, digits, '-' and '_'",
        )
    if len(token) > LONGEST_SECRET:
        raise SettingError(_source("portal-token"), f"it has more than {LONGEST_SECRET} characters: set only the value")
    if token and (wrong := mistake(token, Credential.PORTAL_TOKEN)) is not None:
        raise SettingError(_source("portal-token"), f"it {wrong}")
    if ResourceKind.API_TOKEN in kinds and not slug:
        raise SettingError(
            "--sync-resource-types",
            "api_token needs a portal: set BUILDKITE_PORTAL_SLUG and BUILDKITE_PORTAL_TOKEN, or remove the type",
        )


def _source(name: str) -> str:
    return f"--{name} ({BY_NAME[name].variable})"
