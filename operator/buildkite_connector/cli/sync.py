"""One snapshot of one organization into a file, with nothing else running."""

import asyncio
import logging
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from rich.console import Console

from buildkite_connector.buildkite import BuildkiteSettings, open_buildkite
from buildkite_connector.c1z import ExpansionTooLarge, WriteStopped, new_sync_id, write_snapshot
from buildkite_connector.cli.exit import on_signals
from buildkite_connector.model.directory import CollectionReport, Directory, OrganizationSlug, SyncScope, without_grants
from buildkite_connector.model.snapshot import StagedSnapshot
from buildkite_connector.model.spec import Credentials, OrganizationChoice
from buildkite_connector.model.words import in_words
from buildkite_connector.network import Network
from buildkite_connector.sync.collect import collect
from buildkite_connector.sync.listing import Progress
from buildkite_connector.sync.ports import PortalAPI
from buildkite_connector.sync.preflight import preflight, required_scopes
from buildkite_connector.timing.clock import SystemClock

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """What to collect and where to put it. `timeout` in seconds. `portal`: a portal's slug, "" for none."""

    buildkite: BuildkiteSettings
    credentials: Credentials
    organization: OrganizationSlug | None
    file: Path
    scope: SyncScope
    quota_percent: int
    timeout: float
    portal: str = ""


@dataclass(frozen=True, slots=True)
class FinishedSync:
    """`seconds`: wall time from the first request to the file in place."""

    organization: str
    report: CollectionReport
    snapshot: StagedSnapshot
    seconds: float


class Interrupted(Exception):  # noqa: N818  (nothing went wrong)
    """A signal came before the new file was in place; the old one is unchanged."""

    def __init__(self, number: int, file: Path) -> None:
        super().__init__(f"interrupted; {file} is unchanged.")
        self.number = number


async def sync_and_print(settings: SyncSettings, network: Network) -> None:
    """Sync, with progress on a terminal, and print what was written. Raises Failure, TimeoutError and Interrupted.

    A signal that comes while the file is put in place is too late: the sync has succeeded.
    """
    if lacking := without_grants(settings.scope.kinds):
        logger.warning("a resource type has no grants", extra={"detail": f"Check the resource types: {lacking}."})
    signals: list[int] = []

    def stop(number: int) -> None:
        if not signals:
            syncing.cancel()
        signals.append(number)

    with _progress(Console(stderr=True)) as show:
        syncing = asyncio.create_task(sync(settings, network, show))
        with on_signals(stop, signal.SIGHUP):
            await asyncio.wait({syncing})
    if syncing.cancelled():
        raise Interrupted(signals[0] if signals else 0, settings.file)
    print_result(await syncing, Console())


async def sync(settings: SyncSettings, network: Network, progress: Callable[[Progress], None] | None) -> FinishedSync:
    """Collect and write; after a Failure or cancellation the file is unchanged."""
    clock = SystemClock()
    started, began = clock.now(), clock.monotonic()
    sync_id = new_sync_id(started, secrets.token_bytes)
    async with (
        open_buildkite(settings.buildkite, network, clock=clock) as buildkite,
        asyncio.timeout(settings.timeout),
    ):
        kinds, credentials, redactor = settings.scope.kinds, settings.credentials, settings.credentials.redactor
        credential = credentials.for_reading(settings.organization, required_scopes(kinds))
        client = buildkite.client(credential, redactor, quota_percent=settings.quota_percent)
        choice = OrganizationChoice(settings.organization) if settings.organization else None
        found = await preflight(client, choice, kinds)
        portal: PortalAPI | None = None
        if settings.portal:
            portal = buildkite.portal(found.organization.slug, settings.portal, credentials.portal_token, redactor)
        collection = await collect(client, found.organization, settings.scope, portal, progress=progress)
    stop, finished = Event(), clock.now()

    def write(directory: Directory) -> StagedSnapshot:
        return write_snapshot(
            directory,
            settings.file,
            sync_id=sync_id,
            started_at=started,
            finished_at=finished,
            stopped=stop.is_set,
        )

    writing = asyncio.ensure_future(asyncio.to_thread(_write, collection.directory, write))
    try:
        snapshot = await asyncio.shield(writing)
    except asyncio.CancelledError:
        stop.set()
        try:
            snapshot = await writing  # the file may be in place already, and is complete then
        except WriteStopped:
            raise asyncio.CancelledError from None
    return FinishedSync(found.organization.name, collection.report, snapshot, clock.monotonic() - began)


def _write(directory: Directory, write: Callable[[Directory], StagedSnapshot]) -> StagedSnapshot:
    """Write the directory, with the grants of teams expanded where these are not too many. Blocks."""
    try:
        return write(directory)
    except ExpansionTooLarge:
        logger.warning(
            "grants are not expanded",
            extra={
                "detail": "A grant for each person in a team would make the file too large, so it has the grants of "
                "teams alone. C1 expands them, and access, inspect and diff give the same answers."
            },
        )
        return write(replace(directory, scope=replace(directory.scope, expanded=False)))


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[Progress], None] | None]:
    """Yield a function that shows the progress, None where `console` is not a terminal."""
    if not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    from rich.progress import Progress as ProgressBar  # noqa: PLC0415

    description = TextColumn("[progress.description]{task.description}")
    columns = (
        SpinnerColumn(),
        description,
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("pages"),
        TimeElapsedColumn(),
    )
    with ProgressBar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Asking Buildkite", total=None)
        yield lambda progress: bar.update(
            task,
            completed=progress.pages_read,
            total=progress.pages_known,
            description=_read_so_far(progress),
        )


def _read_so_far(progress: Progress) -> str:
    always, opt_in = ("accounts", "teams", "memberships"), ("pipelines", "clusters", "api_tokens")
    amounts = {name: getattr(progress, name) for name in (*always, *opt_in)}
    return ", ".join(f"{amount} {in_words(name)}" for name, amount in amounts.items() if amount or name in always)


def print_result(result: FinishedSync, console: Console) -> None:
    """A table on a terminal, one line elsewhere."""
    counts, report, snapshot = result.snapshot.counts, result.report, result.snapshot
    if not console.is_terminal:
        console.print(
            f"{snapshot.path}: {', '.join(f'{amount} {what}' for what, amount in counts.amounts())};"
            f" {report.requests} requests, {result.seconds:.1f} s ({report.throttled_seconds:.1f} s throttled),"
            f" {snapshot.size} bytes, sha256 {snapshot.sha256}",
            soft_wrap=True,
            highlight=False,
        )
        return
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=f"{result.organization} → {snapshot.path}", show_header=False, title_justify="left")
    rows = [
        *((what.capitalize(), f"{amount:,}") for what, amount in counts.amounts()),
        ("Requests", f"{report.requests:,}"),
        ("Time", f"{result.seconds:.1f} s, of which {report.throttled_seconds:.1f} s waiting for Buildkite's quota"),
        ("Snapshot", f"{snapshot.size:,} bytes, sync {snapshot.sync_id}"),
        ("SHA-256", snapshot.sha256),
    ]
    notes = [
        (report.teams_gone, "Teams deleted meanwhile, left out"),
        (report.accounts_added, "Accounts known only from a team or a cluster, added"),
        (report.pipelines_added, "Pipelines known only from a team, added"),
        (report.clusters_gone, "Clusters deleted meanwhile, left out"),
        (report.teams_unseen, "Teams that maintain a cluster and that the token cannot see, left out"),
        (report.rereads, "Listings read again because they changed"),
    ]
    for name, value in [*rows, *((name, str(amount)) for amount, name in notes if amount)]:
        table.add_row(name, value)
    console.print(table)
