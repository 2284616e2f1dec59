"""Two mixers side by side in every block, and the fusions that make one output of both."""
