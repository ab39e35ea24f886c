"""Use case: C1's tasks. Start at `session`."""
