"""The site's pages are those of the repository, with links for their places in the site."""

from pathlib import Path

import pytest

import docs_site


def relinked(text: str, path: str) -> tuple[str, set[str]]:
    linked = set[str]()
    return docs_site.relinked(text, path, linked), linked


@pytest.mark.parametrize(
    ("page", "link", "in_the_site"),
    [
        ("README.md", "docs/install.md#with-helm", "install.md#with-helm"),
        ("docs/install.md", "../README.md", "index.md"),
        ("docs/runbooks/BuildkiteConnectorNotReady.md", "../reasons.md", "../reasons.md"),
        ("docs/gitops.md", "../examples/connector.yaml", "files/examples/connector.yaml.md"),
        ("docs/gitops.md", "../examples/secrets/sops", "files/examples/secrets/sops.md"),
        ("docs/benchmarks.md", "benchmarks-quota.svg", "benchmarks-quota.svg"),
        ("docs/gitops.md", "https://example.com/docs/x.md", "https://example.com/docs/x.md"),
        ("docs/gitops.md", "#flux", "#flux"),
    ],
)
def test_a_link_leads_to_the_same_in_the_site(page: str, link: str, in_the_site: str) -> None:
    assert relinked(f"see [it]({link}).", page)[0] == f"see [it]({in_the_site})."


def test_a_link_to_what_is_not_there_is_refused() -> None:
    with pytest.raises(docs_site.DeadLinkError, match=r"docs/install.md links to nowhere.md"):
        relinked("[x](nowhere.md)", "docs/install.md")


def test_a_file_that_a_page_links_to_becomes_a_page_that_shows_it() -> None:
    made = dict(docs_site.laid_out(["docs/gitops.md"]))
    assert "````yaml\n" in str(made["files/examples/argocd/argocd-cm.yaml.md"])
    assert "secrets/sops/sops.yaml.md" in "".join(made), "a hidden file is shown too"


def test_pictures_are_copied() -> None:
    assert isinstance(dict(docs_site.laid_out(["README.md"]))["overview.svg"], Path)


@pytest.mark.parametrize(
    ("link", "text"),
    [
        ("[the design](docs/development.md#who-acts)", "the design (`docs/development.md`)"),
        ("[docs/development.md](docs/development.md)", "`docs/development.md`"),
        ("[`tests/README.md`](tests/README.md)", "`tests/README.md`"),
        ("[decisions](docs/decisions/README.md)", "decisions (`docs/decisions/README.md`)"),
    ],
)
def test_a_page_for_contributors_is_named_and_not_in_the_site(link: str, text: str) -> None:
    assert relinked(link, "CONTRIBUTING.md") == (text, set())
    assert link.partition("(")[2].rstrip(")").partition("#")[0] not in docs_site.pages()
