"""What the image leaves out. That the operator imports nothing of it is for `unit/cli/test_entry.py`: it starts one."""

import subprocess
import sys
from pathlib import Path

import kubernetes
import pytest

from harness.pruned_client import prune, site_with_client


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return site_with_client(tmp_path)


def test_the_asynchronous_half_of_the_client_stays_and_its_version(site: Path) -> None:
    assert prune(site).returncode == 0
    assert sorted(each.name for each in (site / "kubernetes").iterdir()) == ["__init__.py", "aio"]
    program = "import sys, kubernetes; print(kubernetes.__version__, *(n for n in sys.modules if 'kubernetes.' in n))"
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-S", "-c", program], env={"PYTHONPATH": str(site)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [kubernetes.__version__]


def test_a_package_that_names_no_version_is_left_alone(site: Path) -> None:
    package = site / "kubernetes" / "__init__.py"
    package.write_text("from . import client\n")
    done = prune(site)
    assert done.returncode == 1
    assert "names no version" in done.stderr
    assert package.read_text() == "from . import client\n"
