"""The checks of the audit, one per file: each takes a subject (the model under audit) and returns a finding."""
