"""Statistics over records; no torch."""
