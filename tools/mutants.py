"""A mutation run over the core: plants faults in connector/ and tasks/ one by one; counts what the unit tests notice.

`make mutants` runs it; `make mutants ONLY='*decisions*'` takes a part, and PROCESSES=1 leaves the other cores alone.
mutmut knows the folders `src` and `tests` only, so the run has a folder of its own, `mutants/`, with a copy of the
package and of the tests that matter. Results stay there: a second run takes up where the first was stopped, and tests
only what changed. Go there and call `mutmut show`.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
STAGE = ROOT / "mutants"
PACKAGES = ("connector", "tasks")
"""What is mutated, and whose unit tests run."""
TESTS = ("connector", "tasks", "timing")
EXAMPLES = "0.15"
"""Random lives for each mutant that no other test has noticed."""
NOTICED = ("killed", "timeout", "caught by type check", "suspicious", "segfault")
UNNOTICED = (0, 33)
"""mutmut's exit codes of a mutant that survived, and of one that no test runs."""
CONFIG = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = [{only}]
pytest_add_cli_args_test_selection = [{tests}]
pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "no:xdist"]
also_copy = ["tests"]
timeout_multiplier = 25.0
timeout_constant = 2.0
track_dependencies = false
use_git_change_detection = false
"""

FASTEST_FIRST = '''"""Whatever notices a fault soonest runs first; the durations are of this run's first pass.

A random life that notices it is not made shorter: that takes minutes, and nobody reads it.
"""

import json
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings

PATIENT = [HealthCheck.too_slow]
PHASES = [Phase.explicit, Phase.generate]
settings.register_profile("mutants", deadline=None, suppress_health_check=PATIENT, phases=PHASES)
settings.load_profile("mutants")


def pytest_collection_modifyitems(items):
    try:
        seconds = json.loads(Path("mutmut-stats.json").read_text())["duration_by_test"]
    except (OSError, ValueError, KeyError):
        return
    items.sort(key=lambda item: seconds.get(item.nodeid, 0.0))
'''


def main() -> int:
    _stage()
    _forget_unnoticed()
    mutmut = Path(sys.executable).parent / "mutmut"
    processes = os.environ.get("PROCESSES") or str(os.cpu_count() or 2)
    run = _call([mutmut, "run", "--max-children", processes, *sys.argv[1:]], None)
    results = _call([mutmut, "results", "--all", "true"], subprocess.PIPE)
    _summarize(results.stdout)
    return run.returncode


def _call(command: list[Path | str], output: int | None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EXAMPLES": EXAMPLES}
    return subprocess.run(command, cwd=STAGE, env=environment, stdout=output, text=True, check=False)  # noqa: S603


def _stage() -> None:
    """Copy what changed; a file that is the same keeps its time, so that its mutants keep their results."""
    _copy(ROOT / "operator" / "buildkite_connector", STAGE / "src" / "buildkite_connector")
    for folder in (f"unit/{each}" for each in TESTS):
        if (ROOT / "tests" / folder).exists():
            _copy(ROOT / "tests" / folder, STAGE / "tests" / folder)
    for folder in ("fakes", "harness", "simulators", "data"):
        _copy(ROOT / "tests" / folder, STAGE / "tests" / folder)
    (STAGE / "tests" / "conftest.py").write_text(FASTEST_FIRST)
    text = (ROOT / "pyproject.toml").read_text()
    pytest = text[text.index("[tool.pytest.ini_options]") :].split("\n\n")[0]
    only = ", ".join(f'"src/buildkite_connector/{each}/*"' for each in PACKAGES)
    chosen = [f"tests/unit/{each}" for each in TESTS if (ROOT / "tests" / "unit" / each).exists()]
    tests = ", ".join(f'"{each}"' for each in chosen)
    (STAGE / "pyproject.toml").write_text(pytest + "\n" + CONFIG.format(only=only, tests=tests))


def _forget_unnoticed() -> None:
    """What no test noticed is tested again: the tests may be others now."""
    for path in (STAGE / "mutants").rglob("*.meta"):
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
    by_module: dict[str, Counter[str]] = {}
    for name, status in found:
        by_module.setdefault(name.split(".x")[0], Counter())[status] += 1
    total = sum(by_module.values(), Counter())
    statuses = sorted(total, key=lambda each: -total[each])
    print(f"\n{'module':<60} {'noticed':>8} " + " ".join(f"{each:>10}" for each in statuses))
    for module, counts in [*sorted(by_module.items()), ("all", total)]:
        print(f"{module:<60} {_share(counts):>8} " + " ".join(f"{counts[each]:>10}" for each in statuses))


def _share(counts: Counter[str]) -> str:
    tested = sum(count for status, count in counts.items() if status != "not checked")
    noticed = sum(counts[status] for status in NOTICED)
    return f"{100 * noticed / tested:.1f} %" if tested else "-"


if __name__ == "__main__":
    sys.exit(main())
