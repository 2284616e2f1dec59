"""From the runs of a gate and a rule to GO, NO-GO or UNDECIDED; no torch."""
