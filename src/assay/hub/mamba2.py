"""Mamba-2 in Hugging Face's layout (Mamba2ForCausalLM, here "theirs") and in assay's ("ours"), both ways.

Their convolution's weight is [channels, 1, width], ours [channels, width]; everything else differs in name only.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from assay.errors import RequestError
from assay.model.presets.mamba2 import Mamba2Config

BLOCK = {
    "mixer_norm.weight": "norm.weight",
    "mixer.in_proj.weight": "mixer.in_proj.weight",
    "mixer.conv_weight": "mixer.conv1d.weight",
    "mixer.conv_bias": "mixer.conv1d.bias",
    "mixer.dt_bias": "mixer.dt_bias",
    "mixer.A_log": "mixer.A_log",
    "mixer.D": "mixer.D",
    "mixer.norm.weight": "mixer.norm.weight",
    "mixer.out_proj.weight": "mixer.out_proj.weight",
}
"""{our name inside a block: theirs}."""
WHOLE = {
    "embedding.tokens": "backbone.embeddings.weight",
    "norm.weight": "backbone.norm_f.weight",
    "untied_head": "lm_head.weight",
}
OUR_NAMES = {theirs: ours for ours, theirs in BLOCK.items()}
OUR_WHOLE = {theirs: ours for ours, theirs in WHOLE.items()}

DIMENSIONS = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "d_state": "state_size",
    "head_dim": "head_dim",
    "expand": "expand",
    "n_groups": "n_groups",
    "conv_width": "conv_kernel",
}
"""{our key: theirs}."""
PUBLISHED: dict[str, Any] = {
    "vocab_size": 32768,
    "hidden_size": 4096,
    "num_hidden_layers": 64,
    "state_size": 128,
    "num_heads": 128,
    "head_dim": 64,
    "expand": 2,
    "n_groups": 8,
    "conv_kernel": 4,
    "tie_word_embeddings": False,
}
"""transformers' defaults for keys that are missing in config.json."""
FIXED: dict[str, Any] = {
    "hidden_act": "silu",
    "layer_norm_epsilon": 1e-5,
    "use_bias": False,
    "use_conv_bias": True,
}
"""{their key: the only value that assay's mamba2 can represent, which is also transformers' default}."""


def mamba2_to_assay(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their tensors under our names, for `load_state_dict`; those we do not know are a RequestError.

    A head that is the token table itself (one storage, or `lm_head.weight` missing) is left out.
    """
    ours = {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"backbone\.layers\.(\d+)\.(.+)", name)
        if name in OUR_WHOLE:
            ours[OUR_WHOLE[name]] = tensor
        elif match and match[2] in OUR_NAMES:
            our_name = f"blocks.{match[1]}.{OUR_NAMES[match[2]]}"
            ours[our_name] = tensor[:, 0] if our_name.endswith("conv_weight") else tensor
        else:
            raise RequestError(f"model.safetensors: tensor {name!r} is none of Mamba-2's; a Mamba2ForCausalLM would do")
    head, tokens = ours.get("untied_head"), ours.get("embedding.tokens")
    if head is not None and tokens is not None and head.data_ptr() == tokens.data_ptr():
        del ours["untied_head"]
    return ours


def assay_to_mamba2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under their names; those that Mamba-2 does not have are a RequestError."""
    theirs = {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        if name in WHOLE:
            theirs[WHOLE[name]] = tensor
        elif match and match[2] in BLOCK:
            their_name = f"backbone.layers.{match[1]}.{BLOCK[match[2]]}"
            theirs[their_name] = tensor[:, None] if name.endswith("conv_weight") else tensor
        else:
            raise RequestError(f"tensor {name!r} has no place in Mamba-2; a model of the mamba2 architecture would do")
    return theirs


def config_from_hf(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our dimensions from their config.json; an option of theirs that we do not have is a RequestError."""
    for key, value in FIXED.items():
        if config.get(key, value) != value:
            raise RequestError(f"config.json: {key} is {config[key]!r}; assay's mamba2 has {value!r} only")
    low, high = config.get("time_step_limit") or (0.0, math.inf)
    if (float(low), float(high)) != (0.0, math.inf):
        raise RequestError(f"config.json: time_step_limit is {[low, high]}; assay's mamba2 has no limit: [0, Infinity]")
    given = {**PUBLISHED, **config}
    heads, inner = given["num_heads"] * given["head_dim"], given["expand"] * given["hidden_size"]
    if heads != inner:
        raise RequestError(f"config.json: num_heads * head_dim is {heads}; it must be expand * hidden_size ({inner})")
    return {ours: given[theirs] for ours, theirs in DIMENSIONS.items()} | {
        "heads": "tied" if given["tie_word_embeddings"] else "untied"
    }


def config_to_hf(config: Mamba2Config, tied: bool) -> dict[str, Any]:
    """Their config.json for a model of ours, without ids of special tokens; RequestError where theirs differs.

    `tied`: whether its head is the token table.
    """
    if config.body != "native":
        raise RequestError(f"body: {config.body!r} given; only the native body of mamba2 is transformers' Mamba-2")
    if config.dropout:
        raise RequestError(f"dropout: {config.dropout} given; transformers' Mamba-2 has none: 0 would do")
    return {
        "architectures": ["Mamba2ForCausalLM"],
        "model_type": "mamba2",
        **{theirs: getattr(config, ours) for ours, theirs in DIMENSIONS.items()},
        "tie_word_embeddings": tied,
        "num_heads": config.expand * config.d_model // config.head_dim,
        **FIXED,
    }
