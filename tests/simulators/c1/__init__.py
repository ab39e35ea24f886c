"""C1 as a real server on loopback; `python -m simulators.c1 --help`."""
