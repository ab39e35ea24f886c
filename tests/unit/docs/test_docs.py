"""The docs say what is so: reasons, settings, fields, targets and links, each checked against the code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from buildkite_connector.c1 import settings as c1_settings
from buildkite_connector.cli import run_operator
from buildkite_connector.cli.app import app
from buildkite_connector.kubernetes.schema import ACCEPT_SHRINK, SYNC_REQUESTED_AT
from buildkite_connector.kubernetes.schema.crd import definition
from buildkite_connector.network import proxies, trust
from harness.yaml_text import parsed

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "docs" / "settings.md").read_text()
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def variables_in_the_code() -> set[str]:
    commands: Any = typer.main.get_command(app)
    flags = {name for command in commands.commands.values() for flag in command.params for name in _names(flag.envvar)}
    settings = {**vars(c1_settings), **vars(run_operator), **vars(proxies), **vars(trust)}
    named = {value for name, value in settings.items() if name.endswith("_VARIABLE")}
    return flags | named | {"KUBECONFIG"}


def _names(envvar: str | list[str] | None) -> list[str]:
    return [envvar] if isinstance(envvar, str) else envvar or []


def documented_variables() -> set[str]:
    table = re.split(r"\| variable \|.*\|", SETTINGS)[1].split("\n\n")[0]
    return set(re.findall(r"`([A-Z0-9_]{5,})`", table))


def spec_fields(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        inner = f"{path}.{name}" if path else name
        if "properties" in field:
            yield from spec_fields(field, inner)
        else:
            yield inner


def test_every_variable_is_documented_and_every_documented_one_exists() -> None:
    assert documented_variables() == variables_in_the_code()


def test_every_field_of_the_spec_stands_in_its_page_and_in_the_full_example() -> None:
    schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    page = (ROOT / "docs" / "fields.md").read_text()
    example = (ROOT / "examples" / "connector-full.yaml").read_text()
    for field in spec_fields(schema):
        leaf = field.rsplit(".", 1)[-1]
        assert f"{leaf}:" in example, field
        assert f"`{field}`" in page, field


def test_the_annotations_are_documented() -> None:
    assert SYNC_REQUESTED_AT in README
    assert ACCEPT_SHRINK in README


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub and the site name them."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    others = [ROOT / "tests" / "README.md", ROOT / "charts" / "buildkite-connector" / "README.md"]
    for page in [*PAGES, *others]:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
            if "://" in target:
                continue
            led = page.parent / target if target else page
            assert led.exists(), (page, target)
            assert not anchor or anchor in anchors(led), (page, target, anchor)


def test_every_runbook_is_in_the_table_of_alerts() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    runbooks = [path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")]
    assert [name for name in runbooks if f"[`{name}`](runbooks/{name}.md)" not in page] == []


def test_the_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"(?:`|^)make ([a-z0-9-]+)(?:`| )", page.read_text(), re.M)) <= targets, page


def test_the_tests_that_notice_planted_faults_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/planted-faults.md").read_text()))
    sources = "".join(path.read_text() for path in (ROOT / "tests/unit").rglob("test_*.py"))
    assert named
    assert not {name for name in named if f"def {name}(" not in sources}


def test_the_dependencies_are_those_of_the_project() -> None:
    declared = re.findall(
        r'^  "([A-Za-z0-9-]+)>=', (ROOT / "pyproject.toml").read_text().split("[dependency-groups]")[0], re.M
    )
    table = DEVELOPMENT.split("| library | for |")[1].split("\n\n")[0].lower()
    assert [name for name in declared if name.lower() not in table] == []


def test_the_deployed_image_is_this_version() -> None:
    deployment = parsed((ROOT / "deploy" / "cluster" / "deployment.yaml").read_text())
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    assert container["image"].endswith(f":{version[1]}")


PACKAGE = ROOT / "operator" / "buildkite_connector"
DEVELOPMENT = (ROOT / "docs" / "development.md").read_text()
MODULE = re.compile(r"`([a-z0-9_]+(?:/[a-z0-9_]+)*/[a-z0-9_]+\.py)`")
PLACES = (PACKAGE, ROOT, ROOT / "tests", ROOT / "tests" / "unit")
HISTORY = "0003-"
"""A superseded decision, with the modules of its time."""


def test_pages_name_modules_that_exist() -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "tests" / "README.md"]
    named = [(path.name, each) for path in pages for each in MODULE.findall(path.read_text())]
    assert len({module for page, module in named if page == "development.md"}) > 30
    gone = [(page, each) for page, each in named if not any((place / each).is_file() for place in PLACES)]
    assert [each for each in gone if not each[0].startswith(HISTORY)] == []


def test_every_package_of_the_code_is_in_the_development_page() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"proto"}
    assert [name for name in packages if f"`{name}/`" not in DEVELOPMENT] == []


def test_the_words_of_the_glossary_are_those_of_the_code() -> None:
    words = re.findall(r"(?m)^\| ([a-z ]+) \|", (ROOT / "docs" / "glossary.md").read_text())
    code = "\n".join(path.read_text().lower() for path in PACKAGE.rglob("*.py"))
    spelled = {word: {word, word.replace(" ", ""), word.replace(" ", "_")} for word in words if word != "word"}
    assert [word for word, forms in spelled.items() if not any(form in code for form in forms)] == []


def test_the_tests_that_the_security_page_names_exist() -> None:
    named = set(re.findall(r"`((?:unit|e2e|scenarios)/[a-z0-9_/]+\.py)`", (ROOT / "docs" / "security.md").read_text()))
    assert len(named) > 20
    assert [path for path in sorted(named) if not (ROOT / "tests" / path).is_file()] == []
