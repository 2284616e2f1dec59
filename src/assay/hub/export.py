"""Folders in Hugging Face's layout: config.json, model.safetensors and the tokenizer, for transformers to load."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import processors
from torch import Tensor

from assay.data.text.tokenizer import Tokenizer
from assay.hub import gpt2, mamba2
from assay.hub.folder import CONFIG, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS
from assay.hub.import_ import OWN_PREFIX, OWN_TYPE, with_new_folder
from assay.hub.tensors import write_safetensors
from assay.model.architecture import Architecture, ModelConfig, is_tied
from assay.model.lm import LanguageModel
from assay.model.presets.gpt2 import GPT2ISH, GPT2Config
from assay.model.presets.mamba2 import Mamba2Config

GPT2_FAMILY = {"gpt2", *GPT2ISH}


def export_model(
    architecture: Architecture,
    config: ModelConfig,
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    begins_with_bos: bool,
    folder: Path,
) -> str:
    """Write `folder` atomically and return the model_type in its config.json.

    gpt2 with its family and mamba2 become transformers' own classes. Others, and these with a body or options that
    transformers does not have, get the model_type "assay", which `import assay.hub` registers with transformers. A
    folder that holds files already is a RequestError.
    """
    described, tensors = _layout(architecture, config, model.state_dict())
    ends = {} if tokenizer is None else {"bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.eos}
    described |= {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None, "dtype": "float32", **ends}

    def write(part: Path) -> None:
        write_safetensors(part / WEIGHTS, tensors)
        _write_json(part / CONFIG, described)
        _write_json(part / "generation_config.json", {"use_cache": described["model_type"] != OWN_TYPE, **ends})
        if tokenizer is not None:
            _write_tokenizer(tokenizer, begins_with_bos, model.max_positions, part)

    with_new_folder(folder, "--to", write)
    return str(described["model_type"])


def _layout(
    architecture: Architecture, config: ModelConfig, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(contents of config.json, tensors by name) for the layout that fits the model."""
    tied = is_tied(architecture, config)
    if architecture.name in GPT2_FAMILY and isinstance(config, GPT2Config) and config.body == "native":
        return gpt2.config_to_hf(config, tied), gpt2.assay_to_gpt2(tensors)
    plain = config.body == "native" and not config.dropout
    if architecture.name == "mamba2" and isinstance(config, Mamba2Config) and plain and config.short_conv:
        return mamba2.config_to_hf(config, tied), mamba2.assay_to_mamba2(tensors)
    described = {
        "architectures": ["AssayForCausalLM"],
        "model_type": OWN_TYPE,
        "architecture": architecture.name,
        "dimensions": config.model_dump(mode="json"),
        "tie_word_embeddings": False,
    }
    return described, {OWN_PREFIX + name: tensor for name, tensor in tensors.items()}


def _write_tokenizer(tokenizer: Tokenizer, begins_with_bos: bool, max_positions: int | None, folder: Path) -> None:
    """Write tokenizer.json unchanged, except that it puts BOS before a text where the model was trained so."""
    tokenizer.save(folder / TOKENIZER)
    inner = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER))
    bos, eos = inner.id_to_token(tokenizer.bos), inner.id_to_token(tokenizer.eos)
    if begins_with_bos:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, tokenizer.bos)]
        )
        inner.save(str(folder / TOKENIZER))
    options = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "split_special_tokens": True,  # "<|eos|>" in a text is text
        "clean_up_tokenization_spaces": False,
    }
    _write_json(folder / TOKENIZER_CONFIG, options | ({"model_max_length": max_positions} if max_positions else {}))


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
