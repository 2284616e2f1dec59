"""One file per family of architectures; found by the registry."""
