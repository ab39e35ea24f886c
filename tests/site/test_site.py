"""The site that `make site` built: whole, searchable, loading nothing from elsewhere. Only `make site` runs these."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import docs_site
from buildkite_connector.model.failure import Reason

BUILT = docs_site.ROOT / "build" / "site"
LOADED = re.compile(r'<(?:script|link(?! rel="canonical")|img|iframe|source)\b[^>]*?\b(?:src|href)="([^"]+)"')
LINKED = re.compile(r'<a\b[^>]*?\bhref="([^"]+)"')
PAGES = sorted(path.relative_to(BUILT) for path in BUILT.rglob("*.html"))


def index() -> list[dict[str, Any]]:
    """The sections that the search looks in."""
    items: list[dict[str, Any]] = json.loads((BUILT / "search.json").read_text())["items"]
    return items


def in_the_nav(node: Any) -> set[str]:
    if isinstance(node, str):
        return {node}
    return {page for child in (node.values() if isinstance(node, dict) else node) for page in in_the_nav(child)}


@pytest.mark.parametrize("reason", list(Reason))
def test_the_search_finds_each_condition_reason(reason: Reason) -> None:
    [found] = [each for each in index() if each["title"] == reason.value]
    assert found["location"] == f"reasons.html#{reason.value.lower()}"
    assert "What to do" in found["text"]
    assert f'id="{reason.value.lower()}"' in (BUILT / "reasons.html").read_text()


@pytest.mark.parametrize("field", ["schedule.timeZone", "delivery.shrinkGuard.maxDropPercent", "status"])
def test_the_search_finds_fields(field: str) -> None:
    assert any(field in each["text"] or field == each["title"] for each in index() if "fields.html" in each["location"])


def test_every_page_of_the_repository_is_in_the_nav_and_was_built() -> None:
    wanted = {docs_site.place(page) for page in docs_site.pages()}
    settings = (docs_site.ROOT / "mkdocs.yml").read_text()
    assert in_the_nav(yaml.safe_load("nav:" + settings.partition("\nnav:")[2])["nav"]) == wanted
    built = {str(page) for page in PAGES}
    assert {page.replace("README.md", "index.md").replace(".md", ".html") for page in wanted} <= built


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page_loads_nothing_from_elsewhere_and_leads_nowhere_that_is_not_there(page: Path) -> None:
    text = (BUILT / page).read_text()
    assert [each for each in LOADED.findall(text) if "://" in each or each.startswith("//")] == []
    for target in {*LOADED.findall(text), *LINKED.findall(text)}:
        path, _, anchor = target.partition("#")
        if "://" in target or target.startswith(("data:", "mailto:")) or page.name == "404.html":
            continue
        led = BUILT / page.parent / path if path else BUILT / page
        assert led.exists(), target
        if anchor and led.suffix == ".html":
            assert f'id="{anchor}"' in led.read_text(), target
