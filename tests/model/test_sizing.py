"""Sizes are met within one per cent as built, or refused with the nearest that can be had."""

import itertools
import re
import time
from typing import Any, NamedTuple
from unittest import mock

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

import assay
from assay.errors import RequestError
from assay.layers.mixer import SequenceLayer
from assay.model import sizing
from assay.model.accounting import count_flops, count_parameters, count_state_bytes, without_flops
from assay.model.architecture import ARCHITECTURES, Architecture, ModelConfig, Scale, assemble
from assay.model.sizing import Decoding, build_on_meta, solve
from assay.records import Match

NAMES = ARCHITECTURES.names()
FAMILIES = [name for name in NAMES if not name.startswith(("gpt2ish", "s-gpt2ish"))]
FEW = ("gated-delta-net", "gpt1", "groundthink", "mamba2", "rwkv6")
MILLION = 1_000_000
CONTEXT = 512


@pytest.fixture(autouse=True)
def _no_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No shapes checked: hundreds of models are built and none is called."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def built_size(name: str, config: ModelConfig, match: Match) -> int:
    """Counted on the whole model, each parameter once, without the accounting that the solver uses."""
    model = build_on_meta(ARCHITECTURES.get(name), config)
    if match == "flops":
        return count_flops(model, CONTEXT).forward
    if match == "state":
        return count_state_bytes(model, CONTEXT)
    if match == "total":
        return sum(p.numel() for p in model.parameters())
    outside = {id(p) for p in (model.embedding.tokens, model.embedding.positions, model.untied_head)}
    head = config.vocab_size * config.d_model if match == "blocks+head" else 0
    return head + sum(p.numel() for p in model.parameters() if id(p) not in outside)


