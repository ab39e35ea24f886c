"""A Buildkite and a C1 on loopback with one connector's settings for them, for a test to break."""

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console

from buildkite_connector.c1 import C1Settings
from buildkite_connector.cli.check import CheckSettings, run_checks
from buildkite_connector.cli.findings import (
    Finding,
    State,
    exit_code_of,
    print_finding,
    print_summary,
    to_document,
)
from buildkite_connector.timing.clock import SystemClock
from harness.trust import NOBODY
from simulators.buildkite.api import Token
from simulators.buildkite.certificate import Certificate
from simulators.buildkite.made_organization import make_organization
from simulators.buildkite.server import BuildkiteSimulator, Config
from simulators.c1.server import C1Simulator
from simulators.c1.token import Client

API_TOKEN = "bkua_" + "5ec4e7" * 6 + "abcd"
HOST_ID = "a-host"


class OffClock(SystemClock):
    """The machine's clock, so many seconds off."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.off = timedelta(seconds=seconds)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.off


@dataclass
class Checked:
    """What a check found, and what it would print."""

    findings: list[Finding]
    text: str

    @property
    def exit_code(self) -> int:
        return exit_code_of(self.findings)

    @property
    def first_failed(self) -> Finding:
        return next(finding for finding in self.findings if finding.state is State.FAILED)

    @property
    def first_not_ok(self) -> Finding:
        return next(finding for finding in self.findings if finding.state is not State.OK)

    def named(self, name: str) -> Finding:
        return next(finding for finding in self.findings if finding.name == name)


@dataclass
class Setup:
    """`settings` are right until a test changes them."""

    buildkite: BuildkiteSimulator
    c1: C1Simulator
    client: Client
    settings: CheckSettings
    clock: OffClock
    directory: Path

    def change(self, **changes: object) -> None:
        self.settings = replace(self.settings, **changes)  # type: ignore[arg-type]

    def change_c1(self, **changes: object) -> None:
        self.change(c1=replace(self.settings.c1, **changes))  # type: ignore[arg-type]

    def set_variables(self, **environment: str) -> None:
        self.change(environment={**self.settings.environment, **environment})

    async def check(self) -> Checked:
        """Run it and print it; its JSON is part of the text."""
        heard: list[Finding] = []
        findings = await run_checks(self.settings, heard.append, self.clock)
        assert heard == findings
        console = Console(file=io.StringIO(), width=120)
        with console.capture() as capture:
            for finding in findings:
                print_finding(finding, console)
            print_summary(findings, console)
        return Checked(findings, capture.get() + json.dumps(to_document(findings)))


@asynccontextmanager
async def setup(directory: Path) -> AsyncIterator[Setup]:
    """One CA file is trusted for both."""
    organization = make_organization(30, 3, 40, slug="acme-inc")
    config = Config((organization,), (Token(API_TOKEN),), tls=Certificate.VALID)
    async with BuildkiteSimulator(config) as buildkite, C1Simulator() as c1:
        assert buildkite.authority is not None
        ca_file = directory / "ca.pem"
        ca_file.write_bytes(buildkite.authority.pem + c1.ca_file.read_bytes())
        client = c1.register_client()
        settings = CheckSettings(
            api_url=buildkite.url,
            api_token=API_TOKEN,
            organization="acme-inc",
            client_id=client.client_id,
            client_secret=client.client_secret,
            host_id=HOST_ID,
            hosts_listed=True,
            c1=C1Settings(allowed_hosts=c1.address, call_timeout=5.0),
            environment={"SSL_CERT_FILE": str(ca_file), "SSL_CERT_DIR": str(NOBODY.parent)},
        )
        yield Setup(buildkite, c1, client, settings, OffClock(), directory)
