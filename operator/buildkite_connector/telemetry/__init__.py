"""Adapter: logs, metrics, traces, and the HTTP server that shows them."""
