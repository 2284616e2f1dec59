"""How many windows one forward pass reads, so that neither its tokens nor what it carries fill the memory."""

from assay.model.lm import LanguageModel

CARRIED_BYTES = 1 << 30
"""Of states and caches that a forward pass holds: in a large model they outweigh all else where windows are short."""
FLOAT32_BYTES = 4


def windows_at_once(model: LanguageModel, tokens: int, pass_tokens: int) -> int:
    """Windows of `tokens` that have `pass_tokens` and CARRIED_BYTES at most together; at least one."""
    carried = sum(
        layer.state_bytes(tokens, FLOAT32_BYTES) for block in model.sequence_blocks() for layer in block.layers()
    )
    return max(1, min(pass_tokens // max(1, tokens), CARRIED_BYTES // max(1, carried)))
