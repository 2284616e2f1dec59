"""Ops in C++ for compiled graphs on CPUs: their sources, how they are built and checked, and how they are called."""
