"""Checks of an arm before it is trained at a scale: document 004's smoke tests and checklist."""