def check(name: str, target: int, vocab_size: int, match: Match, **fixed: object) -> ModelConfig:
    config = solve(ARCHITECTURES.get(name), target, match, {"vocab_size": vocab_size, **fixed}, Decoding(CONTEXT))
    assert config.vocab_size == vocab_size
    assert abs(built_size(name, config, match) / target - 1) <= 0.01
    return config


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(("gpt2ish-", "s-gpt2ish"))])
def test_sizes_are_met_as_built(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """1. The size as built is within 1%; 2. few models are built; 3. the depth is near the natural one.

    The cases are a part of the grid of the slow test below.
    """
    built = []
    monkeypatch.setattr(sizing, "assemble", lambda *given: (built.append(given), assemble(*given))[1])
    for target, vocab_size, match in (
        (MILLION, 4096, "total" if len(name) % 3 else "blocks+head"),
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
@pytest.mark.parametrize("match", ["blocks+head", "total", "non-embedding", "flops", "state"])
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
def test_build_takes_a_size_or_a_dimension_that_it_decides(dimension: str) -> None:
    with pytest.raises(
        RequestError, match=rf"^--size 1000000: chooses {dimension} itself, which is set to 4; give only"
    ):
        assay.build("gpt1", MILLION, 258, **{dimension: 4})


def dimensions(name: str, config: ModelConfig) -> dict[str, int]:
    """The widths, depths, heads and ranks of an architecture, as a free solution has them."""
    values = {key: value for key, value in config.model_dump().items() if key not in ("vocab_size", "max_positions")}
    published = {"n_kv_heads": 2, "value_dim": 32, "n_value_heads": 2, "decay_rank": 16, "d_ff": 128}
    values |= {key: value for key, value in published.items() if key in values and values[key] is None}
    if name == "mamba2":
        del values["d_ff"]  # it has none
    return {key: value for key, value in values.items() if type(value) is int}


def around_fixed(name: str, target: int, match: Match, fixed: dict[str, int]) -> bool:
    """Whether a size can be had with what is fixed; what is refused is one line, whose nearest size can be had."""
    built, began = mock.patch.object(sizing, "assemble", wraps=sizing.assemble), time.process_time()
    models = built.start()
    try:
        config = check(name, target, 258, match, **fixed)
    except RequestError as error:
        words = str(error)
        assert "\n" not in words
        nearest = re.search(r"the nearest that can be had is ([0-9,]+)", words)
        if nearest is not None:
            offered = int(nearest[1].replace(",", ""))
            assert abs(offered / target - 1) > 0.01
            assert any(f"{key}={value}" in words for key, value in fixed.items()) or set(fixed) - WRITTEN
            check(name, offered, 258, match, **fixed)
        return False
    finally:
        built.stop()
        assert models.call_count < 1000  # a few milliseconds each, several times as much where types are checked
        assert time.process_time() - began < 60  # a loop over all numbers up to an enormous width takes longer
    given = config.model_dump()
    assert {key: given[key] for key in fixed} == fixed
    return True


WRITTEN = {"d_model", "n_layers", "d_ff", "n_heads", "head_dim", "d_state"}
"""Dimensions that a size decides in any architecture; of others a refusal needs to say nothing."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FEW else [pytest.mark.slow]) for name in FAMILIES]
)
def test_sizes_are_solved_around_each_fixed_dimension(name: str) -> None:
    """Each alone, as a free solution has it; a width of half of that where depth or the fine dimension makes up."""
    natural = dimensions(name, check(name, MILLION, 258, "total"))
    assert [key for key, value in natural.items() if not around_fixed(name, MILLION, "total", {key: value})] == []
    around_fixed(name, MILLION, "total", {"d_model": natural["d_model"] // 4 * 2})


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.5, 0.9, 1, 2, 3])
@pytest.mark.parametrize("match", ["blocks+head", "total", "non-embedding", "flops", "state"])
@pytest.mark.parametrize("name", FAMILIES)
def test_fixed_dimensions_are_kept_or_refused(name: str, match: Match, factor: float) -> None:
    natural = dimensions(name, check(name, MILLION, 258, match))
    for key, value in natural.items():
        around_fixed(name, MILLION, match, {key: max(1, int(value * factor))})
    for one, other in itertools.combinations(natural, 2):
        around_fixed(name, MILLION, match, {one: natural[one], other: max(1, int(natural[other] * factor))})


@pytest.mark.parametrize(
    ("name", "fixed"),
    [
        ("rwkv6", {"head_dim": 32, "d_ff": 256}),
        ("gpt1", {"d_model": 64}),
        ("gpt1", {"d_model": 64, "n_layers": 2}),
        ("gpt1", {"n_heads": 3, "n_layers": 5}),
        ("mamba2", {"d_state": 16}),
        ("delta-net", {"head_dim": 16}),
        ("groundthink-v7", {"head_dim": 48}),
    ],
)
def test_what_is_left_is_solved(name: str, fixed: dict[str, int]) -> None:
    assert around_fixed(name, 1_010_000, "total", fixed)


class LastSeen(NamedTuple):
    x: Tensor


class Silent(SequenceLayer):
    """Keeps the last input and does not say what that costs."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: object = None, shared: object = None) -> tuple[Tensor, LastSeen]:
        return self.linear(x), LastSeen(x[:, -1])

    def initial_state(self, batch: int, capacity: int | None = None) -> LastSeen:
        return LastSeen(self.linear.weight.new_zeros(batch, self.linear.in_features))

    def reset_parameters(self, generator: torch.Generator) -> None:
        nn.init.zeros_(self.linear.weight)


def test_flops_are_not_matched_where_a_state_declares_none() -> None:
    silent = Architecture(name="silent", summary="", citation="", mixer=lambda config, _: Silent(config.d_model))
    assert solve(silent, 1_000_000, "total", {"vocab_size": 512}).d_model > 0
    says = "--match flops: silent: Silent keeps a state and declares no FLOPs of its own; a method flops_per_token"
    with pytest.raises(RequestError, match=re.escape(says)):
        solve(silent, 1_000_000, "flops", {"vocab_size": 512})


class Picky(Silent):
    """Takes multiples of 48 only, and says so where it is made."""

    def __init__(self, d_model: int) -> None:
        if d_model % 48:
            raise ValueError(f"d_model ({d_model}) is no multiple of 48")
        super().__init__(d_model)


@pytest.mark.parametrize("width_step", [8, 48])
def test_widths_that_a_layer_refuses_are_passed_over(width_step: int) -> None:
    scale = Scale(width_step=width_step)
    picky = Architecture(
        name="picky", summary="", citation="", mixer=lambda config, _: Picky(config.d_model), scale=scale
    )
    assert solve(picky, 1_000_000, "total", {"vocab_size": 512}).d_model % 48 == 0
    with pytest.raises(RequestError):
        solve(picky, 1_000_000, "total", {"vocab_size": 512, "d_model": 64})


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_built_in_layers_declare_the_flops_of_their_states(name: str) -> None:
    architecture = ARCHITECTURES.get(name)
    if layers := without_flops(build_on_meta(architecture, architecture.config.parse(architecture.tiny))):
        pytest.fail(
            f"{name}: {', '.join(layers)} keeps a state and declares no FLOPs of its own; a method flops_per_token, "
            "which in the repository every such layer has, would do",
            pytrace=False,
        )


def test_a_refusal_is_true() -> None:
    """With heads of 32 and a channel mixer of 256 only multiples of 32 and depths are left: none is near a million."""
    fixed = {"vocab_size": 258, "head_dim": 32, "d_ff": 256, "heads": "tied"}
    with pytest.raises(RequestError, match=r"with d_ff=256, head_dim=32; the nearest that can be had is 1,010,560;"):
        solve(ARCHITECTURES.get("rwkv6"), MILLION, "total", fixed)
    off = []
    for width in range(32, 1024, 32):
        config = [ARCHITECTURES.get("rwkv6").config.parse({**fixed, "d_model": width, "n_layers": n}) for n in (1, 2)]
        one, two = (built_size("rwkv6", given, "total") for given in config)
        off += [abs((one + (n - 1) * (two - one)) / MILLION - 1) for n in range(1, 100)]
    assert min(off) == pytest.approx(0.010560)


def test_heads_of_a_fixed_width_are_together_as_wide_as_usual() -> None:
    given = check("delta-net", MILLION, 258, "total", head_dim=16).model_dump()
    assert given["n_heads"] * 16 == pytest.approx(given["d_model"], abs=16)


@pytest.mark.parametrize(
    ("name", "fixed", "says"),
    [
        ("gpt1", {"d_model": 96, "n_layers": 1, "d_ff": 64}, "with d_ff=64, d_model=96, n_layers=1; the nearest"),
        ("gpt1", {"d_model": 96, "n_heads": 7}, r"with d_model=96, n_heads=7: model.d_model: 96 given, not a multiple"),
        ("gpt1", {"n_heads": 0}, "model.n_heads: 0 given, should be greater"),
        ("gpt1", {"d_model": "wide"}, "model.d_model: 'wide' given, should be a valid integer"),
        ("gpt1", {"n_layers": True}, "model.n_layers: True given, should be a valid integer"),
        ("groundthink", {"n_layers": 5}, "the pattern 'GGGGGS' has 6; leave n_layers out"),
        ("mamba2", {"d_ff": 64}, "Mamba-2 has no channel mixer"),
    ],
)
def test_what_cannot_be_had_around_fixed_dimensions_is_refused(name: str, fixed: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        solve(ARCHITECTURES.get(name), MILLION, "total", {"vocab_size": 258, **fixed})
    assert "\n" not in str(caught.value)


def test_a_dimension_it_does_not_decide_is_kept() -> None:
    config = check("gpt1", 100_000, 258, "total", max_positions=64, heads="untied")
    assert config.model_dump()["max_positions"] == 64
    parameters = count_parameters(build_on_meta(ARCHITECTURES.get("gpt1"), config))
    assert parameters.groups["head"] == 258 * config.d_model
