"""Studies: runs of several arms and seeds under one protocol, from the request to the record, in workers or here.

An arm is an architecture with fixed dimensions and training settings; the arms of a study are compared.
"""
