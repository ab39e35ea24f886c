"""The workflows: pinned actions, and no permission by default."""

import re
from pathlib import Path

from harness.yaml_text import parsed

ROOT = Path(__file__).parents[3]
WORKFLOWS = [path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yaml")]
USED = [use for text in WORKFLOWS for use in re.findall(r"uses: (.+)", text)]


def test_each_action_is_pinned_by_commit_with_its_tag_behind_it() -> None:
    assert len(USED) > 10
    assert [each for each in USED if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)] == []


def test_an_action_has_one_pin() -> None:
    assert len(set(USED)) == len({each.partition("@")[0] for each in USED})


def test_no_job_has_a_permission_by_default() -> None:
    for workflow in map(parsed, WORKFLOWS):
        assert workflow["permissions"] == {}
        assert all("permissions" in job for job in workflow["jobs"].values())


def test_a_step_fails_with_any_command_of_a_pipe() -> None:
    """`bash` is bash -eo pipefail; the default is without the last."""
    assert [parsed(text)["defaults"] for text in WORKFLOWS] == [{"run": {"shell": "bash"}}] * len(WORKFLOWS)
