"""Neither recipe of the image lets Python run code from where the pod's user may write; and what the image holds."""

import json
import os
import shlex
import shutil
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


@pytest.mark.parametrize("name", RECIPES)
def test_the_user_has_a_home_without_an_entry_in_etc_passwd(name: str) -> None:
    """Or the Kubernetes client cannot be imported; not every container runtime sets it."""
    assert RECIPES[name].environment["HOME"] == "/"


def test_python_and_licenses_stay_and_nothing_of_the_machine_that_builds(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    stay = {"usr/bin/python3", "usr/bin/python3.13", "usr/share/doc/libc6/copyright", "etc/os-release"}
    go = {"usr/bin/dpkg", "usr/bin/perl5", "usr/bin/pip3", "usr/share/doc/libc6/changelog.gz", "usr/sbin/chroot"}
    go |= {"etc/hostname", "etc/resolv.conf", "etc/apt/sources.list", "var/lib/dpkg/status", "usr/share/man/x"}
    for name in stay | go | {"../outside/mine"}:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    (root / "usr/share/doc/linked").symlink_to(outside)
    image.remove_unused(root)
    assert {str(each.relative_to(root)) for each in root.rglob("*") if each.is_file()} == stay
    assert (outside / "mine").exists()


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb on PATH: not a Debian machine")
def test_the_packages_of_the_image_are_recorded_for_scanners(tmp_path: Path) -> None:
    archives = tmp_path / "root" / "var/cache/apt/archives"
    archives.mkdir(parents=True)
    control = tmp_path / "package" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(
        "Package: libssl3t64\nVersion: 3.5.9-1\nArchitecture: all\nMaintainer: us <us@example.com>\nDescription: x\n"
    )
    built = ["dpkg-deb", "--build", "--root-owner-group", str(tmp_path / "package")]
    subprocess.run([*built, str(archives / "libssl3t64_3.5.9-1_all.deb")], check=True, capture_output=True)  # noqa: S603
    [(name, fields)] = image.installed_packages(tmp_path / "root").items()
    assert name == "libssl3t64"
    assert "Version: 3.5.9-1\n" in fields
