"""What an architecture is like inside, in words: sentences, four questions, and which two might be fused."""
