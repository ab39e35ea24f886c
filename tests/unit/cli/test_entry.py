"""SIGTERM ends `buildkite-connector operator` with exit code 0 from its first moment on, while Python loads too.

No sleep says when to send it: the kernel's list of handled signals, Python's report of each import and the operator's
own log do.
"""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from buildkite_connector.cli.entry import is_server
from harness.definition import definition
from harness.forked_command import Running, fork_command, start_command
from harness.pruned_client import prune, site_with_client
from simulators.kubernetes.server import KubernetesSimulator

COMMAND = str(Path(sys.executable).parent / "buildkite-connector")
DEADLINE = 30.0
OWN = ("buildkite", "c1", "c1z", "kubernetes", "service")
ADAPTERS = {
    *(f"buildkite_connector.{each}" for each in OWN),
    "aiohttp",
    "grpc",
    "httpx",
    "kopf",
    "opentelemetry",
    "rich",
}
"""What takes long to import: our adapters and their libraries."""


pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")


@pytest.fixture
async def kubeconfig(tmp_path: Path) -> AsyncIterator[Path]:
    """Of an API server that knows the definition."""
    async with KubernetesSimulator() as simulator:
        simulator.apply(definition())
        yield simulator.write_kubeconfig(tmp_path / "kubeconfig")


@pytest.fixture
async def nowhere(tmp_path: Path) -> Path:
    """A kubeconfig of an API server where nobody listens."""
    async with KubernetesSimulator() as simulator:
        return simulator.write_kubeconfig(tmp_path / "kubeconfig")


