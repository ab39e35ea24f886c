"""`python -m buildkite_connector`."""

import os
import sys

if not sys.flags.safe_path and sys.path[0] in {"", os.getcwd()}:  # noqa: PTH109  (pathlib might be theirs)
    del sys.path[0]  # `-m` puts the working directory first: whoever may write there would choose what is imported

from buildkite_connector.cli.entry import main

main()
