"""`python -m buildkite_connector`."""

from buildkite_connector.cli.app import main

main()
