"""Adapter: logs."""
