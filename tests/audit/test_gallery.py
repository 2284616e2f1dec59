"""The gallery of leaks: each mutant has the defect it claims, by direct experiment; the audit catches each mutant and
fails no sound model.
"""

import copy
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from _pytest.mark import ParameterSet
from torch import Tensor, nn

from assay.audit import audit
from assay.audit.calling.labels import labels_of, parts_of
from assay.audit.redraw import redrawn
from gallery import GALLERY, Mutant
from gallery_decoding import WindowModel
from gallery_memory import OwnDecay
from gallery_models import DecodingModel
from plain_models import V
from sound_zoo import SOUND_ZOO, Sound

SEED = 7


def ids(rows: int, length: int, seed: int) -> Tensor:
    return torch.randint(0, V, (rows, length), generator=torch.Generator().manual_seed(seed))


def logits(model: nn.Module, tokens: Tensor, gradients: bool = False) -> Tensor:
    with torch.set_grad_enabled(gradients):
        output = model(tokens)
    if isinstance(output, dict):
        output = output["logits"]
    output = output[0] if isinstance(output, tuple) else getattr(output, "logits", output)
    assert isinstance(output, Tensor)
    return output


def moved(first: Tensor, second: Tensor) -> float:
    return (first - second).masked_fill(first == second, 0.0).abs().max().item()


def seeded_logits(model: nn.Module, tokens: Tensor, gradients: bool = False) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return logits(model, tokens, gradients).detach()


