"""The Kubernetes adapter: what people declare comes in, what was found goes out.

`resource` is the one source of the custom resource, `crd` its definition; `watch` feeds sessions,
`api` reads Secrets and writes statuses and events.
"""
