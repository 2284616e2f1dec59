"""Ids that usual tokenizers give to separators and white space, which a model may treat in a special way undeclared."""

USUAL_IDS = (
    *(2, 3),  # bos, eos, pad or unknown of SentencePiece and BERT
    *(10, 13, 32),  # line feed, carriage return and space as bytes; line feed in Llama
    *(198, 220),  # line feed and space of GPT-2
    256,  # the first id after the bytes
    50256,  # <|endoftext|> of GPT-2
    *(100257, 100258),  # <|endoftext|> of cl100k, and the next one
    *(128000, 128001),  # Llama 3's begin and end of a text
    *(151643, 151645),  # Qwen's <|endoftext|> and <|im_end|>
    199999,  # <|endoftext|> of o200k
)


def usual_ids(vocab_size: int) -> tuple[int, ...]:
    """Those that are ids of a vocabulary of this size."""
    return tuple(id_ for id_ in USUAL_IDS if id_ < vocab_size)
