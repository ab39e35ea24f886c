"""`python -m simulators.buildkite`: the simulator in a process of its own, until SIGTERM or SIGINT.

Prints its base URL on one line when it is ready, and nothing else; `control` drives it.
"""

import argparse
import asyncio
import gc
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from simulators.buildkite.api import ALL_SCOPES, Token
from simulators.buildkite.certificate import Certificate
from simulators.buildkite.control import control
from simulators.buildkite.made_access import give_access
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.organization import Organization
from simulators.buildkite.portal import DocumentRefusedError
from simulators.buildkite.quota import Limits, OtherUse
from simulators.buildkite.server import BuildkiteSimulator, Config
from simulators.buildkite.writes import UNDECLARED_WRITES, UndeclaredWritesError

PORTAL_TOKEN = "portal-" + "0123456789abcdef" * 3


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    sim = BuildkiteSimulator(_config(options), control=control)
    try:
        _open_portal(sim, options)
    except (DocumentRefusedError, OSError) as error:
        sys.exit(f"the portal's document cannot be stored: {error}")
    if options.ca_file is not None and sim.authority is not None:
        options.ca_file.write_bytes(sim.authority.pem)
    try:
        asyncio.run(_serve(sim))
    except UndeclaredWritesError as error:
        print(error, file=sys.stderr)
        sys.exit(UNDECLARED_WRITES)


async def _serve(sim: BuildkiteSimulator) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    # The data stays for good: the collector need not walk through millions of objects again and again.
    gc.freeze()
    async with sim:
        print(sim.url, flush=True)
        await stopped.wait()


def _config(options: argparse.Namespace) -> Config:
    organizations = [Organization.load(path) for path in options.data]
    if options.accounts or options.teams or not organizations:
        made = make_organization(
            options.accounts, options.teams, options.memberships, options.seed, options.organization
        )
        organizations.append(
            give_access(made, options.pipelines, options.clusters, options.team_pipelines, options.seed)
        )
    for organization in organizations:
        organization.access.clusters_list_maintainers = options.clusters_list_maintainers
        organization.prepare()
    return Config(
        organizations,
        [Token(options.token, tuple(options.scopes.split(",")))],
        Limits(
            options.user_limit, options.organization_limit, options.window, options.reset_decimals, options.portal_limit
        ),
        OtherUse(options.other_user_use, options.other_organization_use, options.spread_other_use),
        options.latency,
        options.tls,
        options.port,
        options.writes_expected,
    )


def _open_portal(sim: BuildkiteSimulator, options: argparse.Namespace) -> None:
    """Raises DocumentRefusedError or OSError."""
    sim.portals.machine_users = not options.no_machine_users
    if options.portal_document is not None:
        sim.portals.create(options.portal, options.portal_document.read_text("utf-8"), token=options.portal_token)


def _limit(text: str) -> int | None:
    return None if text == "none" else int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulators.buildkite",
        description="Serves organizations as Buildkite's REST API does, on loopback.",
    )
    add = parser.add_argument
    add(
        "--data",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="an organization's JSON; repeatable",
    )
    add("--accounts", type=int, default=0, help="serve a generated organization of so many accounts,")
    add("--teams", type=int, default=0, help="teams")
    add("--memberships", type=int, default=0, help="memberships,")
    add("--pipelines", type=int, default=0, help="pipelines,")
    add("--team-pipelines", type=int, metavar="N", help="of which teams have so many (3 teams a pipeline),")
    add("--clusters", type=int, default=0, help="and clusters,")
    add("--seed", type=int, default=0, help="always the same one for the same seed,")
    add("--organization", default="synthetic", metavar="SLUG", help="under this slug")
    add("--clusters-list-maintainers", action="store_true", help="the list of clusters has their maintainers")
    add("--token", default=Token().value, help="the one token that is accepted")
    add("--scopes", default=",".join(ALL_SCOPES), help="its scopes, separated by commas")
    add(
        "--portal-document",
        type=Path,
        metavar="FILE",
        help="serve a portal of the first organization, below /portal, that stores this GraphQL document,",
    )
    add("--portal", default="c1-connector", metavar="SLUG", help="under this slug,")
    add("--portal-token", default=PORTAL_TOKEN, metavar="TOKEN", help="with this token")
    add("--no-machine-users", action="store_true", help="the portal's schema does not know User.machineUser")
    add("--user-limit", type=_limit, default=50, metavar="N|none", help="requests a window, default 50")
    add("--organization-limit", type=_limit, default=200, metavar="N|none", help="likewise, default 200")
    add("--portal-limit", type=_limit, default=200, metavar="N|none", help="likewise for its portals")
    add("--window", type=float, default=60.0, metavar="SECONDS", help="default 60")
    add("--reset-decimals", type=int, default=0, metavar="N", help="tell resets in fractions of a second")
    add("--other-user-use", type=int, default=0, metavar="N", help="what other tools take of each window,")
    add("--other-organization-use", type=int, default=0, metavar="N", help="of the organization's,")
    add("--spread-other-use", action="store_true", help="evenly over the window instead of at its opening")
    add("--writes-expected", action="store_true", help="do not fail at the end when something was written")
    add("--latency", type=float, default=0.0, metavar="SECONDS", help="added to each request")
    add("--tls", type=Certificate, choices=list(Certificate), help="serve https with such a certificate")
    add("--ca-file", type=Path, metavar="FILE", help="write the certificate authority's PEM there")
    add("--port", type=int, default=0, help="default: any free one")
    return parser
