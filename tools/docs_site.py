"""Lays out the pages of the documentation site in build/site-source, for `make site` to build.

The site has the pages for users: docs/, the README and a few pages from other folders. A file that a page links to,
such as an example, becomes a page that shows it. Links are rewritten for the site; a link to a page for contributors
becomes the name of its file.
"""

import os
import re
import shutil
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
    "charts/buildkite-connector/README.md": "chart.md",
}
"""Pages outside docs/, by their names in the site."""
CONTRIBUTORS = re.compile(r"(docs/(decisions/.*|development|planted-faults|mutants|benchmarks-\w+)|tests/.*)\.md$")
"""Pages for contributors, which are read in the repository only."""
SHOWN = "files"
"""The site's folder of the files that pages link to."""
LANGUAGES = {".yaml": "yaml", ".yml": "yaml", ".tf": "terraform", ".py": "python", ".json": "json", "": "text"}
IMAGES = {".svg", ".png"}
LINK = re.compile(r"\[([^\[\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


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
            named = title.strip("`").endswith(wanted)
            return f"`{wanted}`" if named else f"{title} (`{wanted}`)"
        linked.add(wanted)
        return f"[{title}]({os.path.relpath(place(wanted), Path(place(path)).parent)}{anchor})"

    return LINK.sub(rewritten, text)


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
        yield place(path), relinked(page, path, linked)
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
