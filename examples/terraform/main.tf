# Creates the connector in C1 and its credential, and the Secret and the BuildkiteConnector in the cluster.
#
# This example was never applied, because that needs a C1 tenant. Its resources follow the documentation of the provider
# conductorone/conductorone of 2026; read the plan before you apply it. The state contains the credentials: store it where
# only people who may read the credentials have access.

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
    }
  }

  wait {
    condition {
      type   = "Ready"
      status = "True"
    }
  }
}
