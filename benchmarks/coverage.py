"""How often the intervals of what happens inside a model hold the value that much more text gives, on tiny models.

    .venv/bin/python benchmarks/coverage.py               # all measurements, about three minutes on one core
    .venv/bin/python benchmarks/coverage.py gradients     # or signals, state, contribution, context, information

Each repeat draws documents anew, measures, and asks of every interval whether it holds the long-run value: that of the
same measurement over the documents of all repeats, or where that cannot be had the mean over the repeats. An interval
of 95% should hold it in 92 to 98% of 400 repeats. Documents differ: each uses 12 of 61 tokens, with frequencies of its
own.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import torch

from assay.analysis.intervals.texts import Drawn
from assay.audit.redraw import redrawn
from assay.data.scoring import ScoringWindows
from assay.evaluation.ablation import AblationProtocol, ablated
from assay.evaluation.context_lengths import context_curve
from assay.evaluation.information import InformationProtocol, information
from assay.evaluation.inside.gradient import TokenBatch
from assay.evaluation.inside.gradient_profile import measure_gradients
from assay.evaluation.inside.sequences import Sequences
from assay.evaluation.inside.state_profile import measure_states
from assay.evaluation.measurements.contribution import as_profile
from assay.evaluation.measurements.signals import measure_profile
from assay.evaluation.sampling import Sampled
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.records import Interval

VOCABULARY, USED, TOKENS = 61, 12, 32
PLAN = ExecutionPlan(device="cpu", precision="float32", compile=False, op_form="chunked", chunk_length=64, threads=1)
Found = Mapping[str, Interval | None]
Measure = Callable[[np.ndarray], Found]
"""Documents [N, T + 1] -> the intervals of one measurement."""


def documents(number: int, draw: np.random.Generator, tokens: int = TOKENS) -> np.ndarray:
    """[number, tokens + 1]: each of few tokens of its own, half of them drawn from the last eight."""
    found = np.zeros((number, tokens + 1), np.int64)
    for row in found:
        own, shares = draw.choice(VOCABULARY, USED, replace=False), draw.dirichlet(np.full(USED, 0.5))
        for place in range(tokens + 1):
            copied = place > 0 and draw.random() < 0.5
            row[place] = row[draw.integers(max(0, place - 8), place)] if copied else draw.choice(own, p=shares)
    return found


@cache
def model_of(name: str) -> LanguageModel:
    """A tiny model whose every matrix is drawn anew, so that every part does something."""
    architecture = ARCHITECTURES.get(name)
    model = build_model(architecture, architecture.config.parse(architecture.tiny), 0)
    redraw = redrawn(model, torch.Generator().manual_seed(0))
    return redraw.eval()


def signals(ids: np.ndarray) -> Found:
    """The growth without the embedding."""
    of = measure_profile(model_of("gpt1"), _sequences(ids), PLAN)
    return {"growth": Interval(mean=of.growth_without_embedding, low=of.growth_low, high=of.growth_high)}


def state(ids: np.ndarray) -> Found:
    """Of a state whose decay follows from the text."""
    found: dict[str, Interval | None] = {}
    for name in ("rwkv6", "mamba2"):
        of = measure_states(model_of(name), _sequences(ids), PLAN)
        found |= {
            f"{name} half-life": of.half_life_interval,
            f"{name} fullness": of.fullness,
            f"{name} variety": of.variety,
        }
    return found


def gradients(ids: np.ndarray) -> Found:
    """Norms of the groups of parameters, and first to last; the balance of two paths has the same formula."""
    batches = [TokenBatch(row[None, :-1], row[None, 1:]) for row in ids]
    of = measure_gradients(model_of("gpt1"), batches, PLAN)
    found: dict[str, Interval | None] = {"total": of.total, "first to last": of.first_to_last}
    return found | {group.group: group.norm for group in of.groups}


def contribution(ids: np.ndarray) -> Found:
    """Of the blocks and mixers of a hybrid."""
    protocol = AblationProtocol(len(ids), None, ("zero", "mean", "control"), ("block", "mixer"))
    of = as_profile(ablated(model_of("gpt1"), _windows(ids), PLAN, protocol, pass_tokens=10_000))
    return {f"{effect.part} {effect.block} {effect.kind}": effect.nats for effect in of.effects}


def context(ids: np.ndarray) -> Found:
    """The loss at each length, and how much it is above that at the training context."""
    lengths = [4, 8, 16, 32]
    of = context_curve(model_of("rwkv6"), _sampled(ids), lengths, 16, PLAN, 2)
    return {f"nats at {length}": of.loss(index) for index, length in enumerate(lengths)}


PROBES = InformationProtocol(
    windows=120, tokens=TOKENS, places=8, classes=8, dimensions=16, blocks=1, distances=(-1, 0, 1)
)


def bits(ids: np.ndarray) -> Found:
    """What linear probes read, each fitted anew."""
    of = information(model_of("rwkv6"), _sampled(ids), PLAN, PROBES)
    assert not isinstance(of, str)
    found: dict[str, Interval | None] = {f"{one.what} {one.distance}": one.bits for one in of.read}
    return found | {f"token {one.distance}": one.token for one in of.about if one.token is not None}


MEASUREMENTS: Mapping[str, tuple[Measure, int, int, bool]] = {
    "signals": (signals, 8, TOKENS, True),
    "state": (state, 8, 2 * TOKENS, True),
    "gradients": (gradients, 16, TOKENS, True),
    "contribution": (contribution, 24, TOKENS, True),
    "context": (context, 24, TOKENS, True),
    "information": (bits, 120, TOKENS, False),
}
"""Name -> what measures, documents of a repeat, their tokens, whether documents of all repeats can be read at once."""


def _sequences(ids: np.ndarray) -> Sequences:
    return Sequences(ids[:, :-1], np.arange(len(ids)))


def _windows(ids: np.ndarray) -> ScoringWindows:
    number = np.arange(len(ids))
    return ScoringWindows(ids[:, :-1], ids[:, 1:], number, number, 0 * number, 0 * number + ids.shape[1] - 1)


def _sampled(ids: np.ndarray) -> Sampled:
    return Sampled(ids[:, :-1], ids[:, 1:], Drawn("sources", np.arange(len(ids))))


def covered(name: str, repeats: int, seed: int) -> list[str]:
    """A line for each interval of the measurement."""
    measure, size, tokens, at_once = MEASUREMENTS[name]
    draw = np.random.default_rng(seed)
    texts = [documents(size, draw, tokens) for _ in range(repeats)]
    found = [measure(text) for text in texts]
    long_run = measure(np.concatenate(texts)) if at_once else {}
    lines = []
    for what in found[0]:
        ends = [(one.mean, one.low, one.high) for each in found if (one := each[what]) is not None]
        means, low, high = np.array([of for of in ends if None not in of], np.float64).reshape(-1, 3).T
        asked = long_run.get(what)
        truth = asked.mean if asked is not None else float(np.mean(means)) if len(means) else np.nan
        holds = np.mean((low <= truth) & (truth <= high)) if len(means) else np.nan
        lines.append(
            f"{name:12}  {what:24}  long run {truth:8.4g}  median width {np.median(high - low):8.3g}  "
            f"held in {holds:6.1%}  no interval {1 - len(means) / repeats:4.0%}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measurements", nargs="*", metavar="MEASUREMENT", default=list(MEASUREMENTS))
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.measurements:
        for line in covered(name, given.repeats, given.seed):
            print(line, flush=True)


if __name__ == "__main__":
    main()
