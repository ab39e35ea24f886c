"""`python -m buildkite_connector`."""

from buildkite_connector.cli.entry import main

main()
