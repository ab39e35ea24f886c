"""What the image leaves out is not imported by anything that it keeps."""

import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes
import pytest

PRUNE = Path(__file__).parents[3] / "tools" / "prune_image.py"
INSTALLED = Path(kubernetes.__file__).parent


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Site-packages with the Kubernetes client alone; its folders are links but for those at the top."""
    package = tmp_path / "kubernetes"
    package.mkdir()
    for each in INSTALLED.iterdir():
        if each.name == "__init__.py":
            shutil.copy(each, package)
        elif each.is_dir() and each.name == "aio":
            (package / each.name).symlink_to(each)
        elif each.is_dir() and each.name != "__pycache__":
            (package / each.name).mkdir()
    return tmp_path


def run(*command: str, path: Path) -> str:
    done = subprocess.run(  # noqa: S603
        [sys.executable, *command], env={"PYTHONPATH": str(path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_operator_starts_without_the_synchronous_half_of_the_client(site: Path) -> None:
    run(str(PRUNE), str(site), path=site)
    assert sorted(each.name for each in (site / "kubernetes").iterdir()) == ["__init__.py", "aio"]
    loaded = run(
        "-c",
        "import sys, buildkite_connector.cli.operator, kubernetes;"
        "print(kubernetes.__version__, *(name for name in sys.modules if name.startswith('kubernetes.')))",
        path=site,
    ).split()
    assert loaded[0] == kubernetes.__version__
    assert {name.split(".")[1] for name in loaded[1:]} == {"aio"}


def test_a_package_that_names_no_version_is_left_alone(site: Path) -> None:
    package = site / "kubernetes" / "__init__.py"
    package.write_text("from . import client\n")
    done = subprocess.run([sys.executable, str(PRUNE), str(site)], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 1
    assert "names no version" in done.stderr
    assert package.read_text() == "from . import client\n"
