"""Buildkite's accounts, teams and access for C1, from Kubernetes.

Start at `model` (what is synced), then `sync` and `connector` (how and when), then the adapters `buildkite`, `c1z`,
`c1` and `kubernetes`; `cli` puts them together.
"""

__version__ = "0.1.0"
