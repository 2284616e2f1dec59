"""Runs under one protocol."""
