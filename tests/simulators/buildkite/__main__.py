"""The simulator in a process of its own."""

from simulators.buildkite.command import main

main()
