"""The flags of the operator that say which connectors this process serves, and whether it may act at once."""

from typing import Annotated

import typer

Selector = Annotated[
    str,
    typer.Option(
        envvar="BUILDKITE_CONNECTOR_SELECTOR",
        help="Watch only resources with these labels, as in kubectl get --selector. The default is all resources.",
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
    str,
    typer.Option(
        envvar="BUILDKITE_CONNECTOR_LEASE_NAME",
        help="The name of the Lease. Use a separate one for each set of replicas.",
    ),
]
LeaseNamespace = Annotated[
    str,
    typer.Option(
        envvar="BUILDKITE_CONNECTOR_LEASE_NAMESPACE",
        help="The namespace of the Lease. The default is the pod's own (POD_NAMESPACE, or the service account's).",
    ),
]
LeaseDuration = Annotated[
    str,
    typer.Option(
        envvar="BUILDKITE_CONNECTOR_LEASE_DURATION",
        help="How long standbys wait for a leader that does not renew its Lease.",
        metavar="DURATION",
    ),
]
RenewDeadline = Annotated[
    str,
    typer.Option(
        envvar="BUILDKITE_CONNECTOR_RENEW_DEADLINE",
        help="How long a leader tries to renew its Lease before it stops acting. Shorter than the lease duration.",
        metavar="DURATION",
    ),
]
RetryPeriod = Annotated[
    str,
    typer.Option(
        envvar="BUILDKITE_CONNECTOR_RETRY_PERIOD",
        help="How often the leader renews its Lease. Standbys check it twice as often.",
        metavar="DURATION",
    ),
]
