"""What each command does, one module a command; `cli` reads flags and variables and calls them.

Here the adapters meet the use cases (`connections`). Modules are imported by the command that needs them only, so
that `sync` starts without the operator's libraries.
"""
