"""The command line: the only package that knows all others.

`app` and `vendor` declare the commands; what a command does is in a module of its own, imported when the command runs,
so that `sync` starts without the operator's libraries.
"""
