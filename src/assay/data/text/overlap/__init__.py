"""Which documents are copies, excerpts or edits of each other."""
