"""What the custom resource and its annotations are called."""

GROUP = "connectors.c1.ai"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "BuildkiteConnector"
PLURAL = "buildkiteconnectors"
SYNC_REQUESTED_AT = f"{GROUP}/sync-requested-at"
ACCEPT_SHRINK = f"{GROUP}/accept-shrink"
