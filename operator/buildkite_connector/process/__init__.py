"""What the process is on its machine: the port it serves, the files it keeps, the limits it runs under."""
