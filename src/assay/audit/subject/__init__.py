"""The model under audit: a copy of it, its weights, random generators and modes, its limits, and how it decodes."""
