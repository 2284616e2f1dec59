"""The proportions of published models: depth, heads and widths that are natural at a model width."""


def transformer_depth(d_model: int) -> float:
    """8 layers at a width of 144 (the default GPT-1), 12 at 768 (GPT-1 and GPT-2 as published), by a power law."""
    return d_model / 18 if d_model <= 144 else 8 * (d_model / 144) ** 0.25


def n_heads_of(d_model: int) -> int:
    """Heads of 32 to 36 where the width allows it, of 64 from 512 on."""
    natural = 64 if d_model >= 512 else 36
    widths = (width for width in range(1, 2 * natural + 1) if d_model % width == 0)
    return d_model // min(widths, key=lambda width: (abs(width - natural), -width))


def head_dim_of(d_model: int, inner_width: int) -> int:
    """Heads of 64 as published, from a d_model of 512 on; below it of 32; smaller where only that divides.

    `inner_width` is the number of channels that the heads share.
    """
    widest = 64 if d_model >= 512 else 32
    return next(width for width in (64, 32, 16, 8, 4, 2, 1) if width <= widest and inner_width % width == 0)


def swiglu_width(d_model: int) -> int:
    """8/3 of d_model rounded up to a multiple of 8, what a 4 d_model MLP costs (Shazeer 2020)."""
    return -(-8 * d_model // 24) * 8
