"""Buildkite's rate limits: when may a request go?

`window` reads what the server says, `limiter` decides, `concurrency` adapts to the server's load, `queue` holds the
requests.
"""
