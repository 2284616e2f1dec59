"""How far the difference of two arms may be from what was measured: over seeds, over texts, over looks."""
