"""Finds the model that the argument SUBJECT of a command names; one file for each kind.

SUBJECT = ARM | RUN | STUDY | FILE.py[:NAME] | hf:PATH
"""
