"""One file per recurrence: the loop that defines it and the chunked form that is fast."""
