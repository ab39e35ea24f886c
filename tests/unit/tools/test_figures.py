"""The figures of docs/sizing.md are those that the benches measured."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

import figures


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A copy of what the benches wrote."""
    for path in figures.DOCS.glob("benchmarks*"):
        shutil.copyfile(path, tmp_path / path.name)
    return tmp_path


def test_a_row_is_found_by_its_first_cell_and_the_first_of_two_counts() -> None:
    page = "| Case | Wall |\n| --- | --- |\n| 1k | 0.7 s |\n\n| Case | Took |\n| 1k | 5 s |\n"
    assert figures.rows(page)["1k"] == ["0.7 s"]


def test_what_a_bench_measures_anew_is_what_the_page_says(docs: Path) -> None:
    fleet = json.loads((docs / "benchmarks-fleet.json").read_text())
    fleet["idle"]["memory"] = 123_000_000
    (docs / "benchmarks-fleet.json").write_text(json.dumps(fleet))
    for name, old, new in (
        ("benchmarks.md", "| 100k-20ms | 5,969 (5,967) |", "| 100k-20ms | 5,000 (4,998) |"),
        ("benchmarks-changes.md", "| 95% | ", "| 95% | 9.87 s | "),
        ("benchmarks-tenants.md", "| beside the others | ", "| beside the others | 0 s | 6.54 s | "),
    ):
        page = (docs / name).read_text()
        assert page.count(old) == 1
        (docs / name).write_text(page.replace(old, new))
    made = figures.figures(docs)
    assert "| memory, 1,000 idle connectors | 123 MB |" in made
    assert "| 100,000 accounts, 2,000 teams | 5,000 |" in made
    assert "9.87 s at the 95th percentile" in made
    assert "begins after 6.54 s at most" in made


def test_the_rule_for_the_memory_limit_leaves_room_for_what_was_measured() -> None:
    text = (figures.DOCS / "sizing.md").read_text()
    [(base, each)] = re.findall(r"to (\d+) MB, and (\d+) MB for every 1,000 accounts", text)
    fleet = json.loads((figures.DOCS / "benchmarks-fleet.json").read_text())
    peak = figures.rows((figures.DOCS / "benchmarks.md").read_text())["100k-20ms"][5]
    assert max(fleet["idle"]["memory"], fleet["busy"]["peak"]) / figures.MB < int(base)
    assert int(peak.removesuffix(" MB")) < int(base) + 100 * int(each)


def test_a_figure_changed_by_hand_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "sizing.md"
    monkeypatch.setattr(figures, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["figures.py", "--check"])
    page.write_text((figures.DOCS / "sizing.md").read_text())
    figures.main()
    page.write_text(page.read_text().replace(" MB |", " GB |", 1))
    with pytest.raises(SystemExit, match="differs from the benchmarks"):
        figures.main()
