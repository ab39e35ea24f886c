"""What importing an adapter loads. What the command loads before it knows what it is asked to do: `test_entry`."""

import json
import os
import subprocess
import sys

UNWANTED = {
    "c1z": {"kopf", "kubernetes", "grpc", "httpx", "pydantic", "typer", "rich"},
    "buildkite": {"kopf", "grpc", "kubernetes", "aiohttp", "typer", "click", "rich", "pygments"},
    "c1": {"kopf", "kubernetes", "typer"},
}
"""In the order of their import: what one loads is unwanted in none that comes later."""
PROGRAM = """
import importlib, json, os, sys
loaded = {}
for name in sys.argv[1:]:
    importlib.import_module(f"buildkite_connector.{name}")
    loaded[name] = list(sys.modules)
    if name == "buildkite" and os.fork() == 0:  # a sync that fails, as nobody listens
        from typer.testing import CliRunner
        from buildkite_connector.cli.app import app
        ended = CliRunner().invoke(app, ["sync", "--buildkite-api-url", "http://127.0.0.1:1", "--timeout", "1s"])
        os._exit("error: " not in ended.output or "grpc" in sys.modules)
loaded["sync"] = os.waitstatus_to_exitcode(os.wait()[1])
print(json.dumps(loaded))
"""


def test_an_adapter_loads_no_other_adapter_s_library_and_no_terminal_and_a_sync_no_grpc() -> None:
    """gRPC takes 20 MB, a fifth of what a sync of 10,000 accounts may take."""
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", PROGRAM, *UNWANTED],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "BATON_API_TOKEN": "bkua_0123456789"},
    )
    assert done.stderr == ""
    loaded = json.loads(done.stdout)
    assert loaded.pop("sync") == 0, "the sync did not end with its sentence, or it loaded gRPC"
    assert {name: set(loaded[name]) & unwanted for name, unwanted in UNWANTED.items()} == {
        name: set() for name in UNWANTED
    }
