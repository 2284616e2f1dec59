"""Every part of a model is drawn from its own generator: a change in one part changes no weight of another."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.layers.attention import CausalAttention
from assay.layers.basic import GeluMLP
from assay.model.architecture import ARCHITECTURES, Architecture, ModelConfig, assemble, build_model
from assay.model.initialisation import initialise
from assay.model.lm import Block, LanguageModel

NAMES = ARCHITECTURES.names()
CHANGED_BLOCK = 2
VARIANTS = pytest.mark.parametrize(
    "options", [{}, {"body": "common"}, {"initialisation": "blinkdl"}], ids=["own", "common", "blinkdl"]
)


def config_of(name: str, **options: object) -> ModelConfig:
    """The smallest configuration of four blocks or more, so that there is one after the one that changes."""
    architecture = ARCHITECTURES.get(name)
    tiny = dict(architecture.tiny)
    if "pattern" in tiny:
        tiny["pattern"] *= 2
    else:
        tiny["n_layers"] = 4
    return architecture.config.parse({**tiny, **options})


def weights(model: LanguageModel, without: str = "-") -> dict[str, Tensor]:
    return {name: weight for name, weight in model.named_parameters() if not name.startswith(without)}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    assert one
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def with_another(architecture: Architecture, part: str, make: Callable[[Any], nn.Module]) -> Architecture:
    """The recipe with another layer for `part` in one of its blocks."""
    own = getattr(architecture, part)
    other = {part: lambda config, index: make(config) if index == CHANGED_BLOCK else own(config, index)}
    return dataclasses.replace(architecture, **other)


@VARIANTS
@pytest.mark.parametrize("name", NAMES)
def test_another_mixer_in_one_block_moves_no_other_part(name: str, options: dict[str, str]) -> None:
    architecture, config = ARCHITECTURES.get(name), config_of(name, **options)
    other = with_another(architecture, "mixer", lambda config: CausalAttention(config.d_model, 2, bias=True))
    changed = f"blocks.{CHANGED_BLOCK}.mixer."
    one, two = build_model(architecture, config, 0), build_model(other, config, 0)
    assert same(weights(one, changed), weights(two, changed))


@pytest.mark.parametrize("name", NAMES)
def test_another_channel_mixer_in_one_block_moves_no_other_part(name: str) -> None:
    architecture, config = ARCHITECTURES.get(name), config_of(name)
    other = with_another(architecture, "channel_mixer", lambda config: GeluMLP(config.d_model, 5))
    changed = f"blocks.{CHANGED_BLOCK}.channel_mixer"  # its norm too, as mamba2 has neither
    one, two = build_model(architecture, config, 0), build_model(other, config, 0)
    assert same(weights(one, changed), weights(two, changed))


@VARIANTS
@pytest.mark.parametrize("name", NAMES)
def test_learned_positions_move_no_other_part(name: str, options: dict[str, str]) -> None:
    architecture, config = ARCHITECTURES.get(name), config_of(name, **options)
    models = [
        build_model(dataclasses.replace(architecture, max_positions=lambda _, n=n: n), config, 0) for n in (None, 16)
    ]
    assert (models[0].embedding.positions is None) is not (models[1].embedding.positions is None)
    assert same(*(weights(model, "embedding.positions") for model in models))


@VARIANTS
@pytest.mark.parametrize("name", NAMES)
def test_an_untied_head_moves_no_other_part(name: str, options: dict[str, str]) -> None:
    architecture = ARCHITECTURES.get(name)
    models = [build_model(architecture, config_of(name, heads=heads, **options), 0) for heads in ("tied", "untied")]
    assert models[1].untied_head is not None
    assert not torch.equal(models[1].untied_head, models[1].embedding.tokens)
    # A table that was drawn to stand beside a head is drawn anew where it is the head itself.
    drawn_anew = name in ("rwkv6", "rwkv7", "twin") and not options
    if drawn_anew:
        assert not torch.equal(models[0].embedding.tokens, models[1].embedding.tokens)
    others = [weights(model, "untied_head") for model in models]
    for of in others:
        of.pop("embedding.tokens" if drawn_anew else "", None)
    assert same(*others)


@VARIANTS
@pytest.mark.parametrize("name", NAMES)
def test_a_further_block_moves_no_other_part(name: str, options: dict[str, str]) -> None:
    """A block is added, with scales that depend on depth held fixed: these may differ between depths."""
    architecture, config = ARCHITECTURES.get(name), config_of(name, **options)
    one, two = assemble(architecture, config), assemble(architecture, config)
    last = len(two.blocks)
    two.blocks.append(Block(CausalAttention(config.d_model, 2), None, lambda: architecture.norm(config.d_model)))
    for model in (one, two):
        initialise(model, config.initialisation, 0)
    assert same(weights(one), weights(two, f"blocks.{last}."))


@pytest.mark.parametrize("name", NAMES)
def test_a_deeper_configuration_shares_what_knows_nothing_of_depth(name: str) -> None:
    architecture, config = ARCHITECTURES.get(name), config_of(name)
    deeper: dict[str, Any] = {"n_layers": 5}
    if "pattern" in architecture.tiny:
        pattern = config.model_dump()["pattern"]
        deeper = {"pattern": pattern + pattern[-1]}
    models = [build_model(architecture, given, 0) for given in (config, config_of(name, **deeper))]
    assert same(*(weights(model, "blocks.") for model in models))
    if name in ("gpt1", "delta-net", "gated-delta-net", "groundthink", "groundthink-v7"):  # scale nothing by depth
        added = f"blocks.{len(models[0].blocks)}."
        assert same(weights(models[0]), weights(models[1], added))


@pytest.mark.parametrize("name", NAMES)
def test_each_parameter_is_of_one_part(name: str) -> None:
    architecture = ARCHITECTURES.get(name)
    model = assemble(architecture, config_of(name, heads="untied"))
    parts = list(model.parts())
    assert len({(part.role, part.block) for part in parts}) == len(parts)
    drawn_by: dict[str, list[str]] = {key: [] for key in weights(model)}
    for part in parts:
        with torch.no_grad():
            for weight in model.parameters():
                weight.fill_(torch.nan)
            part.draw(torch.Generator().manual_seed(0))
        for key, weight in weights(model).items():
            if not weight.isnan().any():
                drawn_by[key].append(f"{part.block} {part.role}")
    assert {key: len(of) for key, of in drawn_by.items()} == dict.fromkeys(drawn_by, 1)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_are_drawn_differently(name: str) -> None:
    mixers = [dict(block.mixer.named_parameters()) for block in build(name).sequence_blocks()]
    step = len(ARCHITECTURES.get(name).tiny.get("pattern", " "))  # from a mixer to the next of its kind
    for one, other in zip(mixers, mixers[step:], strict=False):
        assert any(key in other and not torch.equal(one[key], other[key]) for key in one)


def build(name: str, seed: int = 0, replicate: int = 0, **options: object) -> LanguageModel:
    return build_model(ARCHITECTURES.get(name), config_of(name, **options), seed, replicate)


@pytest.mark.parametrize("name", NAMES)
def test_a_replicate_is_another_draw_for_the_same_seed(name: str) -> None:
    none = build_model(ARCHITECTURES.get(name), config_of(name), 3)
    assert same(weights(none), weights(build(name, 3, 0)))
    assert same(weights(build(name, 3, 1)), weights(build(name, 3, 1)))
    for seed, replicate in ((3, 1), (3, 2), (4, 0), (1, 3)):
        other = build(name, seed, replicate)
        assert not torch.equal(none.embedding.tokens, other.embedding.tokens)
        assert mixers_drawn_alike(none, other) == []


@VARIANTS
@pytest.mark.parametrize("name", NAMES)
def test_replicates_of_a_common_body_differ_in_the_mixers_only(name: str, options: dict[str, str]) -> None:
    options = {**options, "body": "common"}
    one, other = (build(name, 3, replicate, heads="untied", **options) for replicate in (0, 1))
    outside = [{key: w for key, w in weights(model).items() if ".mixer." not in key} for model in (one, other)]
    assert same(*outside)
    assert {"embedding.tokens", "untied_head", "blocks.0.channel_mixer.up.weight"} <= outside[0].keys()
    assert mixers_drawn_alike(one, other) == []


def mixers_drawn_alike(one: LanguageModel, other: LanguageModel) -> list[int]:
    """The blocks whose mixers have the same weights in both."""
    pairs = zip(one.sequence_blocks(), other.sequence_blocks(), strict=True)
    return [i for i, (a, b) in enumerate(pairs) if same(weights_of(a.mixer), weights_of(b.mixer))]


def weights_of(layer: nn.Module) -> dict[str, Tensor]:
    return dict(layer.named_parameters())


def test_one_generator_for_all_parts_would_be_noticed() -> None:
    """A counter-example: if all parts were drawn from one generator, parts after a replaced mixer would change."""
    architecture, config = ARCHITECTURES.get("gpt1"), config_of("gpt1")
    other = with_another(architecture, "mixer", lambda config: GeluMLP(config.d_model, 5))
    models = [assemble(recipe, config) for recipe in (architecture, other)]
    for model in models:
        model.reset_parameters(torch.Generator().manual_seed(0))
    changed = f"blocks.{CHANGED_BLOCK}.mixer."
    assert not same(*(weights(model, changed) for model in models))


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_threads_moves_no_bit(name: str) -> None:
    """A run in a worker of one thread starts from the weights of a run that has all cores."""
    item = ARCHITECTURES.get(name)
    config = item.config.parse({**item.tiny, "vocab_size": 509})
    threads, built = torch.get_num_threads(), []
    try:
        for count in (1, 4):
            torch.set_num_threads(count)
            built.append(build_model(item, config, 3).state_dict())
    finally:
        torch.set_num_threads(threads)
    one, four = built
    assert all(torch.equal(one[name], four[name]) for name in one)


@pytest.mark.parametrize("name", NAMES)
def test_the_model_draws_nothing_of_a_layers(name: str) -> None:
    """A layer alone with the same generator gives the same weights."""
    model = assemble(ARCHITECTURES.get(name), config_of(name))
    model.reset_parameters(torch.Generator().manual_seed(9))
    block, generator = model.sequence_blocks()[0], torch.Generator().manual_seed(9)
    inside = {key: weight.clone() for key, weight in block.mixer.named_parameters()}
    for layer in (model.embedding, block.mixer_norm, block.mixer):
        layer.reset_parameters(generator)
    assert same(inside, dict(block.mixer.named_parameters()))


@pytest.mark.parametrize("name", NAMES)
def test_blinkdl_begins_with_a_small_embedding(name: str) -> None:
    assert build(name, initialisation="blinkdl").embedding.tokens.abs().max() <= 1e-4
