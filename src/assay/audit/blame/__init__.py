"""Which module a failure comes from: the modules of a run traced and paired with another's."""
