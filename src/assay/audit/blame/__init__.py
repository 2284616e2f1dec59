"""Which module a failure comes from: what each module gets and returns is compared between two runs of the model."""
