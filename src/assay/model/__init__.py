"""The language model that every architecture is built into, its sizing and its accounting."""
