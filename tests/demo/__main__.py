"""`make demo`: `demo.story` tells it. This module answers Ctrl-C while the libraries load, which takes seconds."""

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn


def stop_at_once(*_: object) -> NoReturn:
    """An exception would leave the traceback of some import."""
    os.write(2, b"\nStopped; no server was started yet.\n")
    os._exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, stop_at_once)
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from demo.story import run

    run()
