"""How a model is called, and with how many tokens: found by trying."""
