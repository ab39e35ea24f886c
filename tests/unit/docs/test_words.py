"""Texts for users say things in the reader's words: one list of words, with what to say instead."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
INSTEAD = {
    r"the definition|custom resource definition is": "the CRD",
    r"rights": "permissions",
    r"mend(?:s|ed|ing)?": "fix, resolve",
    r"go(?:es)? out": "is delivered",
    r"anew|afresh": "again, from scratch",
    r"whoever": "people who",
    r"wait(?:s|ing)? for a person": "needs action",
    r"comes? about": "cannot connect",
    r"is well|are well|(?<!data )that is well": "is healthy, this is normal",
    r"under way": "in progress",
    r"is to come": "is pending",
    r"likewise": "repeat the sentence",
    r"(?<!there )(?:is|are) no (?!longer|more)": "is not",
    r"for gone|as gone": "as deleted",
    r"tells? the (?:whole )?story": "reports",
    r"is told": "is reported",
    r"for ever": "forever",
    r"beside the": "in addition to",
    r"has not got": "does not have",
    r"any more": "no longer",
    r"(?:some|every)body": "someone, everyone",
    r"should this last|if it stays": "if this persists",
    r"exclude each other": "are mutually exclusive",
    r"(?:col|behavi|fav)our\w*|organis\w+|recognis\w+|authoris\w+": "the American spelling",
}
"""Patterns of whole words, and what to say in their place."""
ABOUT_TESTS = {"testing.md", "CONTRIBUTING.md", "RELEASE.md"}
CONTRIBUTORS = {"development.md", "planted-faults.md", "mutants.md"}
TEXTS = [
    *(path for path in sorted(ROOT.glob("*.md"))),
    *(
        path
        for path in sorted((ROOT / "docs").glob("*.md"))
        if path.name not in CONTRIBUTORS and "benchmarks" not in path.name
    ),
    *sorted((ROOT / "docs" / "runbooks").glob("*.md")),
    ROOT / "charts" / "buildkite-connector" / "README.md",
    ROOT / "charts" / "buildkite-connector" / "values.yaml",
    ROOT / "charts" / "buildkite-connector" / "templates" / "NOTES.txt",
    ROOT / "charts" / "buildkite-connector" / "templates" / "alerts.yaml",
    ROOT / "crds" / "buildkiteconnectors.yaml",
]
SOURCES = sorted((ROOT / "operator").rglob("*.py"))


ANY = re.compile(rf"\b(?:{'|'.join(INSTEAD)})\b", re.IGNORECASE)


def _found(lines: Iterator[tuple[int, str]]) -> list[str]:
    return [
        f"{number}: {word[0]!r}: say {instead}"
        for number, line in lines
        if ANY.search(line)
        for pattern, instead in INSTEAD.items()
        for word in re.finditer(rf"\b(?:{pattern})\b", line, re.IGNORECASE)
    ]


def _strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Messages, descriptions and help; not what stands alone, as docstrings do."""
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.lineno, node.value


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_pages_about_them_speak_of_tests(path: Path) -> None:
    if path.name not in ABOUT_TESTS:
        said = re.findall(r"(?i).*(?:by|in) a test\b.*|.*\ba test (?:holds|compares|checks|runs)\b.*", path.read_text())
        assert said == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_it_is_said_in_the_readers_words(path: Path) -> None:
    assert _found(iter(enumerate(path.read_text().splitlines(), 1))) == []


def test_messages_and_help_are_in_the_readers_words() -> None:
    found = {str(path.relative_to(ROOT)): _found(_strings(ast.parse(path.read_text()))) for path in SOURCES}
    assert {path: words for path, words in found.items() if words} == {}
