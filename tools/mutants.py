"""A mutation run: plants faults one by one in what decides, and counts what the unit tests notice.

`make mutants` runs it, a group of modules after the other. `make mutants ONLY=store` takes one group,
`ONLY='*decisions*'` the modules, functions or mutants of these names, and PROCESSES=1 leaves the other cores alone.
mutmut knows the folders `src` and `tests` only, so each group has a folder of its own, `mutants/<group>/`, with a copy
of the package and of the tests that matter. Results stay there: a second run takes up where the first was stopped, and
tests only what changed or was not noticed. Go there and call `mutmut show`.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "operator" / "buildkite_connector"


@dataclass(frozen=True)
class Group:
    """`modules` of the package are mutated, and `tests`, of tests/unit, judge."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


GROUPS = {
    "store": Group(
        ("c1z/store.py",),
        ("c1z/test_scratch_directory.py", "c1z/test_snapshot_store.py", "c1z/test_snapshot_store_files.py"),
    ),
    "election": Group(
        ("kubernetes/election.py", "kubernetes/lease.py"),
        (
            "kubernetes/test_election.py",
            "kubernetes/test_election_lives.py",
            "kubernetes/test_election_log.py",
            "kubernetes/test_fence.py",
            "kubernetes/test_lease.py",
        ),
    ),
    "relist": Group(
        ("kubernetes/informer.py", "kubernetes/controller.py"),
        (
            "kubernetes/test_c1_access.py",
            "kubernetes/test_controller.py",
            "kubernetes/test_controller_log.py",
            "kubernetes/test_creation_controlled.py",
            "kubernetes/test_informer.py",
            "kubernetes/test_portal_secret.py",
        ),
    ),
    "rate_limit": Group(
        ("buildkite/pagination.py", "buildkite/rate_limit.py"),
        (
            "buildkite/test_buildkite_pagination.py",
            "buildkite/test_buildkite_slots.py",
            "buildkite/test_portal_slots.py",
            "buildkite/test_rate_limit.py",
            "buildkite/test_rate_limit_windows.py",
        ),
    ),
    "token": Group(
        ("c1/token.py",),
        (
            "c1/test_c1_assertion.py",
            "c1/test_c1_token.py",
            "c1/test_c1_token_answers.py",
            "c1/test_c1_token_endpoint.py",
        ),
    ),
    "sync": Group(("sync/*.py",), ("sync",)),
    "buildkite": Group(
        ("buildkite/__init__.py", "buildkite/client.py"),
        (
            "buildkite/test_buildkite_access.py",
            "buildkite/test_buildkite_client.py",
            "buildkite/test_buildkite_slots.py",
            "buildkite/test_memberships.py",
        ),
    ),
    "core": Group(("connector/*.py", "tasks/*.py"), ("connector", "tasks", "timing")),
}
"""The core comes last: it takes longest."""
EXAMPLES = "0.15"
"""The share of the property tests' examples; the random lives are the last to run."""
NOTICED = ("killed", "timeout", "caught by type check", "suspicious", "segfault")
NOT_TESTED = "not checked"
UNNOTICED = (0, 33)
"""mutmut's exit codes of a mutant that survived, and of one that no test runs."""
CONFIG = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = {only}
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "no:xdist"]
also_copy = ["tests"]
timeout_multiplier = 25.0
timeout_constant = 2.0
track_dependencies = false
use_git_change_detection = false
process_isolation = "forkserver"
"""

FASTEST_FIRST = '''"""Whatever notices a fault soonest runs first; the durations are of this run's first pass.

