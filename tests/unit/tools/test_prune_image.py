"""What the image leaves out."""

import subprocess
import sys
from pathlib import Path

PRUNE = Path(__file__).parents[3] / "tools" / "prune_image.py"


def test_installers_and_tests_go_and_all_else_stays(tmp_path: Path) -> None:
    for name in ("pip/x.py", "setuptools/x.py", "bin/x", "a/x.py", "a/tests/x.py", "a/b/__pycache__/x.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    subprocess.run([sys.executable, str(PRUNE), str(tmp_path)], capture_output=True, check=True)  # noqa: S603
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [tmp_path / "a" / "x.py"]
