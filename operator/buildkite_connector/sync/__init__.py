"""Use case: one organization read from Buildkite, all or nothing. Start at `preflight`, then `collect`."""
