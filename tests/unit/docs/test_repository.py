"""The repository keeps its own rules."""

import ast
import re
from pathlib import Path

from harness.yaml_text import parsed

REPOSITORY = Path(__file__).parents[3]
LONGEST = 500
"""Lines of a module. A topic decides where a module ends; past this length, look for a second topic in it."""


def test_no_module_is_longer_than_500_lines() -> None:
    folders = ("operator", "tests", "tools")
    modules = [module for folder in folders for module in (REPOSITORY / folder).rglob("*.py")]
    lengths = {
        str(module.relative_to(REPOSITORY)): len(module.read_text(encoding="utf-8").splitlines())
        for module in modules
        if not module.stem.endswith(("_pb2", "_pb2_grpc"))  # generated
    }
    assert len(lengths) > 100
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_the_hooks_before_a_commit_run_what_make_check_runs() -> None:
    [local] = parsed((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    checks = (REPOSITORY / "Makefile").read_text().split("\ncheck: ")[1].split("\n\n")[0]
    for hook in local["hooks"]:
        command = re.sub(r" --force-exclude", "", hook["entry"]).replace(".venv/bin", "$(BIN)")
        assert f"@{command}" in checks, hook["id"]


def test_no_docstring_names_a_module_that_is_not_there() -> None:
    """A package's docstring names its modules and functions in back quotes; any docstring may name a file."""
    packages = REPOSITORY / "operator" / "buildkite_connector"
    modules = {module.stem for module in packages.rglob("*.py")} | {
        each.name for each in packages.rglob("*") if each.is_dir()
    }
    for module in packages.rglob("*.py"):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        named = set(re.findall(r"`([a-z][a-z_0-9./]*)`", ast.get_docstring(tree) or ""))
        files = {name for name in named if name.endswith(".py")}
        assert [name for name in files if not any(packages.rglob(name))] == [], module
        if module.name == "__init__.py" and module.parent.name != "proto":  # which names messages
            known = modules | {name.name for node in ast.walk(tree) for name in getattr(node, "names", ())}
            known |= {each for node in ast.walk(tree) if (each := getattr(node, "name", None))}
            assert named - files <= known, module
