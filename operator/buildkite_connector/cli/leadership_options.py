"""The flags of the operator that say which connectors this process serves, and whether it may act at once."""

from typing import Annotated

import typer

Selector = Annotated[
    str,
    typer.Option(
        envvar="BUILDKITE_CONNECTOR_SELECTOR",
        help="Watch only resources with these labels, as in kubectl get --selector; all when empty.",
    ),
]
LeaderElection = Annotated[
    bool,
    typer.Option(
        envvar="BUILDKITE_CONNECTOR_LEADER_ELECTION",
        help="Act only while holding a Lease, so that several replicas can run.",
    ),
]
LeaseName = Annotated[
    str, typer.Option(envvar="BUILDKITE_CONNECTOR_LEASE_NAME", help="The Lease; one for each set of replicas.")
]
LeaseNamespace = Annotated[
    str,
    typer.Option(
        envvar="BUILDKITE_CONNECTOR_LEASE_NAMESPACE",
        help="Where the Lease is; the pod's own namespace when empty (POD_NAMESPACE, or the service account's).",
    ),
]
LeaseDuration = Annotated[
    str,
    typer.Option(
        envvar="BUILDKITE_CONNECTOR_LEASE_DURATION",
        help="How long others wait for a leader that is not heard of.",
        metavar="DURATION",
    ),
]
RenewDeadline = Annotated[
    str,
    typer.Option(
        envvar="BUILDKITE_CONNECTOR_RENEW_DEADLINE",
        help="When a leader that cannot renew its Lease begins to stop acting; shorter than the duration.",
        metavar="DURATION",
    ),
]
RetryPeriod = Annotated[
    str,
    typer.Option(
        envvar="BUILDKITE_CONNECTOR_RETRY_PERIOD",
        help="How often the Lease is renewed; others look at it twice as often.",
        metavar="DURATION",
    ),
]
