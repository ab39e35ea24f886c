"""Takes out of an installation what the operator never imports; the image holds it no more.

The Kubernetes client's synchronous half is as large as the asynchronous one that is used; its package imports it at
once, so that the package's own `__init__` is replaced as well. `tools/prune_image.py DIRECTORY`, with the
site-packages. Whoever starts the operator in the image afterwards sees that nothing was missed.
"""

import re
import shutil
import sys
from pathlib import Path

UNUSED = (
    "kubernetes/client",
    "kubernetes/config",
    "kubernetes/dynamic",
    "kubernetes/informer",
    "kubernetes/leaderelection",
    "kubernetes/stream",
    "kubernetes/utils",
    "kubernetes/watch",
    "kubernetes/aio/test",
    "kubernetes/test",
    "kubernetes/e2e_test",
    "pip",
    "setuptools",
    "bin",
)


def main() -> None:
    site = Path(sys.argv[1])
    before = _size(site)
    package = site / "kubernetes" / "__init__.py"
    version = re.search(r'^__version__ = "[^"]+"$', package.read_text(), re.M)
    if version is None:
        raise SystemExit(f"{package} names no version: look at what it holds before it is replaced")
    package.write_text(f'"""Its asynchronous half alone (`kubernetes.aio`)."""\n\n{version[0]}\n')
    for each in UNUSED:
        shutil.rmtree(site / each, ignore_errors=True)
    for folder in [*site.rglob("tests"), *site.rglob("__pycache__")]:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"pruned {site}: {before >> 20} MiB, now {_size(site) >> 20} MiB")


def _size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


if __name__ == "__main__":
    main()
