# Creates the connector in C1 and its credential, and the Secrets and the BuildkiteConnector in the cluster. Use it in
# place of spec.c1.create, not with it.
#
# This example was never applied, because that needs a C1 tenant. Its resources follow the documentation of the provider
# conductorone/conductorone of 2026; read the plan before you apply it.
#
# - The state contains all credentials, the connector's client secret too: store it where only people who may read the
#   credentials have access.
# - The provider creates the connector with the display name Baton, and sets it back to Baton at each update. After its
#   first contact the connector has its own name again.
# - A replaced credential is a new one, and the old one is revoked. The operator picks up the new one within a minute, and
#   until then C1 may reject it.

terraform {
  required_version = ">= 1.5"
  required_providers {
    conductorone = {
      source = "conductorone/conductorone"
    }
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = ">= 2.30"
    }
  }
}

variable "buildkite_api_token" {
  description = "Buildkite API token with the scopes read_organizations and read_teams."
  type        = string
  sensitive   = true
}

variable "buildkite_organization" {
  description = "Slug of the Buildkite organization."
  type        = string
}

variable "c1_client_id" {
  description = "Client ID for C1's REST API, for the operator: of a service principal with the role Connector Administrator."
  type        = string
}

variable "c1_client_secret" {
  description = "Client secret for C1's REST API."
  type        = string
  sensitive   = true
}

variable "namespace" {
  description = "Namespace of the connector and its Secret."
  type        = string
  default     = "default"
}

resource "conductorone_app" "buildkite" {
  display_name = "Buildkite"
}

# A self-hosted connector (Baton). Its data comes from the operator in the cluster.
resource "conductorone_integration_baton" "buildkite" {
  app_id = conductorone_app.buildkite.id
}

resource "conductorone_connector_credential" "buildkite" {
  app_id       = conductorone_app.buildkite.id
  connector_id = conductorone_integration_baton.buildkite.id

  # The Secret gets the new credential before the old one is revoked.
  lifecycle {
    create_before_destroy = true
  }
}

resource "kubernetes_secret_v1" "buildkite" {
  metadata {
    name      = "buildkite-credentials"
    namespace = var.namespace
  }
  type = "Opaque"
  data = {
    BATON_CLIENT_ID     = conductorone_connector_credential.buildkite.client_id
    BATON_CLIENT_SECRET = conductorone_connector_credential.buildkite.client_secret
    BATON_API_TOKEN     = var.buildkite_api_token
    BATON_ORGANIZATION  = var.buildkite_organization
  }
}

# The operator's own client of C1's REST API. With workload identity leave it out, and set
# auth.workloadIdentity.clientID below.
resource "kubernetes_secret_v1" "c1" {
  metadata {
    name      = "c1-api"
    namespace = var.namespace
  }
  type = "Opaque"
  data = {
    C1_CLIENT_ID     = var.c1_client_id
    C1_CLIENT_SECRET = var.c1_client_secret
  }
}

# Run the plan after the operator's chart is installed: the provider needs the CRD in the cluster.
resource "kubernetes_manifest" "buildkite" {
  manifest = {
    apiVersion = "connectors.c1.ai/v1alpha1"
    kind       = "BuildkiteConnector"
    metadata = {
      name      = "acme"
      namespace = var.namespace
    }
    spec = {
      credentialsSecretRef = {
        name = kubernetes_secret_v1.buildkite.metadata[0].name
      }
      c1 = {
        appID       = conductorone_app.buildkite.id
        connectorID = conductorone_integration_baton.buildkite.id
        auth = {
          secretRef = {
            name = kubernetes_secret_v1.c1.metadata[0].name
          }
        }
      }
    }
  }

  wait {
    condition {
      type   = "Ready"
      status = "True"
    }
  }
}
