"""Buildkite's accounts and teams for C1, from Kubernetes.

Start at `directory` (what is synced), then `collect` and `session` (how), then the adapters
`buildkite`, `snapshot`, `c1` and `kubernetes`; `cli` puts them together.
"""

__version__ = "0.1.0"
