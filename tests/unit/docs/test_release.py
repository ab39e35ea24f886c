"""The release workflow: pinned actions, no right by default, and edits of the chart that find what they edit."""

import re
from pathlib import Path
from typing import Any

from harness.yaml_text import parsed

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / ".github" / "workflows" / "release.yaml").read_text()
WORKFLOW: dict[str, Any] = parsed(TEXT)
VALUES = ROOT / "charts" / "buildkite-connector" / "values.yaml"


def test_each_action_is_pinned_by_commit_with_its_tag_behind_it() -> None:
    used = re.findall(r"uses: (.+)", TEXT)
    assert len(used) > 5
    assert [each for each in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)] == []


def test_an_action_has_one_pin() -> None:
    pins = set(re.findall(r"uses: (.+)", TEXT))
    assert len(pins) == len({each.partition("@")[0] for each in pins})


def test_no_job_has_a_right_by_default() -> None:
    assert WORKFLOW["permissions"] == {}
    assert all("permissions" in job for job in WORKFLOW["jobs"].values())


def test_the_edits_of_the_charts_values_find_their_lines() -> None:
    patterns = re.findall(r"s\|(\^  [^|]+\$)\|", TEXT.replace('\\"', '"'))
    assert len(patterns) == 3
    image = VALUES.read_text().split("\nimage:\n")[1]
    for pattern in patterns:
        assert len(re.findall(pattern, VALUES.read_text(), re.M)) == 1, pattern
        assert re.search(pattern, image, re.M), pattern