def moved_by_the_future(model: nn.Module, length: int) -> float:
    """How far the logits up to position t move when later tokens are replaced, in both modes, with the same draws."""
    worst = 0.0
    narrow = copy.deepcopy(model).float()
    runs = [(model, False, False), (model, True, False), (model, True, True), (narrow, False, False)]
    for model, mode, gradients in runs:
        model.train(mode)
        base = ids(1, length, 0)
        base[:, length // 2 : length // 2 + 2] = V - 1
        base[:, length - 5] = 10
        base[:, length - 2] = 2
        before = seeded_logits(model, base, gradients)
        for t in (0, length // 2 - 1, length // 2, length - 5, 63, 99, 256):
            if t < length - 1:
                others = (base + 1 + ids(1, length, 1) % (V - 1)) % V
                changed = torch.cat([base[:, : t + 1], others[:, t + 1 :]], 1)
                after = seeded_logits(model, changed, gradients)
                here = moved(before[:, : t + 1], after[:, : t + 1])
                worst = max(worst, here if model is not narrow or here > 1e-4 else 0.0)  # beyond float32's rounding
    return worst


def moved_by_the_length(model: nn.Module, length: int) -> float:
    rows = torch.cat([ids(1, length, 0), torch.zeros(1, length, dtype=torch.long)])
    whole = logits(model.eval(), rows)
    return max(moved(whole[:, :t], logits(model, rows[:, :t])) for t in (1, length // 2, 37, length - 1))


def moved_by_company(model: nn.Module, length: int) -> float:
    """How far a row moves when the other rows change, or when another call came before, in both modes."""
    worst = 0.0
    for count, mode in ((2, False), (4, False), (8, False), (2, True)):
        both, other = ids(count, length, 0), ids(count, length, 1)
        fresh, changed, used = (copy.deepcopy(model).train(mode) for _ in range(3))
        before = seeded_logits(fresh, both)
        rows = torch.cat([other[:-1], both[-1:]])
        worst = max(worst, moved(before[-1], seeded_logits(changed, rows)[-1]))
        logits(used, other)
        worst = max(worst, moved(before, seeded_logits(used, both)))
    return worst


def moved_by_labels(model: nn.Module, length: int) -> float:
    """How far logits move when the labels that come with them change, in both modes."""
    worst, tokens, way = 0.0, ids(2, length, 0), labels_of(model)[0]
    for mode in (False, True):
        model.train(mode)
        outputs = [parts_of(way.call(model, tokens, ids(2, length, seed)), tokens, V)[0] for seed in (1, 2)]
        first, second = (output for output in outputs if output is not None)
        worst = max(worst, moved(first, second))
    return worst


def moved_by_repeating(model: nn.Module, length: int) -> float:
    tokens = ids(2, length, 0)
    first, again = (logits(model.eval(), tokens) for _ in range(2))
    return moved(first, again) if first.isfinite().any() else math.inf


def moved_by_the_mode(model: nn.Module, length: int) -> float:
    tokens = ids(2, length, 0)
    model.eval()
    before = logits(model, tokens)
    model.train()
    return moved(before, logits(model, tokens))


def moved_by_decoding(model: nn.Module, length: int) -> float:
    """How far the logits of a first piece and three steps are from those of one forward pass."""
    assert isinstance(model, DecodingModel | WindowModel)
    tokens = ids(2, length, 0)
    whole = logits(model.eval(), tokens)
    advance: Any = model.prefill if isinstance(model, DecodingModel) else model
    _, state = advance(tokens[:, :-3])
    worst = 0.0
    for t in range(length - 3, length):
        if isinstance(model, DecodingModel):
            step, state = model.step(tokens[:, t], state)
        else:
            step, state = model(tokens[:, t : t + 1], state)
        worst = max(worst, moved(whole[:, t], step.view_as(whole[:, t])))
    return worst


def moved_by_the_document_before(model: nn.Module, separator: int) -> float:
    """How far the logits of a packed document move when the document before it changes."""
    first, second = ids(1, 40, 0), ids(1, 40, 1)
    for tokens in (first, second):
        tokens[tokens == separator] = separator + 1
        tokens[:, 20] = separator
    second[:, 20:] = first[:, 20:]
    return moved(logits(model.eval(), first)[:, 20:], logits(model, second)[:, 20:])


def nats_of_all(model: nn.Module, tokens: Tensor, score: Mapping[str, Any], times: float) -> Tensor:
    """The nats of all later tokens of each row by the audited score, with the logits multiplied by `times`."""
    given = times * logits(model, tokens)
    if "log_prob" in score:
        return torch.as_tensor(-score["log_prob"](given, tokens).sum(1))
    rows = zip(given.split(1), tokens.split(1), strict=True)
    return torch.stack([(tokens.shape[1] - 1) * score["loss"](*row) for row in rows])


def away_from_marginal(model: nn.Module, score: Mapping[str, Any]) -> float:
    """How far the probability of a few tokens is from the sum over all tokens that can follow them."""
    worst = 0.0
    starts = [(ids(1, 3, 0), 1.0), (ids(1, 3, 0), 8.0), *((ids(1, length, 0), 1.0) for length in (9, 12))]
    starts.append((torch.cat([ids(1, 60, 0), ids(1, 6, 1).repeat(1, 4)], 1), 1.0))
    for start, times in starts:
        following = torch.cat([start.expand(V, -1), torch.arange(V)[:, None]], 1)
        whole, parts = (nats_of_all(model, tokens, score, times) for tokens in (start, following))
        off = abs((whole - parts).exp().sum().item() - 1)
        worst = max(worst, off if off == off else 1.0)
    return worst


def without_gradient(model: nn.Module, length: int) -> float:
    """The number of parameters that a loss does not reach."""
    logits_of_all = model(ids(2, length, 0))
    logits_of_all.square().sum().backward()
    return float(sum(p.grad is None or not p.grad.any() for p in model.parameters()))


def away_from_own_initialisation(model: nn.Module, _: int) -> float:
    """How far a layer's constants are from what its own `reset_parameters` sets."""
    mixer = model.get_submodule("blocks.0.mixer")
    assert isinstance(mixer, OwnDecay)
    held = mixer.decay.detach().clone()
    mixer.reset_parameters()
    return moved(held, mixer.decay.detach())


EXPERIMENTS: dict[str, Callable[[nn.Module, int], float]] = {
    "causality": moved_by_the_future,
    "labels": moved_by_labels,
    "length": moved_by_the_length,
    "isolation": moved_by_company,
    "determinism": moved_by_repeating,
    "modes": moved_by_the_mode,
    "parity": moved_by_decoding,
    "dead_parameters": without_gradient,
    "initialisation": away_from_own_initialisation,
}

QUICK_MUTANTS = {
    *("final-state-read", "mask-off-by-one", "bidirectional-in-an-object"),
    *("mean-over-sequence", "position-scaled-by-length", "batch-norm"),
    *("expert-choice-routing", "absmax-over-tensor", "only-in-training-mode"),
    *("ahead-at-chunk-ends", "only-at-a-special-id", "size-1e-5", "behind-zero-projection"),
    *("memory-of-the-last-call", "packed-documents-leak", "dropout-left-on", "loss-not-shifted"),
    *("only-with-gradients-in-training", "mean-of-tokens-in-training", "no-finite-logit"),
    *("dropped-by-the-whole", "memory-of-the-class", "only-at-37-tokens", "only-in-narrow-numbers"),
    *("mass-on-padded-ids", "dead-projection", "initialisation-overwritten", "decoding-shift-off-by-one"),
    *("ahead-at-ends-of-201", "ahead-at-line-feeds"),
    *("window-cache-one-short", "nats-clamped"),
}
QUICK_TWINS = {
    *("absmax-over-tensor", "in-place-on-the-stream", "dropout-left-on"),
    "better-of-two-scores",
    *("window-cache-one-short", "cache-of-the-whole-sequence"),
}
QUICK_SOUND = {
    *("token-shift", "running-mean", "float32-fourier-convolution", "dropout-0.9"),
    "drops-long-rows",
    "loss-free-balancing",
    *("draws-by-token", "mask-parameter-compared"),
    *("token-choice-experts", "large-weights", "bfloat16-weights", "zero-head", "float32-only"),
}
"""The models audited in every run of the tests, on short sequences; slow tests audit all of them."""


def param(entry: Mutant | Sound) -> ParameterSet:
    """A test case; those with transformers are slow, as it takes seconds to import."""
    slow = [pytest.mark.slow] if "llama" in entry.name or entry.name.startswith("transformers") else []
    return pytest.param(entry, id=entry.name, marks=slow)


every_mutant = pytest.mark.parametrize("mutant", [param(mutant) for mutant in GALLERY])
every_sound = pytest.mark.parametrize("sound", [param(sound) for sound in SOUND_ZOO])


def revealed(model: nn.Module, check: str) -> nn.Module:
    """The model in float64, with parameters redrawn so that no zero hides a defect (unless they are the defect)."""
    model = model.double()
    return model if check == "initialisation" else redrawn(model, torch.Generator().manual_seed(1))


def measured(mutant: Mutant, model: nn.Module, options: Mapping[str, Any]) -> float:
    model = revealed(model, mutant.check)
    if mutant.check == "scoring":
        return away_from_marginal(model, options)
    if "packing" in options:
        return moved_by_the_document_before(model, options["packing"])
    return EXPERIMENTS[mutant.check](model, mutant.length)


@every_mutant
def test_the_defect_is_there_and_the_twin_has_none(mutant: Mutant) -> None:
    assert measured(mutant, mutant.make(SEED), mutant.options) > 1e-8
    assert measured(mutant, mutant.twin(SEED), mutant.twin_options) <= 1e-13


@every_mutant
def test_mutant_and_twin_have_the_same_parameters(mutant: Mutant) -> None:
    ours, twins = (dict(make(SEED).named_parameters()) for make in (mutant.make, mutant.twin))
    assert ours.keys() == twins.keys()
    if mutant.check != "initialisation":
        assert all(torch.equal(ours[name], twins[name]) for name in ours)
    if mutant.check != "scoring":
        mutant.make(SEED).get_submodule(mutant.module)


@every_sound
def test_the_zoo_is_sound_and_not_for_lack_of_context(sound: Sound) -> None:
    """Later tokens are replaced in one of two rows. The model is sound, and it does use its context."""
    model = sound.make(SEED).eval()
    length = min(40, sound.max_tokens or 40)
    tokens, half = ids(2, length, 0), length // 2
    changed = tokens.clone()
    changed[0, half:] = (changed[0, half:] + 1) % V
    before, after = logits(model, tokens), logits(model, changed)
    scale = before[before.isfinite()].square().mean().sqrt().item()
    allowed = (sound.rounding + 1e-6) * scale
    assert moved(before[0, :half], after[0, :half]) <= allowed, "1. earlier logits stay, but for rounding"
    assert moved(before[1], after[1]) <= allowed, "2. the other row stays"
    assert moved(before, logits(model, tokens)) <= allowed, "3. a call does not depend on the call before"
    if sound.name not in ("unigram", "zero-head"):
        assert moved(before[0, half:], after[0, half:]) > 1e-2 * scale, "4. later logits move"


def caught(mutant: Mutant, options: Mapping[str, Any]) -> None:
    """Assert that the mutant's check does not pass and that it names the module, the model itself, or the score."""
    report = audit(mutant.make(SEED), **options)
    finding = next(finding for finding in report.findings if finding.check == mutant.check)
    warns = mutant.check in ("dead_parameters", "initialisation")
    assert finding.status == ("warn" if warns else "fail")
    assert report.sound == warns
    module = mutant.module or type(mutant.make(SEED)).__name__
    assert finding.where is not None
    assert re.match(re.escape(module) + r"\b", finding.where), finding.where


def passed(model: nn.Module, options: Mapping[str, Any]) -> None:
    report = audit(model, **options)
    assert report.sound
    assert [finding for finding in report.findings if finding.status == "fail"] == []


@pytest.mark.parametrize("name", sorted(QUICK_MUTANTS))
def test_the_audit_catches_on_few_tokens(name: str) -> None:
    mutant = next(mutant for mutant in GALLERY if mutant.name == name)
    caught(mutant, {"max_length": mutant.length, **mutant.options})


@pytest.mark.parametrize("name", sorted(QUICK_TWINS))
def test_the_audit_passes_twins_on_few_tokens(name: str) -> None:
    mutant = next(mutant for mutant in GALLERY if mutant.name == name)
    passed(mutant.twin(SEED), {"max_length": mutant.length, **mutant.twin_options})


@pytest.mark.parametrize("name", sorted(QUICK_SOUND))
def test_the_audit_passes_sound_models_on_few_tokens(name: str) -> None:
    sound = next(sound for sound in SOUND_ZOO if sound.name == name)
    passed(sound.make(SEED), {"max_length": 40, **sound.options})


@pytest.mark.slow
@every_mutant
def test_the_audit_catches(mutant: Mutant) -> None:
    caught(mutant, mutant.options)


@pytest.mark.slow
@every_mutant
def test_the_audit_passes_every_twin(mutant: Mutant) -> None:
    passed(mutant.twin(SEED), mutant.twin_options)


@pytest.mark.slow
@every_sound
def test_the_audit_passes_every_sound_model(sound: Sound) -> None:
    passed(sound.make(SEED), sound.options)
