"""What arms have in common: with a common body all but the mixers, to the byte; natively what their authors have."""

import functools
from typing import Any

import pytest
import torch

from assay.model.architecture import ARCHITECTURES, TABLE_STD, ModelConfig, build_model, is_tied
from assay.model.lm import LanguageModel
from assay.model.optimizer_roles import Role, optimizer_roles

NAMES = ARCHITECTURES.names()
N_LAYERS, D_FF, VOCAB_SIZE = 4, 40, 61
WIDTHS = (32, 64, 96)
COMMON = {"body": "common", "d_ff": D_FF, "vocab_size": VOCAB_SIZE}
Outside = dict[str, tuple[torch.Tensor, Role]]


def config_of(name: str, d_model: int, **options: Any) -> ModelConfig:
    """The smallest configuration of four blocks at another width; heads that depend on it follow."""
    architecture = ARCHITECTURES.get(name)
    tiny = {**architecture.tiny, "d_model": d_model}
    if "n_heads" in tiny and "head_dim" in tiny:
        tiny["head_dim"] = tiny["head_dim"] * d_model // 32
    if "pattern" in tiny:
        tiny["pattern"] = (tiny["pattern"] * N_LAYERS)[:N_LAYERS]
    else:
        tiny["n_layers"] = N_LAYERS
    return architecture.config.parse({**tiny, **options})


def outside_the_mixers(name: str, **options: Any) -> Outside:
    """Every parameter but the mixers' and the learned positions, with what the optimizer does with it."""
    architecture = ARCHITECTURES.get(name)
    model = build_model(architecture, config_of(name, **COMMON, **options), seed=3)
    return {
        key: (parameter.detach(), role)
        for key, parameter, role in optimizer_roles(model)
        if ".mixer." not in key and key != "embedding.positions"
    }


reference = functools.cache(functools.partial(outside_the_mixers, "transformer++"))


@pytest.mark.parametrize("options", [{}, {"initialisation": "blinkdl"}], ids=["own", "blinkdl"])
@pytest.mark.parametrize("heads", ["tied", "untied"])
@pytest.mark.parametrize("name", NAMES)
def test_a_common_body_is_one_body(name: str, heads: str, options: dict[str, str]) -> None:
    """To the byte, at equal width, depth, d_ff and seed; decay and rates too."""
    for d_model in WIDTHS if not options else WIDTHS[:1]:
        expected = reference(d_model=d_model, heads=heads, **options)
        found = outside_the_mixers(name, d_model=d_model, heads=heads, **options)
        assert found.keys() == expected.keys()
        assert ("untied_head" in found) == (heads == "untied")
        for key, (weight, role) in found.items():
            assert torch.equal(weight, expected[key][0]), (d_model, key)
            assert role == expected[key][1], (d_model, key)


@pytest.mark.parametrize("name", NAMES)
def test_a_common_body_has_one_epsilon_and_one_dropout(name: str) -> None:
    model = build_model(ARCHITECTURES.get(name), config_of(name, 32, **COMMON), 0)
    norms = [model.norm, *(norm for block in model.sequence_blocks() for norm in (block.mixer_norm,))]
    assert {(type(norm).__name__, norm.eps) for norm in norms} == {("RMSNorm", 1e-6)}
    assert model.embedding.norm is None
    assert {block.dropout.p for block in model.sequence_blocks()} | {model.embedding.dropout.p} == {0.0}


def test_dropout_that_is_asked_for_is_that_of_a_common_body_too() -> None:
    assert config_of("gpt2ish-test", 32).dropout == 0.1
    assert config_of("gpt2ish-test", 32, body="common").dropout == 0.0
    assert config_of("gpt2ish-test", 32, body="common", dropout=0.2).dropout == 0.2


def test_heads_are_untied_unless_asked_otherwise() -> None:
    published = {name: is_tied(ARCHITECTURES.get(name), config_of(name, 32, heads="published")) for name in NAMES}
    assert {name for name, tied in published.items() if tied} == {
        *("gpt1", "gpt2", "gpt2ish", "gpt2ish-large", "gpt2ish-med", "gpt2ish-test", "s-gpt2ish"),
        *("groundthink", "groundthink-v7", "mamba2"),
    }
    for name in NAMES:
        architecture = ARCHITECTURES.get(name)
        assert not is_tied(architecture, config_of(name, 32))
        assert is_tied(architecture, config_of(name, 32, heads="tied"))
        model = build_model(architecture, config_of(name, 32, heads="published"), 0)
        assert (model.untied_head is None) == published[name]


def native(name: str, **options: Any) -> LanguageModel:
    return build_model(ARCHITECTURES.get(name), config_of(name, 64, vocab_size=1000, **options), 0)


@pytest.mark.parametrize("name", ["rwkv6", "rwkv7", "twin"])
def test_a_table_of_1e_4_is_no_head(name: str) -> None:
    """As published beside a head of its own; tied, it is drawn as one that heads can live with."""
    table = native(name).embedding.tokens
    assert 0.9e-4 < table.abs().max().item() <= 1.0001e-4  # the nearest float32 is above 1e-4
    assert native(name, heads="tied").embedding.tokens.std().item() == pytest.approx(TABLE_STD, rel=0.05)


@pytest.mark.parametrize("name", ["gpt1", "mamba2", "delta-net"])
def test_a_table_that_heads_can_live_with_stays_as_published(name: str) -> None:
    tied, untied = (native(name, heads=heads).embedding.tokens for heads in ("tied", "untied"))
    assert torch.equal(tied, untied)


def test_heads_are_drawn_as_their_authors_draw_them() -> None:
    """RWKV's is orthogonal with gain 0.5 sqrt(V / D); Mamba-2's, where it is untied, is what torch.nn.Linear draws."""
    for name in ("rwkv6", "rwkv7", "twin"):
        rwkv = native(name).untied_head
        assert rwkv is not None
        torch.testing.assert_close(rwkv.T @ rwkv, 0.25 * 1000 / 64 * torch.eye(64), rtol=1e-4, atol=1e-4)
    mamba = native("mamba2").untied_head
    assert mamba is not None
    assert mamba.abs().max().item() <= 1 / 8
    assert mamba.std().item() == pytest.approx(1 / 8 / 3**0.5, rel=0.05)


def test_rates_and_decay_are_those_of_the_authors() -> None:
    """RWKV doubles the rate of the decay's base; Mamba's grouping leaves the token table undecayed."""
    for name, doubled in (("rwkv7", "mixer.decay.base"), ("rwkv6", "mixer.decay_base")):
        factors = {key: role.rate_factor for key, _, role in optimizer_roles(native(name)) if role.rate_factor != 1}
        assert factors == {f"blocks.{block}.{doubled}": 2.0 for block in range(N_LAYERS)}
    for name, decayed in (("mamba2", False), ("rwkv7", True), ("delta-net", True), ("transformer++", True)):
        roles = {key: role.decay for key, _, role in optimizer_roles(native(name))}
        assert roles["embedding.tokens"] is decayed
        assert roles["untied_head"]


def test_what_tied_embeddings_said_is_read() -> None:
    architecture = ARCHITECTURES.get("gpt1")
    for old, heads in ((True, "tied"), (False, "untied")):
        assert architecture.config.parse({"tied_embeddings": old}) == architecture.config.parse({"heads": heads})
