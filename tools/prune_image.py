"""Takes out of an installation what the operator never imports; the image holds it no more.

`tools/prune_image.py DIRECTORY`, with the site-packages. Whoever starts the operator in the image afterwards sees that
nothing was missed.
"""

import shutil
import sys
from pathlib import Path

UNUSED = ("pip", "setuptools", "bin")


def main() -> None:
    site = Path(sys.argv[1])
    before = _size(site)
    for folder in [*(site / each for each in UNUSED), *site.rglob("tests"), *site.rglob("__pycache__")]:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"pruned {site}: {before >> 20} MiB, now {_size(site) >> 20} MiB")


def _size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


if __name__ == "__main__":
    main()
