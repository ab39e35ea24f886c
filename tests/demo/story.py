"""The demo: from an applied resource to a delivered snapshot, on this machine and with real processes.

Simulators of Buildkite and C1 and a Kubernetes API run here (a real kube-apiserver where one is found, else the
embedded simulator), the operator in a process of its own. Nothing leaves the machine and nothing stays behind.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import yaml
from kubernetes.aio.client import ApiException
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from buildkite_connector.buildkite.portal_document import portal_document
from buildkite_connector.c1z import read_snapshot
from buildkite_connector.kubernetes.schema.crd import definition
from harness.cluster import KubectlError
from harness.control_plane import ControlPlane, find_assets
from harness.control_plane_process import ControlPlaneError
from harness.rig import KIND, PLURAL, Manifest, RealApi, Rig, SimulatedApi, real_api, simulated_api
from simulators.buildkite.api import WRITING_SCOPES, Token

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
NAMESPACE, NAME = "default", "acme"
NEWCOMER = {"id": "5f0a9d5e-6f0e-4a51-9a55-0c3f1f6f7a11", "name": "Grace Newcomer", "email": "grace@example.com"}


SIGNALS = (signal.SIGINT, signal.SIGTERM)


def stop(*_: object) -> NoReturn:
    ignore_signals()
    raise KeyboardInterrupt


def ignore_signals() -> None:
    """A second Ctrl-C must not leave a server behind."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def main() -> None:
    for number in SIGNALS:
        signal.signal(number, stop)
    say("buildkite-connector: from an applied resource to a delivered snapshot")
    say("Everything runs on this machine: Buildkite and C1 are simulators, the operator is the real one.\n")
    with contextlib.ExitStack() as opened:
        assets = find_assets()
        control_plane = None if assets is None else opened.enter_context(ControlPlane(assets))
        opened.callback(ignore_signals)
        asyncio.run(tell(control_plane))


async def tell(control_plane: ControlPlane | None) -> None:
    telling = asyncio.current_task()
    assert telling is not None
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, lambda: telling.cancelling() or telling.cancel())
    async with kubernetes(control_plane) as (api, kind_of_api), Rig(api, NAMESPACE) as rig:
        rig.c1.policy.sync_on_hello = True
        organization = rig.buildkite.organization
        step("Servers on loopback")
        say(f"  Buildkite   {rig.buildkite.url}  (simulated: {organization.name},")
        say(f"              {len(organization.members)} members, {len(organization.teams)} teams)")
        say(f"  C1          {rig.c1.url}  (simulated: token endpoint and BatonService over TLS)")
        say(f"  Kubernetes  {kind_of_api}")

        step("The operator, a process of its own")
        began = time.monotonic()
        async with rig.operator() as operator:
            say(f"  $ buildkite-connector operator --namespace {NAMESPACE}")
            say(f"  ready after {time.monotonic() - began:.1f} s")
            manifests = await first_sync(api, rig)
            await second_sync(api, rig)
            await portal(rig, *manifests)
            await access(rig, *manifests)
            step("What the operator logged")
            for record in operator.records():
                fields = {key: record[key] for key in ("trigger", "accounts", "requests", "seconds") if key in record}
                told = " ".join(f"{key}={value}" for key, value in fields.items())
                say(f"  {record['level']:5} {record['message']} {told}")
            step("Shutdown")
            began = time.monotonic()
            code = await operator.stop()
            say(f"  SIGTERM; the operator ended after {time.monotonic() - began:.1f} s with code {code}")
        if code or rig.c1.violations:
            sys.exit(f"this should not be: code {code}, violations of C1's contract {rig.c1.violations}")
    say("\nThe servers are stopped and their files removed. To do it for real, see the README: Install.")


async def first_sync(api: SimulatedApi | RealApi, rig: Rig) -> tuple[Manifest, Manifest]:
    """Returns the Secret and the connector."""
    step("kubectl apply -f examples/secret.yaml -f examples/connector.yaml")
    secret = example("secret.yaml")
    secret["stringData"] = rig.secret()["stringData"]
    connector = example("connector.yaml")
    say("  (the Secret with the simulators' credentials in place of the example's)\n")
    say(indented(yaml.safe_dump(connector, sort_keys=False)))
    began = time.monotonic()
    await rig.apply(secret, connector)

    step("kubectl wait --for=condition=Ready bkc/acme")
    await rig.until_condition("Ready", "True")
    say(f"  condition met after {time.monotonic() - began:.1f} s")
    await rig.until_condition("Delivered", "True")
    await show(api)
    show_conditions(await api.get(NAMESPACE, NAME))
    show_received(rig)
    return secret, connector