@asynccontextmanager
async def started(
    *arguments: str,
    kubeconfig: Path,
    imports: bool = False,
    site: Path | None = None,
    forks: bool = False,
    address: str = "127.0.0.1:0",
    before: Sequence[str] = (),
) -> AsyncIterator[Running]:
    """`imports`: it reports each on standard error. `site`: its packages go before the others.

    `forks`: for what happens when all is imported. `before`: words before the command, of a program that runs it.
    """
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(kubeconfig.parent),
        "KUBECONFIG": str(kubeconfig),
        "BUILDKITE_CONNECTOR_HTTP_ADDRESS": address,
        "BUILDKITE_CONNECTOR_DATA_DIR": str(kubeconfig.parent / "data"),
        **({"PYTHONPROFILEIMPORTTIME": "1"} if imports else {}),
        **({"PYTHONPATH": str(site)} if site else {}),
    }
    begin = fork_command if forks else start_command
    process = await begin((*before, COMMAND, *arguments), environment, errors=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def handles_sigterm(process: Running) -> bool:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "SigCgt":
            return bool(int(value, 16) & 1 << signal.SIGTERM - 1)
    raise AssertionError("the kernel does not say which signals are handled")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not holds():  # noqa: ASYNC110 - the kernel gives no event
            await asyncio.sleep(0)


async def read_until(text: str, process: Running) -> list[str]:
    """The lines of standard error up to the one with `text`."""
    assert process.stderr is not None
    read: list[str] = []
    async with asyncio.timeout(DEADLINE):
        while line := await process.stderr.readline():
            read.append(line.decode())
            if text in read[-1]:
                return read
    raise AssertionError(f"it ended before it said {text!r}")


def imported(lines: Iterable[str]) -> set[str]:
    """The modules of Python's report."""
    return {line.rpartition("|")[2].strip() for line in lines}


async def terminate(process: Running) -> tuple[int, str]:
    """SIGTERM; gives the exit code and the rest of standard error."""
    assert process.stderr is not None
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(DEADLINE):
        rest = await process.stderr.read()
        return await process.wait(), rest.decode()


async def test_as_soon_as_the_handler_is_there_it_ends_the_operator_in_silence(nowhere: Path) -> None:
    async with started("operator", kubeconfig=nowhere) as process:
        await until(lambda: handles_sigterm(process))
        assert await terminate(process) == (0, "")


async def test_it_ends_with_0_while_it_imports(nowhere: Path) -> None:
    async with started("operator", kubeconfig=nowhere, imports=True) as process:
        await read_until(" asyncio.events\n", process)
        code, rest = await terminate(process)
        assert code == 0
        assert "Traceback" not in rest


async def test_no_import_takes_the_handler_away_or_is_of_what_the_image_leaves_out(
    nowhere: Path, tmp_path: Path
) -> None:
    site = site_with_client(tmp_path / "site")
    assert prune(site).returncode == 0
    lines = []
    async with started("operator", kubeconfig=nowhere, imports=True, site=site) as process:
        for marker in ("typer", "buildkite_connector.cli.app", "grpc", "kopf", "buildkite_connector.cli.run_operator"):
            lines += await read_until(f" {marker}\n", process)
            assert handles_sigterm(process), marker
        code, rest = await terminate(process)
        assert code == 0
        assert "Traceback" not in rest
    inner = {name for name in imported(lines) if name.startswith("kubernetes.") and name.count(".") > 1}
    assert {name.split(".")[1] for name in inner} == {"aio"}, "kopf asks for kubernetes.client and goes on without it"


async def test_it_ends_with_0_while_there_is_no_api_server(nowhere: Path) -> None:
    async with started("operator", kubeconfig=nowhere, forks=True) as process:
        await read_until("The Kubernetes API did not let the operator list resources", process)
        assert (await terminate(process))[0] == 0


async def test_it_ends_with_0_once_it_is_ready_and_serves_nothing_at_an_empty_address(kubeconfig: Path) -> None:
    async with started("operator", kubeconfig=kubeconfig, forks=True, address="") as process:
        lines = await read_until("the operator is ready", process)
        assert not [line for line in lines if "health and metrics" in line]
        assert (await terminate(process))[0] == 0


async def test_the_process_may_open_all_files_that_the_machine_allows_and_leaves_no_core_dump(nowhere: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fewer = ("sh", "-c", 'ulimit -Sn 64 && ulimit -Sc unlimited; exec "$0" "$@"')
    async with started("operator", kubeconfig=nowhere, imports=True, before=fewer) as process:
        await read_until(" typer\n", process)  # all limits are set before
        assert resource.prlimit(process.pid, resource.RLIMIT_CORE) == (0, 0)
        assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (hard, hard)


LOOK = """
import ctypes, os, pathlib
from buildkite_connector.cli.entry import keep_memory_private
if os.geteuid() == 0:  # root may read all
    os.setuid(65532)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
environment = pathlib.Path(f"/proc/{os.getpid()}/environ")
for keep in (lambda: None, keep_memory_private):
    keep()
    if os.fork() == 0:
        try:
            environment.read_bytes()
            print("read", flush=True)
        except PermissionError:
            print("refused", flush=True)
        os._exit(0)
    os.wait()
"""


async def test_another_process_of_its_user_does_not_read_its_environment() -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", LOOK, stdout=asyncio.subprocess.PIPE)
    out, _ = await child.communicate()
    assert out.split() == [b"read", b"refused"]


async def test_another_command_is_ended_by_the_signal_and_has_waited_for_no_adapter_until_it_is_known(
    nowhere: Path,
) -> None:
    """Ended by the signal, because it did not do what it was asked to."""
    async with started("sync", kubeconfig=nowhere, imports=True) as process:
        lines = await read_until(" buildkite_connector.cli.app\n", process)
        assert (await terminate(process))[0] == -signal.SIGTERM
    assert imported(lines) & ADAPTERS == set()


@pytest.mark.parametrize(
    ("arguments", "client_id", "server"),
    [
        (["operator"], "", True),
        (["service", "--log-level", "debug"], "", True),
        (["sync"], "a@b/c", False),
        (["--log-level", "debug"], "a@b/c", True),
        ([], "a@b/c", True),
        (["--client-id", "a@b/c"], "", True),
        (["--client-id=a@b/c"], "", True),
        ([], "", False),
        (["--file", "x"], "", False),
    ],
)
def test_what_runs_until_a_signal_is_told_from_its_arguments(
    arguments: list[str], client_id: str, server: bool
) -> None:
    assert is_server(arguments, {"BATON_CLIENT_ID": client_id}) is server
