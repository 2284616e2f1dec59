"""Sizes are met within one per cent as built, or refused with the nearest that can be had."""

import pytest

from assay.errors import RequestError
from assay.model import sizing
from assay.model.accounting import count_flops, count_parameters, count_state_bytes
from assay.model.architecture import ARCHITECTURES, ModelConfig, assemble
from assay.model.sizing import Decoding, build_on_meta, solve
from assay.records import Match

NAMES = ARCHITECTURES.names()
MILLION = 1_000_000
CONTEXT = 512


def built_size(name: str, config: ModelConfig, match: Match) -> int:
    """Counted on the whole model, each parameter once, without the accounting that the solver uses."""
    model = build_on_meta(ARCHITECTURES.get(name), config)
    if match == "flops":
        return count_flops(model, CONTEXT).forward
    if match == "state":
        return count_state_bytes(model, CONTEXT)
    tables = {id(p) for p in (model.embedding.tokens, model.embedding.positions)}
    return sum(p.numel() for p in model.parameters() if match == "total" or id(p) not in tables)


def check(name: str, target: int, vocab_size: int, match: Match, **fixed: object) -> ModelConfig:
    config = solve(ARCHITECTURES.get(name), target, match, {"vocab_size": vocab_size, **fixed}, Decoding(CONTEXT))
    assert config.vocab_size == vocab_size
    assert abs(built_size(name, config, match) / target - 1) <= 0.01
    return config


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(("gpt2ish-", "s-gpt2ish"))])
def test_sizes_are_met_as_built(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A diagonal of the grid below; depth stays natural, so no size is met by one enormous layer; few are built."""
    built = []
    monkeypatch.setattr(sizing, "assemble", lambda *given: (built.append(given), assemble(*given))[1])
    for target, vocab_size, match in (
        (MILLION, 4096, "total"),
        (2 * MILLION, 258, "flops" if len(name) % 2 else "non-embedding"),
        (1 * MILLION, 16000, "state"),
    ):
        built.clear()
        config = check(name, target, vocab_size, match)  # type: ignore[arg-type]
        assert 1 < len(built) < 200  # a millisecond or two each
        if ARCHITECTURES.get(name).scale.depth is not None and match != "state":
            natural = ARCHITECTURES.get(name).scale.natural_depth(config.d_model)
            assert natural / 2 - 1 <= config.n_layers <= 2 * natural + 1


@pytest.mark.slow
@pytest.mark.parametrize("body", ["native", "common"])
@pytest.mark.parametrize("match", ["total", "non-embedding", "flops", "state"])
@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_met_on_the_whole_grid(name: str, match: Match, body: str) -> None:
    for millions in (1, 2, 8):
        for vocab_size in (258, 4096, 16000):
            check(name, millions * MILLION, vocab_size, match, body=body)


def test_an_impossible_size_is_refused_with_the_nearest() -> None:
    with pytest.raises(RequestError, match=r"--size 3,000: no gpt1 within 1% .* nearest that can be had is") as caught:
        solve(ARCHITECTURES.get("gpt1"), 3_000, "total", {"vocab_size": 258})
    nearest = int(str(caught.value).rsplit(" ", 1)[1].replace(",", ""))
    config = solve(ARCHITECTURES.get("gpt1"), nearest, "total", {"vocab_size": 258})
    assert built_size("gpt1", config, "total") == pytest.approx(nearest, rel=0.01)


@pytest.mark.parametrize("dimension", ["d_model", "n_layers", "d_ff", "n_heads"])
def test_a_dimension_that_the_size_decides_cannot_be_given(dimension: str) -> None:
    with pytest.raises(
        RequestError, match=rf"^--size 1000000: chooses {dimension} itself, which is set to 4; give only"
    ):
        solve(ARCHITECTURES.get("gpt1"), MILLION, "total", {"vocab_size": 258, dimension: 4})


def test_a_dimension_it_does_not_decide_is_kept() -> None:
    config = check("gpt1", 100_000, 258, "total", max_positions=64, tied_embeddings=False)
    assert config.model_dump()["max_positions"] == 64
    parameters = count_parameters(build_on_meta(ARCHITECTURES.get("gpt1"), config))
    assert parameters.groups["head"] == 258 * config.d_model
