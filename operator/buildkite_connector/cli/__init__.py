"""The command line: the only package that knows all others.

`app` declares commands and flags; each command has a module of its own, imported when the command runs, so that
`sync` starts without the operator's libraries.
"""
