"""The simulator in a process of its own."""

from simulators.c1.server import main

main()