async def second_sync(api: SimulatedApi | RealApi, rig: Rig) -> None:
    organization = rig.buildkite.organization
    team = organization.document()["teams"][0]
    organization.add_member(NEWCOMER["id"], NEWCOMER["name"], NEWCOMER["email"])
    organization.add_team_member(team["id"], NEWCOMER["id"], NEWCOMER["name"], "maintainer")
    step("Somebody joins the organization, and a sync is asked for")
    say(f"  Buildkite: {NEWCOMER['name']} joins {organization.name} and maintains {team['name']}")
    say(f'  $ kubectl annotate bkc {NAME} connectors.c1.ai/sync-requested-at="now"')
    began = time.monotonic()
    await api.annotate(NAMESPACE, NAME, {"connectors.c1.ai/sync-requested-at": "now"})
    await rig.until(lambda found: found["status"].get("lastHandledSyncRequest") == "now")
    say(f"  taken up after {time.monotonic() - began:.2f} s (status.lastHandledSyncRequest: now)")
    await rig.until(lambda found: found["status"]["lastSync"]["trigger"] == "Request")
    await show(api)
    say("  The new snapshot is staged; it is delivered when C1 asks for the next sync, which it does now:")
    await rig.c1.finished(rig.c1.add_task())
    await rig.until_condition("Delivered", "True")
    show_received(rig)


async def portal(rig: Rig, secret: Manifest, connector: Manifest) -> None:
    """What Buildkite shows in a portal alone."""
    step("A portal shows when people were last active, and their API tokens")
    opened = rig.buildkite.portals.create("c1-connector", portal_document())
    assert opened.token is not None
    secret["stringData"]["BUILDKITE_PORTAL_TOKEN"] = opened.token
    asked = {"portal": {"slug": opened.slug}, "sync": {"resourceTypes": ["user", "team", "api_token"]}}
    connector["spec"] |= asked
    say("  $ buildkite-connector portal  (prints the document that an administrator stores in a portal)")
    say("  BUILDKITE_PORTAL_TOKEN, the portal's token, is put into the Secret, and this into the connector:\n")
    say(indented(yaml.safe_dump({"spec": asked})))
    await rig.apply(secret, connector)
    found = await rig.until(lambda found: found["status"]["lastSync"].get("apiTokens"))
    say(f"  status.lastSync.apiTokens: {found['status']['lastSync']['apiTokens']}; the portal ran:")
    for call in rig.buildkite.portals.calls:
        say(f"    {call.operation} {call.variables}")
    await rig.c1.finished(rig.c1.add_task())
    directory = read_snapshot(rig.c1.ingested[-1].path).directory
    names = {account.id: account.name for account in directory.accounts}
    say("\n  C1 received, among others:")
    for account in directory.accounts[:7]:
        details = account.details
        assert details is not None
        kind = "machine user" if details.machine else "person"
        factors = "with" if details.two_factor else "without"
        seen = "never active" if details.last_seen_at is None else f"last active {day(details.last_seen_at)}"
        say(f"    {account.name}: {kind}, {factors} two-factor authentication, {seen}")
    for token in directory.api_tokens[:4]:
        owner = names.get(token.owner, "nobody known") if token.owner else "nobody known"
        say(f"    API token of {owner}: used {day(token.last_used_at)}, expires {day(token.expires_at)}")


async def access(rig: Rig, secret: Manifest, connector: Manifest) -> None:
    """One request, granted and taken back."""
    step("An approved request becomes a membership, and its end takes it away")
    writer = Token(f"bkua_{'d3a0' * 10}", WRITING_SCOPES)
    rig.buildkite.grant(writer)
    rig.buildkite.journal.expected = True
    secret["stringData"]["BATON_WRITE_API_TOKEN"] = writer.value
    connector["spec"]["provisioning"] = {"enabled": True}
    say("  BATON_WRITE_API_TOKEN, a token with write_teams, is put into the Secret, and this into the connector:\n")
    say(indented(yaml.safe_dump({"spec": {"provisioning": {"enabled": True}}})))
    await rig.apply(secret, connector)
    await rig.until_condition("ProvisioningReady", "True")
    team = rig.buildkite.organization.document()["teams"][1]
    for action, told in (("grant", "C1 approves: {} becomes member of {}"), ("revoke", "The access of {} to {} ends")):
        say(f"  {told.format(NEWCOMER['name'], team['name'])}")
        began = time.monotonic()
        asked = rig.c1.request(action, team["id"], "member", NEWCOMER["id"], client=rig.client)
        reading = await rig.c1.ended(asked)
        write = rig.buildkite.writes[-1]
        say(f"    C1 has the answer after {time.monotonic() - began:.2f} s: {reading.effect}")
        say(
            f"    Buildkite: {write.method} {write.path.split('/members')[0]}/members…: {write.before} -> {write.after}"
        )
    found = await rig.until(lambda found: found["status"].get("provisioning", {}).get("revoked") == 1)
    say("\n  $ kubectl get bkc acme -o jsonpath='{.status.provisioning}'  (as YAML)\n")
    say(indented(yaml.safe_dump(found["status"]["provisioning"], sort_keys=False)))


