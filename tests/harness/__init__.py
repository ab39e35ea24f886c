"""What scenarios and the end-to-end suite run on: processes, control planes, kubectl."""
