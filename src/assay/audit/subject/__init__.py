"""The model under audit: a copy on loan, its weights, generators and modes, its size, and how it decodes."""
