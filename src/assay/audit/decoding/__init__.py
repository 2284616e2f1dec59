"""How a model decodes, read off its signatures."""
