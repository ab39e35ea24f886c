"""The simulator in a process of its own."""

from simulators.c1.command import main

main()
