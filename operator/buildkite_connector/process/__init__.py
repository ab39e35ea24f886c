"""The process on its machine: the port that it serves, and the files that it keeps."""
