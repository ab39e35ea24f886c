"""Buildkite as a real server on loopback; `python -m simulators.buildkite --help`."""