@contextlib.asynccontextmanager
async def kubernetes(control_plane: ControlPlane | None) -> AsyncIterator[tuple[SimulatedApi | RealApi, str]]:
    if control_plane is None:
        async with simulated_api() as simulator:
            yield (
                simulator,
                f"{simulator.simulator.server_url}  (embedded; a real kube-apiserver is used when one is found)",
            )
        return
    async with real_api(control_plane, control_plane.kubeconfig) as real:
        await real.apply(definition())
        await asyncio.to_thread(control_plane.until_established, "crd", "--all")
        version = await asyncio.to_thread(control_plane.kubectl_json, "version")
        yield real, f"{control_plane.url}  (kube-apiserver {version['serverVersion']['gitVersion']}, etcd)"


async def show(api: SimulatedApi | RealApi) -> None:
    """What `kubectl get` prints where there is a real API server, else a table of the same."""
    if isinstance(api, RealApi):
        for wide in ((), ("-o", "wide")):
            say(f"\n  $ {' '.join(('kubectl get bkc', *wide))}")
            say(indented((await asyncio.to_thread(api.cluster.kubectl, "get", PLURAL, *wide)).stdout))
        return
    table = Table("NAME", "READY", "STATUS", "ACCOUNTS", "TEAMS", "LAST SYNC", "MESSAGE", box=None)
    for connector in api.simulator.objects(KIND):
        status = connector.get("status", {})
        ready: Manifest = next((each for each in status.get("conditions", ()) if each["type"] == "Ready"), {})
        synced = status.get("lastSync", {})
        cells = (ready.get("status"), ready.get("reason"), synced.get("accounts"), synced.get("teams"))
        row = (connector["metadata"]["name"], *cells, status.get("lastSyncTime"), ready.get("message"))
        table.add_row(*(escape(str("" if each is None else each)) for each in row))
    print()
    Console(width=160).print(table)


def show_conditions(connector: Manifest) -> None:
    say("  $ kubectl get bkc acme -o jsonpath='{.status.conditions}'  (as a table)\n")
    for condition in connector["status"]["conditions"]:
        say(f"  {condition['type']:17} {condition['status']:6} {condition['reason']:14} {condition['message']}")


def show_received(rig: Rig) -> None:
    """What stands in the file that C1 has, read back by the simulator's own reader."""
    summary: dict[str, Any] = rig.c1.ingested[-1].summary()
    resources, grants = summary["resources"], sum(summary["grants"].values())
    say(f"\n  C1 received {summary['size']:,} bytes under task {summary['task_id']} and read them back:")
    say(f"    sync         {summary['sync_id']} ({summary['sync_type']}), sha256 {summary['sha256'][:16]}…")
    say(f"    resources    {resources['user']} users, {resources['team']} teams")
    say(f"    entitlements {sum(summary['entitlements'].values())}   grants {grants}")
    say(f"    dangling     {summary['dangling_grants']}")
    for account in summary["accounts"]:
        say(f"    user         {account['name']} <{account['email']}>")
    for team in summary["teams"]:
        say(f"    team         {team['name']}{': ' if team['description'] else ''}{team['description']}")
    for membership in summary["memberships"]:
        say(f"    grant        {membership['account']} is {membership['role']} of {membership['team']}")


def day(time: datetime | None) -> str:
    return "never" if time is None else f"{time:%Y-%m-%d}"


def example(name: str) -> Manifest:
    document: Manifest = yaml.safe_load((EXAMPLES / name).read_text())
    return document


_steps = iter(range(1, 100))


def step(title: str) -> None:
    say(f"\n{next(_steps)}. {title}")


def say(line: str) -> None:
    print(line, flush=True)


def sentence(error: BaseException) -> str:
    """What went wrong; the first of several."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ApiException):  # whose text has the answer's headers
        return f"the API server answered {error.status} {error.reason}"
    ours = isinstance(error, AssertionError | ControlPlaneError | KubectlError)
    return str(error) if ours else f"{type(error).__name__}: {error}"


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def run() -> None:
    """Tell the story. However it ends, the servers end too, and the last line is a sentence."""
    try:
        main()
    except (asyncio.CancelledError, KeyboardInterrupt):
        sys.exit("\nStopped; the servers are stopped too.")
    except BrokenPipeError:  # as of `make demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit("\nStopped, as nobody reads on; the servers are stopped too.")
    except Exception as error:
        sys.exit(f"\nThe demo failed: {sentence(error)}")
