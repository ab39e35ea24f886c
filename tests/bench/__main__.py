"""`python tests/bench` measures what is promised; `--help` lists the cases, docs/benchmarks.md tells the last run."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # in place of tests/bench, whose modules are the package `bench`

from bench.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
