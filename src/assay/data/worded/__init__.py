"""Tasks in words: sequences of text that go through the run's tokenizer, with one question at the end of each."""
