"""The workflows: pinned actions, no permission by default, and edits of the chart that find what they edit."""

import re
from pathlib import Path

from harness.yaml_text import parsed

ROOT = Path(__file__).parents[3]
RELEASE = (ROOT / ".github" / "workflows" / "release.yaml").read_text()
WORKFLOWS = [path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yaml")]
USED = [use for text in WORKFLOWS for use in re.findall(r"uses: (.+)", text)]
VALUES = ROOT / "charts" / "buildkite-connector" / "values.yaml"


def test_each_action_is_pinned_by_commit_with_its_tag_behind_it() -> None:
    assert len(USED) > 10
    assert [each for each in USED if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)] == []


def test_an_action_has_one_pin() -> None:
    assert len(set(USED)) == len({each.partition("@")[0] for each in USED})


def test_no_job_has_a_permission_by_default() -> None:
    for workflow in map(parsed, WORKFLOWS):
        assert workflow["permissions"] == {}
        assert all("permissions" in job for job in workflow["jobs"].values())


def test_the_edits_of_the_charts_values_find_their_lines() -> None:
    patterns = re.findall(r"s\|(\^  [^|]+\$)\|", RELEASE.replace('\\"', '"'))
    assert len(patterns) == 3
    image = VALUES.read_text().split("\nimage:\n")[1]
    for pattern in patterns:
        assert len(re.findall(pattern, VALUES.read_text(), re.M)) == 1, pattern
        assert re.search(pattern, image, re.M), pattern
