"""Buildkite and C1 as real servers on loopback, as strict as the documented ones, able to fail on demand.

They ship in neither wheel nor image. `python -m simulators.buildkite` and `python -m simulators.c1`
(with `tests` on the path) run each by itself; tests and the demo start them in-process.
"""
