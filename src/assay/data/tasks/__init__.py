"""Tasks, one a file; every module here is found by the registry."""
