"""What a person with kubectl does and sees: crds/ and examples/ applied to a real API server."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from buildkite_connector.kubernetes.schema import SYNC_REQUESTED_AT
from harness.cluster import Cluster
from harness.helm_release import Release
from harness.kubernetes_apis import Manifest, real_api
from harness.rig import PATIENCE, Rig, condition
from scenarios.c1_side import DELIVERED_WITHIN, INGESTED_WITHIN, MANAGER, Listed, is_in_c1, seconds_between
from scenarios.fixtures import watched_rig
from scenarios.tenant import Tenant

ROOT = Path(__file__).parents[2]
NAMESPACE = "default"
COLUMNS = ["NAME", "ORGANIZATION", "READY", "STATUS", "ACCOUNTS", "TEAMS", "LAST SYNC", "AGE"]
WIDE = ["NEXT SYNC", "DELIVERED", "C1", "MESSAGE"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

Kubectl = Callable[..., str]


@pytest.fixture(scope="module")
def applied(control_plane: Cluster) -> str:
    """What `kubectl apply` says of crds/ and examples/."""
    return control_plane.kubectl("apply", "--filename", str(ROOT / "crds"), "--filename", str(ROOT / "examples")).stdout


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(release: Release, applied: str) -> AsyncIterator[Rig]:
    """With the operator running, and credentials in the examples' Secret that are good at the simulators."""
    async with (
        real_api(release.cluster, release.kubeconfig) as kubernetes,
        watched_rig(kubernetes, NAMESPACE) as opened,
    ):
        await opened.apply(opened.secret("buildkite-credentials", BATON_ORGANIZATION="acme-inc"))
        async with opened.operator():
            await opened.until_condition("Ready", "True")
            await opened.c1.finished(opened.c1.add_task())
            await opened.until_condition("Delivered", "True")
            yield opened
        for name in ("acme", "acme-access", "acme-full"):
            await kubernetes.delete(NAMESPACE, name)


@pytest.fixture
def kubectl(control_plane: Cluster, rig: Rig) -> Kubectl:
    return lambda *arguments: control_plane.kubectl("--namespace", NAMESPACE, *arguments).stdout


def cells(table: str) -> list[list[str]]:
    """A table's lines, by columns."""
    heading, *lines = table.splitlines()
    starts = [match.start() for match in re.finditer(r"(?:^|(?<=   ))\S", heading)]
    ends = [*starts[1:], None]
    return [[line[start:end].strip() for start, end in zip(starts, ends, strict=True)] for line in (heading, *lines)]


async def test_the_definition_and_the_examples_are_accepted(applied: str) -> None:
    assert re.findall(r"^\S+/(\S+) (?:created|configured|unchanged)$", applied, re.MULTILINE) == [
        "buildkiteconnectors.connectors.c1.ai",
        "acme-access",
        "acme-full",
        "acme-portal",
        "acme",
        "buildkite-credentials",
    ]


async def test_wait_sees_the_connector_become_ready(kubectl: Kubectl) -> None:
    told = await asyncio.to_thread(kubectl, "wait", "--for=condition=Ready", "--timeout=30s", "bkc/acme")
    assert told == "buildkiteconnector.connectors.c1.ai/acme condition met\n"


@pytest.mark.parametrize(("output", "columns"), [((), COLUMNS), (("-o", "wide"), COLUMNS + WIDE)])
async def test_get_fills_every_column(kubectl: Kubectl, rig: Rig, output: tuple[str, ...], columns: list[str]) -> None:
    heading, row = cells(await asyncio.to_thread(kubectl, "get", "bkc", "acme", *output))
    assert heading == columns
    shown = dict(zip(heading, row, strict=True))
    empty = [name for name, text in shown.items() if text in {"", "<none>", "<unknown>", "<invalid>"}]
    assert empty == [name for name in columns if name == "C1"], "all but what spec.c1 is for"
    assert [shown[name] for name in COLUMNS[:6]] == ["acme", "acme-inc", "True", "Ready", "230", "9"]
    assert re.fullmatch(r"\d+[smh]\d*[smh]?", shown["LAST SYNC"])
    if output:
        status = (await rig.kubernetes.get(NAMESPACE, "acme"))["status"]
        assert [shown[name] for name in WIDE] == [
            status["nextSyncTime"],
            "True",
            "",
            condition({"status": status}, "Ready")["message"],
        ]


