"""Ladders of sizes: what a candidate is worth in the baseline's compute, and what a gate may decide from that."""
