"""Tests that a simulator and the real server both pass; each suite inherits the class and brings its own server."""
