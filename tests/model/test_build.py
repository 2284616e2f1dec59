"""`assay.build` gives the same weights for a seed everywhere, and refuses what it does not know."""

from typing import Any

import pytest
import torch

import assay
from assay.errors import RequestError
from assay.model.accounting import count_parameters
from assay.model.architecture import ARCHITECTURES, AttentionHeads
from assay.records import Match

TINY: dict[str, Any] = {"d_model": 32, "n_layers": 2, "n_heads": 2}


def test_a_seed_decides_the_weights_whatever_was_drawn_before() -> None:
    one = assay.build("gpt1", vocab_size=61, seed=3, **TINY)
    torch.rand(7, generator=torch.default_generator)
    two = assay.build("gpt1", vocab_size=61, seed=3, **TINY)
    other = assay.build("gpt1", vocab_size=61, seed=4, **TINY)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, two.state_dict()[name])
    assert not torch.equal(one.embedding.tokens, other.embedding.tokens)


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_size_and_match(name: str) -> None:
    """Sizes are solved on the meta device, without memory; the model built from the result must also run."""
    match: Match = "non-embedding" if name == "mamba2" else "total"
    model = assay.build(name, 100_000, vocab_size=61, match=match)
    counted = count_parameters(model)
    assert (counted.total if match == "total" else counted.non_embedding) == pytest.approx(100_000, rel=0.01)
    logits = model(torch.zeros(1, 4, dtype=torch.int64))
    assert logits.shape == (1, 4, 61)
    assert logits.isfinite().all()


def test_published_dimensions_are_the_default() -> None:
    model = assay.build("gpt1", vocab_size=16000, heads="published")
    assert count_parameters(model).total == 4_370_832


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "gpt11"}, "unknown architecture 'gpt11': did you mean 'gpt1'"),
        ({"name": "gpt1", "n_head": 2}, "unknown key 'n_head': did you mean 'n_heads'"),
        ({"name": "gpt1", "size": 100_000, "d_model": 32}, "--size 100000: chooses d_model itself"),
        (
            {"name": "gpt1", "d_model": 30, "n_heads": 4},
            r"model.d_model: 30 given, not a multiple of n_heads \(4\); 28",
        ),
        ({"name": "gpt1", "d_model": 3, "n_heads": 4}, r"model.d_model: 3 given, not a multiple of n_heads \(4\); 4 "),
        ({"name": "gpt1", "body": "banana"}, r"--body \(model.body\): 'banana' given, should be 'native' or 'common'"),
        ({"name": "gpt1", "n_layers": 0}, "model.n_layers: 0 given, should be greater than or equal to 1"),
        ({"name": "mamba2", "d_ff": 64}, "Mamba-2 has no channel mixer"),
        ({"name": "gpt1", "size": "x"}, "size: .x. given, should be a valid integer"),
        ({"name": "gpt1", "seed": -1}, "seed: -1 given, should be greater than or equal to 0"),
        ({"name": "gpt1", "size": 10_000, "match": "x"}, "match: .x. given, should be .blocks.head."),
    ],
)
def test_a_wrong_request_is_one_line(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        assay.build(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_what_is_proposed_for_the_width_would_do() -> None:
    for width, heads in ((30, 4), (3, 4), (7, 5)):
        with pytest.raises(RequestError) as caught:
            AttentionHeads.parse({"d_model": width, "n_heads": heads})
        proposed = int(str(caught.value).split("; ")[1].split()[0])
        assert AttentionHeads.parse({"d_model": proposed, "n_heads": heads}).d_model == proposed


def test_the_common_body_differs_in_the_mixer_only() -> None:
    models = [assay.build(item.name, seed=0, body="common", d_ff=64, **item.tiny) for item in ARCHITECTURES]
    blocks = [model.sequence_blocks()[0] for model in models]
    assert len({type(block.channel_mixer) for block in blocks}) == 1
    assert len({type(block.mixer_norm) for block in blocks}) == 1
    assert len({type(model.norm) for model in models}) == 1
    assert {count_parameters(model).groups["channel_mixers"] / len(model.blocks) for model in models} == {3 * 32 * 64}
    assert all(model.embedding.norm is None for model in models)
    mixers = dict(zip(ARCHITECTURES.names(), (type(block.mixer) for block in blocks), strict=True))
    assert len({mixers[name] for name in ("gpt1", "rwkv6", "rwkv7", "mamba2", "delta-net", "gated-delta-net")}) == 6
