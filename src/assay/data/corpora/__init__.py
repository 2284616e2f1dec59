"""One file per corpus; found by the registry."""
