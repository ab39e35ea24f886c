"""Makes docs/reasons.md from the texts of model/failure.py; `--check` only tells whether it is current."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "operator" / "buildkite_connector" / "model" / "failure.py"
PAGE = ROOT / "docs" / "reasons.md"
HEAD = """\
# Every reason, and what to do

A condition's message names the field, key, host or count that it is about. `kubectl get bkc -o wide` shows the message
of `Ready`. While the operator retries, the resource is `Reconciling`; when it needs action, it is `Stalled`.
"""


@dataclass(frozen=True)
class Explained:
    """One reason. `group` is the heading it stands under."""

    group: str
    name: str
    means: str
    remedy: str


def explained(source: str) -> Iterator[Explained]:
    """The reasons of the class, in their order. ValueError for one without the two paragraphs."""
    lines = source.splitlines()
    [reasons] = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Reason"]
    for value, text in zip(reasons.body, [*reasons.body[1:], ast.Pass()], strict=True):
        if not isinstance(value, ast.Assign):
            continue
        found = text.value.value if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) else None
        name = ast.literal_eval(value.value)
        if not isinstance(found, str) or found.count("\n\n") != 1:
            raise ValueError(f"{name}: a text of two paragraphs must follow: what is so, what to do")
        groups = [line.strip(" #") for line in lines[: value.lineno] if line.startswith("    # ")]
        means, remedy = (" ".join(part.split()) for part in found.split("\n\n"))
        yield Explained(groups[-1], name, means, remedy)


def to_page(reasons: list[Explained]) -> str:
    parts, group = [HEAD], ""
    for each in reasons:
        if each.group != group:
            group = each.group
            parts.append(f"## {group}\n")
        parts.append(f"### {each.name}\n\n{each.means}\n\n**What to do:** {each.remedy}\n")
    return "\n".join(parts)


def main() -> None:
    page = to_page(list(explained(SOURCE.read_text())))
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page)
    elif not PAGE.exists() or PAGE.read_text() != page:
        sys.exit("docs/reasons.md is not current: run make reasons")


if __name__ == "__main__":
    main()
