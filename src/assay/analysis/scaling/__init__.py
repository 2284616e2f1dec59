"""Ladders of sizes: what a candidate is worth in the baseline's compute, how that changes, and what a gate may decide."""
