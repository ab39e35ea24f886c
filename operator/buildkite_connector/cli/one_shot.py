"""The command without a sub-command and client ID: one snapshot into one file, as by the vendor's connector."""

import asyncio
from pathlib import Path

from rich.console import Console

from buildkite_connector.cli.configuration import Configuration, SettingError, asked_actions
from buildkite_connector.cli.exit_codes import CANCELLED
from buildkite_connector.cli.service_settings import (
    buildkite_settings,
    duration,
    kinds,
    organization,
    read_credentials,
    refuse_skipped_sync,
)
from buildkite_connector.cli.sync import Interrupted, SyncSettings, print_result, sync_until_signalled
from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.model.scope import SyncScope
from buildkite_connector.network import Network


def one_shot_settings(configuration: Configuration) -> SyncSettings:
    """Raises SettingError: what is missing, and what this mode does not do."""
    if actions := asked_actions(configuration):
        raise SettingError(
            actions[0],
            "this connector changes and lists nothing from the command line; it writes a snapshot, or serves C1 with"
            " --client-id",
        )
    refuse_skipped_sync(configuration)
    file = configuration.text("file")
    if "://" in file:
        raise SettingError(
            "--file", "the snapshot is written to a local file only; write it there, and upload it with another tool"
        )
    everything = not configuration.switch("skip-entitlements-and-grants")
    return SyncSettings(
        buildkite=buildkite_settings(configuration),
        api_token=read_credentials(configuration).api_token,
        organization=organization(configuration),
        file=Path(file),
        scope=SyncScope(kinds(configuration), entitlements=everything, grants=everything),
        quota_percent=configuration.number("quota-percent"),
        timeout=duration(configuration, "sync-timeout"),
    )


def write_one_file(settings: SyncSettings, network: Network) -> int:
    """The exit code: 0, or gRPC's CANCELLED after a signal. Raises Failure."""
    console, errors = Console(), Console(stderr=True)
    try:
        result = asyncio.run(sync_until_signalled(settings, network, errors))
    except TimeoutError:
        raise Failure(
            Reason.SYNC_TIMEOUT,
            f"The sync took longer than --sync-timeout ({settings.timeout:.0f} s); {settings.file} is as it was.",
        ) from None
    except Interrupted:
        errors.print(f"error: interrupted; {settings.file} is as it was.", highlight=False, soft_wrap=True)
        return CANCELLED
    print_result(result, console)
    return 0
