"""The Kubernetes adapter: it reads resources and Secrets, and writes statuses and events.

`handlers` is the operator as kopf runs it: begin there. Through `watch` and `informer` it feeds the `controller`, which
has a connector for each resource. `client` reads Secrets and writes statuses and events; `schema` is the one source of
the custom resource and its CRD, `resource` reads one.
"""
