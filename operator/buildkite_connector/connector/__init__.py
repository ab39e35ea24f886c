"""Use case: one connector's life. Start at `connector`."""
