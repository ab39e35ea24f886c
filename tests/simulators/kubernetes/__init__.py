"""A Kubernetes API server simulator on loopback; `contract` says what it does as a real one does."""
