"""What is about the text and not about a model: copies between splits, and what counting alone reaches."""
