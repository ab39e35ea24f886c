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
import importlib, json, sys
loaded = {}
for name in sys.argv[1:]:
    importlib.import_module(f"buildkite_connector.{name}")
    loaded[name] = list(sys.modules)
print(json.dumps(loaded))
"""


def test_an_adapter_loads_no_other_adapter_s_library_and_no_terminal() -> None:
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", PROGRAM, *UNWANTED], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    loaded = {name: set(modules) for name, modules in json.loads(done.stdout).items()}
    assert {name: loaded[name] & unwanted for name, unwanted in UNWANTED.items()} == {name: set() for name in UNWANTED}


def test_a_sync_loads_no_grpc() -> None:
    """It takes 20 MB, a fifth of what a sync of 10,000 accounts may take."""
    program = (
        "import sys; from typer.testing import CliRunner; from buildkite_connector.cli.app import app\n"
        "ended = CliRunner().invoke(app, ['sync', '--buildkite-api-url', 'http://127.0.0.1:1', '--timeout', '1s'])\n"
        "print(ended.exit_code, 'httpx' in sys.modules, 'grpc' in sys.modules)"
    )
    environment = {**os.environ, "BATON_API_TOKEN": "bkua_0123456789"}
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60, env=environment
    )
    assert done.stdout == "1 True False\n"
