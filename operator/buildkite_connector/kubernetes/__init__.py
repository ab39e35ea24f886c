"""The Kubernetes adapter: what people declare comes in, what was found goes out.

`schema` is the one source of the custom resource and its CRD, `resource` reads one. `watch` feeds the `controller`;
`client` reads Secrets and writes statuses and events.
"""
