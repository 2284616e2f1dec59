"""Tasks, one per file; every module here is found by the registry."""
