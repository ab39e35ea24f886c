"""The Kubernetes client as the image holds it."""

import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes

PRUNE = Path(__file__).parents[2] / "tools" / "prune_image.py"
INSTALLED = Path(kubernetes.__file__).parent


def site_with_client(site: Path) -> Path:
    """Site-packages with the client alone. Its folders are made here and what is in them links: nothing that is pruned
    is of the installation."""
    package = site / "kubernetes"
    package.mkdir(parents=True)
    shutil.copy(INSTALLED / "__init__.py", package)
    for each in (child for child in INSTALLED.iterdir() if child.is_dir() and child.name != "__pycache__"):
        (package / each.name).mkdir()
    for each in (INSTALLED / "aio").iterdir():
        link = package / "aio" / each.name
        if each.is_dir() and each.name != "__pycache__":
            link.mkdir()
            for inner in each.iterdir():
                (link / inner.name).symlink_to(inner)
        else:
            link.symlink_to(each)
    return site


def prune(site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(PRUNE), str(site)], capture_output=True, text=True, check=False)  # noqa: S603
