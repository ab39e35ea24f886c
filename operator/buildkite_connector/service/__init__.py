"""Adapter: one connector without a cluster. Its settings are the process's, its status is logged and kept in a file."""
