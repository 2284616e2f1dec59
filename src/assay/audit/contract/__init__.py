"""Checks of what an architecture must keep besides being sound, one file per kind of promise (costs, weights, ...)."""
