"""A Kubernetes API server double on loopback; `contract` says what it does as a real one does."""
