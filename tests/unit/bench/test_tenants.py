"""The bench of two namespaces: its verdict, and the page that it writes."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.machine import Machine
from bench.tenants import Tenants, Waits, write_page


def measured(longest: float) -> Tenants:
    beside = Waits((0.1, longest, 0.2), ready=3.0)
    reasons = [("Ready", 1), ("TokenRejected", 33)]
    return Tenants(100, Waits((0.05,), 0.5), beside, reasons, core=0.31, peak=193_000_000, others=1.18)


@pytest.mark.parametrize(("longest", "kept"), [(2.0, True), (2.01, False)])
def test_the_longest_wait_of_the_calm_namespace_decides(longest: float, kept: bool) -> None:
    [verdict] = measured(longest).verdicts()
    assert verdict.kept is kept
    assert verdict.measured == f"{longest:.2f} s at most in 3 tries (0.20 s in the middle)"


def test_the_page_tells_what_was_measured(tmp_path: Path) -> None:
    write_page(tmp_path, measured(1.5), Machine.this(), datetime(2026, 11, 30, tzinfo=UTC))
    page = (tmp_path / "benchmarks-tenants.md").read_text()
    assert "| beside the others | 0.20 s | 1.50 s | 3.00 s |" in page
    assert "1 Ready, 33 TokenRejected" in page
    assert "0.31 of a core meanwhile, and 193 MB at most" in page
