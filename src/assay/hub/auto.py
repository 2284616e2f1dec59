"""Any registered architecture as a causal language model of the library transformers.

Shapes: B batch, T tokens, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from assay.hub.auto_config import AssayConfig
from assay.model.architecture import ARCHITECTURES, build_model


class AssayForCausalLM(PreTrainedModel, GenerationMixin):
    """Wraps `LanguageModel`. The architecture of a plug-in must be registered first
    (`assay.plugins.loading.load_plugin`).

    `generate` works without a cache: each token costs a forward pass over the whole text. `assay generate` decodes from
    the state instead.
    """

    config_class = AssayConfig
    config: AssayConfig
    base_model_prefix = "model"

    def __init__(self, config: AssayConfig) -> None:
        super().__init__(config)
        architecture = ARCHITECTURES.get(config.architecture)
        dimensions = architecture.config.parse(config.dimensions or {})
        wanted = torch.get_default_dtype()  # set by transformers to the type it loads weights in
        # Built on the CPU, although transformers loads on the device "meta": buffers that a layer computes once must
        # have values. In float32, as some initialisations cannot be drawn in a narrower type.
        with torch.device("cpu"), _default_dtype(torch.float32):
            self.model = build_model(architecture, dimensions, 0)
        self.model.to(wanted)
        self._constants = {module: _unsaved_buffers(module) for module in self.model.modules()}
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> CausalLMOutput | tuple[Tensor, ...]:
        """Logits [B, T, V] of `input_ids` [B, T]; with `labels` [B, T] the mean cross-entropy of next tokens in nats.

        Labels of -100 are left out. Padding must come after the text, where no position reads it; else a ValueError.
        """
        if attention_mask is not None and bool((attention_mask[:, 1:] > attention_mask[:, :-1]).any()):
            raise ValueError("attention_mask has zeros before ones: pad on the right, or give texts of equal length")
        logits = self.model(input_ids)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
        output = CausalLMOutput(loss=loss, logits=logits)
        return output.to_tuple() if return_dict is False else output

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        past_key_values: object = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        is_first_iteration: bool | None = None,
        **_: Any,
    ) -> dict[str, Tensor | None]:
        """Inputs of the next forward pass of `generate`: always the whole text, as there is no cache."""
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def _init_weights(self, module: nn.Module) -> None:
        """Draw nothing, as the model is initialised already; restore the constant buffers that transformers empties.

        These are not in the state_dict, so no file holds them.
        """
        for name, value in self._constants.get(module, {}).items():
            module.get_buffer(name).copy_(value)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """`dtype` is torch's default inside the block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _unsaved_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Copies of a module's own buffers that are not part of its state_dict."""
    kept = module.state_dict()
    return {name: value.clone() for name, value in module.named_buffers(recurse=False) if name not in kept}
