"""Random lives of a connector, without an event loop; `life` is the start."""
