"""In-memory ports and virtual time: what unit tests of the core run on."""
