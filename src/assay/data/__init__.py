"""Data: corpora of text and generated tasks, tokenizers, splits, training batches and windows to score."""
