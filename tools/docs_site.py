"""Lays out the pages of the documentation site in build/site-source, for `make site` to build.

The site has the pages for users: docs/, the README and a few pages from other folders. A file that a page links to,
such as an example, becomes a page that shows it. Links are rewritten for the site. A link to a page for contributors
leads into the repository if REPOSITORY_URL names it, and becomes the name of its file otherwise. Each cell of a table
knows the head of its column, so that the style sheet can stack the cells of a row on a narrow screen.
"""

import html
import os
import re
import shutil
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "build" / "site-source"
"""What mkdocs.yml names as its folder of pages."""
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
    "RELEASE.md": "releases.md",
    "charts/buildkite-connector/README.md": "chart.md",
}
"""Pages outside docs/, by their names in the site."""
CONTRIBUTORS = re.compile(r"(docs/(decisions/.*|development|planted-faults|mutants|benchmarks(-\w+)?)|tests/.*)\.md$")
"""Pages for contributors, which are read in the repository only."""
SHOWN = "files"
"""The site's folder of the files that pages link to."""
LANGUAGES = {".yaml": "yaml", ".yml": "yaml", ".tf": "terraform", ".py": "python", ".json": "json", "": "text"}
IMAGES = {".svg", ".png"}
REPOSITORY = os.environ.get("REPOSITORY_URL", "")
"""Such as https://github.com/OWNER/buildkite-connector. Empty: pages have no links into the repository."""
LINK = re.compile(r"\[([^\[\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
FENCED = re.compile(r"(?ms)^( *)(`{3,}).*?^\1\2$")
TABLE = re.compile(r"(?m)^\|.+\|\n\|[-| :]+\|\n(?:\|.*\|\n?)+")
BAR = re.compile(r"(?<!\\)\|")


class DeadLinkError(Exception):
    """A page links to what is not there."""


def place(path: str) -> str:
    """Where a file of the repository is in the site: `place("docs/install.md")` is `install.md`."""
    if path in ELSEWHERE:
        return ELSEWHERE[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")  # a page or a picture
    return f"{SHOWN}/{path.replace('/.', '/')}.md"  # a hidden file is no page


def relinked(text: str, path: str, linked: set[str]) -> str:
    """The page with its links as the site needs them; the files that it leads to are added to `linked`.

    DeadLinkError for a link to what the repository does not have.
    """

    def rewritten(found: re.Match[str]) -> str:
        title, target, anchor = found[1], found[2], found[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        wanted = os.path.normpath(Path(path).parent / target)
        if not (ROOT / wanted).exists():
            raise DeadLinkError(f"{path} links to {target}, which is not there")
        if CONTRIBUTORS.match(wanted):
            if REPOSITORY:
                return f"[{title}]({REPOSITORY}/blob/main/{wanted}{anchor})"
            named = title.strip("`").endswith(wanted)
            return f"`{wanted}`" if named else f"{title} (`{wanted}`)"
        linked.add(wanted)
        return f"[{title}]({os.path.relpath(place(wanted), Path(place(path)).parent)}{anchor})"

    return LINK.sub(rewritten, text)


def labelled(page: str) -> str:
    """The page with each cell of its wider tables named after the head of its column, by an attribute list."""
    parts, end = [], 0
    for fence in FENCED.finditer(page):
        parts += [TABLE.sub(_labelled_table, page[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, TABLE.sub(_labelled_table, page[end:])])


def _labelled_table(table: re.Match[str]) -> str:
    head, line, *rows = table[0].splitlines()
    names = [re.sub(r"[`*]", "", name.strip()) for name in BAR.split(head)[1:-1]]
    if len(names) < 3:
        return table[0]  # a name and what it is: clear without the heads
    marked = []
    for row in rows:
        cells = [cell.strip() for cell in BAR.split(row)[1:-1]]
        named = [
            f'{cell} {{: data-head="{html.escape(name)}" }}' if cell and name and number else cell
            for number, (cell, name) in enumerate(zip(cells, names, strict=True))
        ]
        marked.append(f"| {' | '.join(named)} |")
    return "\n".join([head, line, *marked, ""])


def foot(path: str, version: str) -> str:
    """The page's last line: the version, and where the page's source is."""
    what = "tree" if (ROOT / path).is_dir() else "edit"
    links = (
        f' · <a href="{REPOSITORY}">Repository</a> · <a href="{REPOSITORY}/{what}/main/{path}">Edit this page</a>'
        if REPOSITORY
        else ""
    )
    return f'\n<p class="foot" data-search-exclude>buildkite-connector {version}{links}</p>\n'


def shown(path: str) -> str:
    """The page that shows a file, or lists a folder's files."""
    target = ROOT / path
    if target.is_dir():
        files = sorted(each for each in target.rglob("*") if each.is_file())
        lines = [f"- [{each.relative_to(target)}]({os.path.relpath(each, target.parent)})" for each in files]
        return f"# {path}/\n\n" + "\n".join(lines) + "\n"
    language = LANGUAGES.get(target.suffix, "text")
    return f"# {path}\n\n````{language}\n{target.read_text().rstrip()}\n````\n"


def pages() -> list[str]:
    """The files that are pages of the site, by their paths in the repository."""
    pages = (str(each.relative_to(ROOT)) for each in sorted((ROOT / "docs").rglob("*.md")))
    return [*ELSEWHERE, *(page for page in pages if not CONTRIBUTORS.match(page))]


def laid_out(start: Iterable[str]) -> Iterator[tuple[str, str | Path]]:
    """Each file of the site by its place: a page's text, or the image that is to be copied."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    waiting, done = list(start), set[str]()
    while waiting:
        path = waiting.pop(0)
        if path in done:
            continue
        done.add(path)
        if Path(path).suffix in IMAGES:
            yield place(path), ROOT / path
            continue
        page = (ROOT / path).read_text() if path.endswith(".md") else shown(path)
        linked = set[str]()
        yield place(path), labelled(relinked(page, path, linked)) + foot(path, version)
        waiting += sorted(linked - done)


def main() -> None:
    shutil.rmtree(SOURCE, ignore_errors=True)
    for name, content in laid_out(pages()):
        target = SOURCE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, target)
        else:
            target.write_text(content)
    shutil.copytree(ROOT / "docs" / "assets", SOURCE / "assets")


if __name__ == "__main__":
    main()
