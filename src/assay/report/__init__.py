"""Figures and pages from records; no torch."""
