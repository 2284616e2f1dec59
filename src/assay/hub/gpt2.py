"""GPT-2 in Hugging Face's layout (here "theirs") and in assay's ("ours"): tensors and config.json, both ways.

Their projections are stored [in, out] (class Conv1D), ours [out, in]; queries, keys and values follow each other in one
matrix in both.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from assay.errors import RequestError
from assay.model.presets.gpt2 import GPT2Config

BLOCK = {
    "mixer_norm": "ln_1",
    "mixer.qkv": "attn.c_attn",
    "mixer.output": "attn.c_proj",
    "channel_mixer_norm": "ln_2",
    "channel_mixer.up": "mlp.c_fc",
    "channel_mixer.down": "mlp.c_proj",
}
"""{our name inside a block: theirs}."""
WHOLE = {
    "embedding.tokens": "transformer.wte.weight",
    "embedding.positions": "transformer.wpe.weight",
    "norm.weight": "transformer.ln_f.weight",
    "norm.bias": "transformer.ln_f.bias",
    "untied_head": "lm_head.weight",
}
MASK = re.compile(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)")
"""Names of buffers in old checkpoints that hold the causal mask."""

DIMENSIONS = {
    "vocab_size": "vocab_size",
    "d_model": "n_embd",
    "n_layers": "n_layer",
    "n_heads": "n_head",
    "max_positions": "n_positions",
    "d_ff": "n_inner",
}
"""{our key: theirs}."""
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
PUBLISHED: dict[str, Any] = {
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
    "n_inner": None,
    "tie_word_embeddings": True,
    **dict.fromkeys(DROPOUTS, 0.1),
}
"""transformers' defaults for keys that are missing in config.json."""
FIXED: dict[str, tuple[Any, ...]] = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
"""{their key: values of it that assay's gpt2 can represent}, transformers' default first."""


def gpt2_to_assay(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their tensors under our names, for `load_state_dict`; those we do not know are a RequestError.

    Names may lack the prefix "transformer.", as in the published checkpoints; masks are left out, and so is a head
    that is the token table itself (one storage, or `lm_head.weight` missing).
    """
    prefixed = {
        name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}": tensor
        for name, tensor in tensors.items()
    }
    ours = {}
    for name, tensor in prefixed.items():
        if not MASK.fullmatch(name):
            ours[_our_name(name)] = tensor.t().contiguous() if _is_projection(name) else tensor
    head, tokens = ours.get("untied_head"), ours.get("embedding.tokens")
    if head is not None and tokens is not None and head.data_ptr() == tokens.data_ptr():
        del ours["untied_head"]
    return ours


def assay_to_gpt2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under their names; those that GPT-2 does not have are a RequestError."""
    theirs = {}
    for ours, tensor in tensors.items():
        name = _their_name(ours)
        theirs[name] = tensor.t().contiguous() if _is_projection(name) else tensor
    return theirs


def config_from_hf(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our dimensions from their config.json; an option of theirs that we do not have is a RequestError."""
    for key, possible in FIXED.items():
        if config.get(key, possible[0]) not in possible:
            raise RequestError(f"config.json: {key} is {config[key]!r}; assay's gpt2 has {possible[0]!r} only")
    given = {**PUBLISHED, **config}
    dropouts = {given[key] for key in DROPOUTS}
    if len(dropouts) > 1:
        values = ", ".join(f"{key} {given[key]}" for key in DROPOUTS)
        raise RequestError(f"config.json: {values}; assay has one dropout for all three: give them one value")
    heads = "tied" if given["tie_word_embeddings"] else "untied"
    return {**{ours: given[theirs] for ours, theirs in DIMENSIONS.items()}, "heads": heads, "dropout": dropouts.pop()}


def config_to_hf(config: GPT2Config, tied: bool) -> dict[str, Any]:
    """Their config.json for a model of ours, without ids of special tokens; RequestError where theirs differs.

    `tied`: whether its head is the token table.
    """
    if config.body != "native":
        raise RequestError(f"body: {config.body!r} given; only the native body of gpt2 is transformers' GPT-2")
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **{theirs: getattr(config, ours) for ours, theirs in DIMENSIONS.items()},
        "tie_word_embeddings": tied,
        **dict.fromkeys(DROPOUTS, config.dropout),
        **{key: values[0] for key, values in FIXED.items()},
    }


def _is_projection(their_name: str) -> bool:
    return their_name.endswith(".weight") and ".c_" in their_name


def _our_name(theirs: str) -> str:
    for ours, whole in WHOLE.items():
        if theirs == whole:
            return ours
    match = re.fullmatch(r"transformer\.h\.(\d+)\.(.+)\.(weight|bias)", theirs)
    for ours, inner in BLOCK.items():
        if match and match[2] == inner:
            return f"blocks.{match[1]}.{ours}.{match[3]}"
    raise RequestError(f"model.safetensors: tensor {theirs!r} is none of GPT-2's; a GPT2LMHeadModel would do")


def _their_name(ours: str) -> str:
    if ours in WHOLE:
        return WHOLE[ours]
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)\.(weight|bias)", ours)
    if match is None or match[2] not in BLOCK:
        raise RequestError(f"tensor {ours!r} has no place in GPT-2; a model of the gpt2 family would do")
    return f"transformer.h.{match[1]}.{BLOCK[match[2]]}.{match[3]}"
