"""Bits are read that were written into a state, and none are where none were."""

import numpy as np
import pytest
import torch

import planted
from assay.audit.redraw import redrawn
from assay.evaluation.information import InformationProtocol, Informed, Read, blocks_probed, information
from assay.evaluation.interventions import tensors_of
from assay.evaluation.measurement import MEASUREMENTS
from assay.evaluation.measurements import information as asked
from assay.evaluation.measurements.information import Information
from assay.evaluation.measuring import measure_model
from assay.evaluation.probes import Parts, constant, in_bits, probe_nats, tabled, whitened
from assay.evaluation.readings import held
from assay.evaluation.sampling import sampled
from assay.model.architecture import ARCHITECTURES
from assay.model.lm import LanguageModel
from evaluation.small import PLAN, given, tiny, windows

SMALL = InformationProtocol(
    windows=80, tokens=12, places=12, classes=16, dimensions=256, blocks=1, distances=(-1, 0, 1)
)
LARGEST = 1_536 * 128
"""Numbers of one layer's state of a Mamba-2 of 125M parameters."""


def read(found: Informed | str, what: str, distance: int) -> Read:
    assert isinstance(found, Informed)
    return next(of for of in found.read if (of.what, of.distance) == (what, distance))


@pytest.mark.parametrize(("size", "noise"), [(24, 0.1), (4_096, 4.0), (LARGEST, 1.0)])
def test_bits_of_a_state_are_read_whatever_its_size(size: int, noise: float) -> None:
    """Four bits of the last token are in it, none of the one before and none of the next."""
    model = planted.model_of([planted.Coding(4, size, noise)], width=4)
    found = information(model, sampled(planted.random_text(80, 8), 0, 80), PLAN, SMALL)
    assert read(found, "state", 0).bits.mean == pytest.approx(4.0, rel=0.05)
    assert read(found, "state", 0).size == size
    for distance in (-1, 1):
        assert abs(read(found, "state", distance).bits.mean) <= 0.05
    assert isinstance(found, Informed)
    assert all(of.shuffled is not None and abs(of.shuffled) <= 0.05 for of in found.read), (
        "shuffled classes have no bits"
    )


def test_a_stream_that_was_delayed_holds_the_token_before() -> None:
    model = planted.seeing(2)
    found = information(model, sampled(planted.random_text(80, 12), 0, 80), PLAN, SMALL)
    assert read(found, "stream", -1).bits.mean == pytest.approx(4.0, rel=0.05)
    assert abs(read(found, "stream", 0).bits.mean) <= 0.05


def test_floors_are_what_is_known_without_the_inside() -> None:
    """Text that repeats each token once: the last token says the next one half of the time, and the model does too."""
    draw = np.random.default_rng(0)
    ids = draw.integers(0, 16, (120, 14)).repeat(2, axis=1)[:, :13]
    ids = np.where(draw.random((120, 1)) < 0.5, ids, np.roll(ids, 1, axis=1))
    found = information(planted.seeing(1, 9.0), sampled(planted.text(ids), 0, 120), PLAN, SMALL)
    assert isinstance(found, Informed)
    by = {of.distance: of for of in found.about}
    assert by[0].token is None
    assert by[0].entropy == pytest.approx(4.0, rel=0.02)
    token, own = by[1].token, by[1].own
    assert token is not None
    assert own is not None
    half = 4 + 0.5 * np.log2(0.53) + 0.5 * np.log2(0.47 / 15)
    assert token.mean == pytest.approx(half, abs=0.35)
    assert own.mean < token.mean, "it is too sure that every token comes twice"
    assert read(found, "stream", 1).bits.mean == pytest.approx(token.mean, abs=0.3)


