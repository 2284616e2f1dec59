"""From documents to token ids: reading, splitting, tokenizers, the cache."""
