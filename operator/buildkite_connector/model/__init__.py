"""What everybody talks about: frozen values without I/O, clock or framework.

Start at `directory` (what is synced), `spec` (what is desired), `status` (what is reported), `failure` (what can go
wrong).
"""
