"""The one language model, its sizing and its accounting."""
