"""The resource's schema: spec, status and the definition that is generated from them (`crd`)."""