def test_probes_read_what_a_formula_says() -> None:
    """A class that is x > 0 in one of 20 directions, for samples of a known overlap."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (4_000,), generator=generator)
    x = torch.randn(4_000, 20, generator=generator)
    x[:, 0] += 2.0 * (2 * y - 1)
    part = np.arange(4_000) % 3
    parts = Parts(part == 0, part == 1, part == 2)
    best = torch.nn.functional.softplus(-4.0 * x[:, 0] * (2 * y - 1))[torch.from_numpy(parts.test)]
    turned = whitened(x @ torch.linalg.qr(torch.randn(20, 20, generator=generator))[0], 256, parts)
    assert turned[torch.from_numpy(parts.fit)].std(0) == pytest.approx(np.ones(20), rel=1e-3)
    nats = probe_nats(turned, y, 2, parts)
    assert float(nats.mean()) == pytest.approx(float(best.mean()), abs=0.02)
    assert torch.equal(nats, probe_nats(turned, y, 2, parts)), "the same arguments give the same numbers"
    assert in_bits(float(constant(y, 2, parts, np.zeros(4_000, np.int64)).nats.mean())) == pytest.approx(1.0, abs=1e-3)
    token = (x[:, 0] > 0).long()
    error = float((token != y).float().mean())
    entropy = -error * np.log(error) - (1 - error) * np.log(1 - error)
    table = tabled(token, y, 2, 2, parts, np.arange(4_000) // 3 % 5)
    assert float(table.nats.mean()) == pytest.approx(entropy, abs=0.03)
    assert len(table.refits) == 5, "counted again without each group"
    assert table.refits.mean(1).double().numpy() == pytest.approx(np.full(5, float(table.nats.mean())), abs=0.01)


def test_batches_do_not_matter_and_seeds_agree() -> None:
    model = redrawn(tiny("mamba2"), torch.Generator().manual_seed(0))
    assert isinstance(model, LanguageModel)
    text = planted.random_text(80, 12, vocabulary=61)
    small, large = (held(model, text.inputs, [0, 1], 4, PLAN, pass_tokens=tokens) for tokens in (60, 10_000))
    for key, x in small.of.items():
        assert torch.allclose(x, large.of[key], rtol=1e-3, atol=1e-3)
    text, coding = planted.random_text(160, 12, vocabulary=4), planted.model_of([planted.Coding(2, 64)], width=4)
    protocol = SMALL._replace(distances=(0,))
    one, other = (information(coding, sampled(text, seed, 80), PLAN, protocol, seed) for seed in (0, 1))
    first, second = read(one, "state", 0).bits, read(other, "state", 0).bits
    assert first.low is not None
    assert second.low is not None
    assert abs(first.mean - second.mean) <= first.mean - first.low + second.mean - second.low


def test_the_state_is_that_of_one_pass() -> None:
    """Reading in segments gives the stream of the whole window."""
    model = tiny("gpt2")
    text = planted.random_text(4, 12, vocabulary=61)
    found = held(model, text.inputs, [1], 4, PLAN)
    assert found.places.tolist() == [4, 8, 12]
    assert list(found.of) == [("stream", 1)], "keys and values are no state"
    with torch.no_grad():
        whole = model.hidden(torch.from_numpy(text.inputs))[0]
    assert torch.allclose(found.hidden, whole[:, [3, 7, 11]], atol=1e-5)
    assert all(not module._forward_hooks for module in model.modules())


def test_blocks_are_spread_and_end_with_the_last() -> None:
    assert blocks_probed(8, 4) == [1, 3, 5, 7]
    assert blocks_probed(2, 4) == [0, 1]
    assert blocks_probed(1, 2) == [0]
    assert blocks_probed(12, 1) == [11]


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_every_architecture_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = SMALL._replace(windows=40, tokens=11, dimensions=16, classes=8, distances=(0,))
    monkeypatch.setattr(asked, "QUICK", protocol)
    model = redrawn(tiny(name), torch.Generator().manual_seed(0))
    assert isinstance(model, LanguageModel)
    text = planted.random_text(40, 11, vocabulary=61)
    of = given(model, text, quick=True, plan=PLAN.model_copy(update={"precision": "bfloat16"}))
    (values,) = measure_model([MEASUREMENTS.get("information")], of)  # type: ignore[list-item]
    assert isinstance(values, Information)
    assert values.trained is not None
    found = {reading.what for reading in values.trained.readings}
    has_state = any(of.numel() for of in tensors_of(model.initial_state(1).blocks[-1], "state"))
    assert found == ({"stream", "state"} if has_state else {"stream"})
    assert all(np.isfinite(reading.bits.mean) for reading in values.trained.readings)


def test_what_is_not_told_has_no_interval() -> None:
    """Zero bits are not known to be zero to the last digit."""
    found = information(planted.seeing(2), sampled(planted.random_text(80, 12), 0, 80), PLAN, SMALL)
    nothing = read(found, "stream", 1).bits
    assert (nothing.mean, nothing.low, nothing.high) == (0, None, None)
    assert read(found, "stream", -1).bits.low is not None


def test_too_few_places_are_said() -> None:
    of = given(tiny(), windows([[3, 5]], 1, [0]), quick=True)
    (values,) = measure_model([MEASUREMENTS.get("information")], of)  # type: ignore[list-item]
    assert values.trained is None
    said = MEASUREMENTS.get("information").sentences(values)
    assert "too few to fit a probe" in said[0]