async def test_get_shows_a_suspended_connector_as_such(kubectl: Kubectl, rig: Rig) -> None:
    for name in ("acme-access", "acme-full", "acme-portal"):
        await rig.until_condition("Ready", "False", "Suspended", name=name)
    _, *rows = cells(await asyncio.to_thread(kubectl, "get", "connectors"))
    assert [(row[0], row[2], row[3]) for row in rows] == [
        ("acme", "True", "Ready"),
        ("acme-access", "False", "Suspended"),
        ("acme-full", "False", "Suspended"),
        ("acme-portal", "False", "Suspended"),
    ]


async def test_describe_shows_conditions_and_events(kubectl: Kubectl) -> None:
    status, _, events = (await asyncio.to_thread(kubectl, "describe", "bkc", "acme")).partition("\nEvents:")
    for kind in ("Ready", "CredentialsValid", "Synced", "Delivered"):
        assert re.search(rf"\n    Type: +{kind}\n", status), status
    for reason in ("Ready", "Delivered"):
        assert re.search(rf"\n  Normal +{reason} ", events), events


async def test_annotate_starts_a_sync_within_two_seconds_and_is_echoed(kubectl: Kubectl, rig: Rig) -> None:
    before = (await rig.kubernetes.get(NAMESPACE, "acme"))["status"]["lastSync"]["id"]
    await asyncio.to_thread(kubectl, "annotate", "bkc", "acme", f"{SYNC_REQUESTED_AT}=a person's request")

    def echoed(connector: Manifest) -> bool:
        return bool(connector["status"].get("lastHandledSyncRequest") == "a person's request")

    await rig.until(echoed, timeout=2)
    after = await rig.until(lambda found: found["status"]["lastSync"]["id"] != before)
    assert after["status"]["lastSync"]["trigger"] == "Request"
    assert condition(after, "Ready")["status"] == "True"


async def test_a_wide_watch_shows_c1_running_then_done_after_an_annotation(
    kubectl: Kubectl, rig: Rig, control_plane: Cluster
) -> None:
    rig.c1.policy.ingest_seconds = INGESTED_WITHIN
    listed = Listed(Tenant(rig, "listed"), MANAGER)
    try:
        await listed.become_ready()
        await listed.tenant.until(is_in_c1)
        async with watching(control_plane, "--namespace", NAMESPACE, "get", "bkc", "listed", "-o", "wide") as lines:
            shown = [await column(lines, "C1")]
            before = (await listed.tenant.get())["status"]["lastSync"]["id"]
            await asyncio.to_thread(kubectl, "annotate", "bkc", "listed", f"{SYNC_REQUESTED_AT}=now")
            while shown != ["DONE", "RUNNING", "DONE"]:
                if (state := await column(lines, "C1")) != shown[-1]:
                    shown.append(state)
        status = (await listed.tenant.until(lambda status: status["lastSync"]["id"] != before))["status"]
        assert seconds_between(status["lastSync"]["finishedAt"], status["lastDelivery"]["time"]) <= DELIVERED_WITHIN
    finally:
        await listed.tenant.delete()


@asynccontextmanager
async def watching(cluster: Cluster, *arguments: str) -> AsyncIterator[AsyncIterator[str]]:
    """The rows that kubectl prints, as they come."""
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    process = await asyncio.create_subprocess_exec(
        cluster.kubectl_program, *arguments, "--watch", stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    heading = await process.stdout.readline()
    assert [*COLUMNS, *WIDE] == re.split(r" {2,}", heading.decode().strip())
    try:
        yield (line.decode().strip() async for line in process.stdout)
    finally:
        process.terminate()
        await process.communicate()


async def column(rows: AsyncIterator[str], name: str) -> str:
    """The cell of the next row. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        return re.split(r" {2,}", await anext(rows))[[*COLUMNS, *WIDE].index(name)]
