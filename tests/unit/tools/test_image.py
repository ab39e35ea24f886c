"""Neither recipe of the image lets Python run code from where the pod's user may write."""

import json
import os
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import image

ROOT = Path(__file__).parents[3]
SITE = Path(sysconfig.get_path("purelib"))
PYTHON = Path(getattr(sys, "_base_executable", sys.executable))
"""Without the virtual environment, whose Python never looks into a home."""


@dataclass(frozen=True)
class Recipe:
    environment: Mapping[str, str]
    entrypoint: Sequence[str]
    directory: str


def of_dockerfile() -> Recipe:
    lines = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2].splitlines()
    instructions = [line.partition(" ") for line in lines]
    values = {name: rest for name, _, rest in instructions if name in {"ENTRYPOINT", "WORKDIR"}}
    settings = [each for name, _, rest in instructions if name == "ENV" for each in shlex.split(rest)]
    environment = {name: value for name, _, value in (each.partition("=") for each in settings)}
    return Recipe(environment, json.loads(values["ENTRYPOINT"]), values["WORKDIR"])


RECIPES = {
    "Dockerfile": of_dockerfile(),
    "tools/image.py": Recipe(image.ENVIRONMENT, image.ENTRYPOINT, image.WORKING_DIRECTORY),
}


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A directory that is working directory and home: its modules, and those of a user, leave a file `sprung`."""
    trap = f"open({str(tmp_path / 'sprung')!r}, 'a').write(__file__)\nraise SystemExit(99)\n"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    user_site = tmp_path / ".local" / "lib" / version / "site-packages"
    user_site.mkdir(parents=True)
    (user_site / "usercustomize.py").write_text(trap)
    for name in ("httpx", "typer", "h11", "certifi", "sitecustomize", "email", "json", "buildkite_connector"):
        (tmp_path / f"{name}.py").write_text(trap)
    return tmp_path


def start(directory: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {
        "HOME": str(directory),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT / 'operator'}:{SITE}",  # in place of /app
        "BATON_API_TOKEN": "bkua_" + "0" * 40,
        "BUILDKITE_API_URL": "http://127.0.0.1:9",
        **environment,
    }
    return subprocess.run(  # noqa: S603 - our own command
        [str(PYTHON), *words], cwd=directory, env=variables, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("name", RECIPES)
def test_what_lies_in_the_working_directory_or_at_home_does_not_run(trapped: Path, name: str) -> None:
    recipe = RECIPES[name]
    own = {key: value for key, value in recipe.environment.items() if key.startswith("PYTHON") and key != "PYTHONPATH"}
    done = start(trapped, *recipe.entrypoint[1:], "sync", "--timeout", "1s", **own)
    assert not (trapped / "sprung").exists()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")


def test_the_traps_are_sprung_where_python_is_left_to_itself(trapped: Path) -> None:
    for words in (("-c", ""), ("-s", "-c", "import httpx")):
        start(trapped, *words)
    sprung = (trapped / "sprung").read_text()
    assert "usercustomize.py" in sprung
    assert "httpx.py" in sprung


def test_python_m_elsewhere_imports_no_library_from_the_working_directory(trapped: Path) -> None:
    """Where the package itself is installed; the standard library is imported before there is a say."""
    for early in ("buildkite_connector", "email", "json", "sitecustomize"):
        (trapped / f"{early}.py").unlink()
    done = start(trapped, "-s", "-m", "buildkite_connector", "sync", "--timeout", "1s")
    assert not (trapped / "sprung").exists()
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("name", RECIPES)
def test_the_working_directory_is_none_that_the_pods_user_may_write_to(name: str) -> None:
    assert RECIPES[name].directory == "/"
    assert "" not in image.WRITABLE
