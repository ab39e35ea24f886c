"""The domain's values: frozen, without I/O, clock or framework.

Start at `directory` (synced from Buildkite), `spec` (desired), `status` (reported), `tasks` (asked for by C1) and
`failure`.
"""
