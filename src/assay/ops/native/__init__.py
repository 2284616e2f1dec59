"""Ops of training in C++ on CPUs: their sources, how they are built and checked, and how they are called."""