A test that takes far longer than without the fault waits for what does not come: it has noticed it. A random life that
notices it is not made shorter: that takes minutes, and nobody reads it.
"""

import gc
import json
import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

PATIENT = [HealthCheck.too_slow]
PHASES = [Phase.explicit, Phase.generate]
settings.register_profile("mutants", deadline=None, suppress_health_check=PATIENT, phases=PHASES)
settings.load_profile("mutants")
TIMEOUT = 36  # mutmut's exit code
SECONDS = {}


def pytest_configure():
    gc.freeze()  # what all mutants share is not looked through for garbage at the end of each


def pytest_collection_modifyitems(items):
    try:
        SECONDS.update(json.loads(Path("mutmut-stats.json").read_text())["duration_by_test"])
    except (OSError, ValueError, KeyError):
        return
    items.sort(key=lambda item: SECONDS.get(item.nodeid, 0.0))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    signal.signal(signal.SIGALRM, lambda *_: os._exit(TIMEOUT))
    signal.alarm(round(3 + 5 * SECONDS[item.nodeid]) if item.nodeid in SECONDS else 0)
    try:
        return (yield)
    finally:
        signal.alarm(0)
'''


def main(patterns: Sequence[str]) -> int:
    chosen = {name: asked for name in GROUPS if (asked := _asked_of(name, patterns)) is not None}
    if not chosen:
        print(f"No group or module is named like that. The groups: {', '.join(GROUPS)}")
        return 2
    code, results = 0, ""
    for name, asked in chosen.items():
        print(f"\n{name}")
        stage = ROOT / "mutants" / name
        _stage(stage, GROUPS[name])
        _forget_unnoticed(stage)
        processes = os.environ.get("PROCESSES") or str(os.cpu_count() or 2)
        code = max(code, _call(stage, ["run", "--max-children", processes, *asked], None).returncode)
        results += _call(stage, ["results", "--all", "true"], subprocess.PIPE).stdout
    _summarize(results)
    return code


def _asked_of(name: str, patterns: Sequence[str]) -> list[str] | None:
    """What of a group the patterns name: [] for all of it, None for nothing."""
    if not patterns or name in patterns:
        return []
    modules = [f"buildkite_connector.{'.'.join(path.with_suffix('').parts)}" for path in _modules(GROUPS[name])]
    return [each for each in patterns if any(_names(each, module) for module in modules)] or None


def _names(pattern: str, module: str) -> bool:
    """Whether the pattern is one of modules, or the name of a function or mutant of this one."""
    return fnmatchcase(module, pattern) or pattern.startswith(f"{module}.")


def _modules(group: Group) -> Iterator[Path]:
    return (path.relative_to(SOURCE) for pattern in group.modules for path in sorted(SOURCE.glob(pattern)))


def _call(stage: Path, arguments: list[str], output: int | None) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "mutmut"), *arguments]
    environment = {**os.environ, "EXAMPLES": EXAMPLES}
    return subprocess.run(command, cwd=stage, env=environment, stdout=output, text=True, check=False)  # noqa: S603


def _stage(stage: Path, group: Group) -> None:
    """Copy what changed; a file that is the same keeps its time, so that its mutants keep their results."""
    _copy(SOURCE, stage / "src" / "buildkite_connector")
    for folder in ("contracts", "data", "fakes", "harness", "simulators", "unit"):
        _copy(ROOT / "tests" / folder, stage / "tests" / folder)
    (stage / "tests" / "conftest.py").write_text(FASTEST_FIRST)
    text = (ROOT / "pyproject.toml").read_text()
    pytest = text[text.index("[tool.pytest.ini_options]") :].split("\n\n")[0]
    only = json.dumps([f"src/buildkite_connector/{path}" for path in _modules(group)])
    tests = json.dumps([f"tests/unit/{each}" for each in group.tests])
    config = CONFIG.format(only=only, tests=tests)
    (stage / "pyproject.toml").write_text(pytest + "\n" + config)


def _forget_unnoticed(stage: Path) -> None:
    """What no test noticed is tested again: the tests may be others now."""
    for path in (stage / "mutants").rglob("*.meta"):
        meta = json.loads(path.read_text())
        codes = meta["exit_code_by_key"]
        meta["exit_code_by_key"] = {name: None if code in UNNOTICED else code for name, code in codes.items()}
        path.write_text(json.dumps(meta))


def _copy(source: Path, target: Path) -> None:
    if target.exists():
        for old in [each for each in target.rglob("*.py") if not (source / each.relative_to(target)).exists()]:
            old.unlink()
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))


def _summarize(results: str) -> None:
    """`results` has a line `<module>.<function>__mutmut_<n>: <status>` for each mutant."""
    found = [line.strip().rsplit(": ", 1) for line in results.splitlines() if "__mutmut_" in line]
    counts: dict[str, Counter[str]] = {}
    print("\nNot noticed:")
    for name, status in found:
        module = name.partition(".x")[0].removeprefix("buildkite_connector.").replace(".", "/")
        for row in (module, "all"):
            counts.setdefault(row, Counter())[status] += 1
        if status not in {*NOTICED, NOT_TESTED}:
            print(f"  {name} ({status})")
    print("\n| module | mutants | noticed | |\n|---|---|---|---|")
    for row in sorted(counts, key=lambda each: (each == "all", each)):
        noticed = sum(counts[row][status] for status in NOTICED)
        tested = counts[row].total() - counts[row][NOT_TESTED]
        share = f"{100 * noticed / tested:.1f} %" if tested else "-"
        print(f"| `{row}` | {tested:,} | {noticed:,} | {share} |")
    if left := counts["all"][NOT_TESTED]:
        print(f"\n{left:,} were not tested: the same command goes on with them.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
