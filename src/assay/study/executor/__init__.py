"""Carrying out the runs of a study: here, or in worker processes."""
