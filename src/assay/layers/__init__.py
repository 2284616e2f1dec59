"""Layers: the mixer contract, and one file per mixer."""
