"""Writes the figures in docs/sizing.md from what the benches measured; `--check` tells whether they are current."""

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "sizing.md"
BEGIN, END = "<!-- figures: from the benchmarks, by tools/figures.py -->\n", "<!-- end of figures -->\n"
MB = 1e6
OURS = 40
"""Requests of a sync in each minute: 80 % of the 50 that Buildkite allows a user by default."""


def rows(page: str) -> dict[str, list[str]]:
    """The rows of a page's tables by their first cell; of two with the same one, the first."""
    found: dict[str, list[str]] = {}
    for line in page.splitlines():
        if line.startswith("| "):
            first, *others = (cell.strip() for cell in line.strip("|").split("|"))
            found.setdefault(first, others)
    return found


def of_syncs(measured: dict[str, list[str]]) -> str:
    """A sync by itself, from docs/benchmarks.md: Buildkite answers each request after 20 ms, without a rate limit."""
    table = [
        "| organization | requests | time without a limit | minutes with the default limit | memory | snapshot |",
        "|---|---|---|---|---|---|",
    ]
    for case, size in (
        ("1k-20ms", "1,000 accounts, 50 teams"),
        ("10k-20ms", "10,000 accounts, 500 teams"),
        ("100k-20ms", "100,000 accounts, 2,000 teams"),
    ):
        requests, _, wall, _, _, peak, _, snapshot, _ = measured[case]
        number = requests.partition(" ")[0]
        minutes = math.ceil(int(number.replace(",", "")) / OURS) - 1  # the first minute's requests go at once
        table.append(f"| {size} | {number} | {wall} | {minutes} | {peak} | {snapshot} |")
    return "\n".join(table) + "\n"


def of_a_fleet(fleet: dict[str, Any]) -> str:
    """Many connectors in one operator, from docs/benchmarks-fleet.json."""
    number, idle, busy = f"{fleet['connectors']:,}", fleet["idle"], fleet["busy"]
    quiet, loaded = fleet["reactions"], busy["reactions"]
    renewals = idle["requests"]["patch leases"] / idle["seconds"]
    lines = {
        f"memory, {number} idle connectors": f"{idle['memory'] / MB:.0f} MB",
        f"memory while {busy['syncs']} of them sync, after a restart": f"{busy['peak'] / MB:.0f} MB",
        "CPU, idle": f"{idle['cpu'] / idle['seconds'] * 100:.1f} % of a core, with a scrape every 30 s",
        "start, until all are Ready": f"{fleet['start']['all_ready']:.0f} s",
        "restart, until all have a session with C1": f"{fleet['restart']['all_greeted']:.0f} s",
        "an annotation acts after": f"{quiet['annotation']['longest']:.2f} s; {loaded['annotation']['longest']:.2f} s "
        f"while {busy['syncs']} connectors sync",
        "an edit acts after": f"{quiet['edit']['longest']:.2f} s; {loaded['edit']['longest']:.2f} s "
        f"while {busy['syncs']} connectors sync",
        "reads of Secrets, idle": f"at most {idle['secret_reads_busiest_second']} per second",
        "writes to the API server, idle": f"renewals of the Lease, {renewals:.1f} per second",
    }
    return "\n".join(
        [f"| {number} connectors | measured |", "|---|---|", *(f"| {k} | {v} |" for k, v in lines.items())]
    )


def figures(folder: Path) -> str:
    """What stands between the marks of the page."""
    beside = (folder / "benchmarks-tenants.md").read_text()
    sync, changes, tenants = (
        rows(page)
        for page in ((folder / "benchmarks.md").read_text(), (folder / "benchmarks-changes.md").read_text(), beside)
    )
    [memory] = re.findall(r"and (\d+ MB) at most", beside)
    fleet = json.loads((folder / "benchmarks-fleet.json").read_text())
    usual, longest, noisy = changes["95%"][0], changes["100%"][0], tenants["beside the others"][1]
    return f"""
{of_a_fleet(fleet)}

One sync, if Buildkite answers each request after 20 ms: alone, and with Buildkite's default limit of 50 requests per
minute, of which a sync takes 80 % (`sync.quotaPercent`):

{of_syncs(sync)}
- A grant or revoke is answered, while a sync waits for Buildkite's rate limit, after {usual} at the 95th percentile,
  {longest} at most.
- A requested sync beside a namespace of 100 misbehaving connectors begins after {noisy} at most. Each
  of these has 200 kB of annotations; the operator uses {memory} at most.

"""


def main() -> None:
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    current = before + BEGIN + figures(DOCS) + END + rest.split(END)[1]
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(current)
    elif current != page:
        sys.exit("docs/sizing.md differs from the benchmarks: run .venv/bin/python tools/figures.py")


if __name__ == "__main__":
    main()
