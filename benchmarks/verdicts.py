"""Simulations behind "The gate" in docs/statistics.md: false verdicts, coverage, power, and the methods not taken.

    python benchmarks/verdicts.py --simulated            # all tables, about five minutes on one core
    python benchmarks/verdicts.py --simulated placebo    # or control, coverage, methods, tuning, noise, tiny

Every cell is a mixture of ladders: exponents 0.05 to 0.3 in cost, 3 to 6 nats at the lowest rung of which 30 to 70%
can be learned away, rungs a factor of two apart and one more of the baseline above, noise of 0.003 to 0.02 nats a run,
up to 60% of its variance shared by the arms. Arms are tuned as a gate tunes them, one run a rate: on a grid of five
rates at the lowest rung and three at the next, kept by its rule for larger ones, while the best one falls by 0.1 to
0.38 steps a rung. One step off costs 0.01 to 0.08 nats. "Skewed" noise is lognormal with a skewness of 2.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from assay.analysis.intervals.proportions import clopper_pearson
from assay.analysis.scaling import curve
from assay.analysis.scaling.gain import Reads, log_gains, roots
from assay.analysis.scaling.ladder import Arrays, LogCosts
from assay.analysis.scaling.resolvable import Plan, detectable
from assay.analysis.scaling.simulated_tuning import Response
from assay.analysis.scaling.simulation import Truth, draw
from assay.analysis.scaling.trend import slopes

LEVEL = 0.95
SEEDS, RUNGS, SHAPES = (3, 5), (3, 4, 5), ("normal", "skewed")
MIXED = 50
"""Ladders of so many kinds in each cell."""


def mixture(generator: np.random.Generator, repeats: int, **fixed: Any) -> Iterator[tuple[Truth, Response, int]]:
    """Kinds of ladders, each with how its losses depend on the rate, and how many of it are drawn."""
    for kind in range(MIXED):
        truth = Truth(
            first_loss=generator.uniform(3, 6),
            reducible=generator.uniform(0.3, 0.7),
            exponent=generator.uniform(0.05, 0.3),
            noise=float(np.exp(generator.uniform(np.log(0.003), np.log(0.02)))),
            shared=generator.uniform(0, 0.6),
        )
        rise = float(np.exp(generator.uniform(np.log(0.01), np.log(0.08))))
        response = Response(rise=rise, lopsided=generator.uniform(0, 0.3), drift=generator.uniform(0.1, 0.38))
        yield replace(truth, **fixed), response, (repeats + kind) // MIXED


def cells() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every shape of noise with every number of seeds and rungs."""
    for shape, seeds, rungs in itertools.product(SHAPES, SEEDS, RUNGS):
        yield f"{shape}, {seeds} seeds, {rungs} rungs", {"shape": shape, "seeds": seeds, "rungs": rungs}


def share(of: np.ndarray) -> str:
    """ "2.4 (1.8 to 3.2)": per cent, with the interval of Clopper and Pearson."""
    found = clopper_pearson(float(of.sum()), len(of), LEVEL)
    return f"{100 * of.mean():.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def table(heads: list[str], rows: Iterator[list[str]]) -> None:
    """Print a Markdown table row by row."""
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    print()


def placebo(generator: np.random.Generator, repeats: int) -> None:
    """The candidate is the baseline."""
    print(f"### Placebo gates, {repeats} a row\n")
    all_rates: list[list[np.ndarray]] = [[], []]

    def gates(parabola: bool, fixed: dict[str, Any]) -> list[np.ndarray]:
        found = []
        for truth, response, count in mixture(generator, repeats, **fixed):
            arrays = draw(generator, truth, count, replace(response, parabola=parabola))
            of = log_gains(arrays, truth.log_costs(), truth.rungs - 1, LEVEL)
            found.append(np.stack([of.low > 0, of.high < 0]))
        return list(np.concatenate(found, 1))

    def rows() -> Iterator[list[str]]:
        for name, fixed in cells():
            go, no_go = gates(True, fixed)
            for of, rate in zip((go, no_go), all_rates, strict=True):
                rate.append(of)
            yield [name, share(go), share(no_go), " / ".join(f"{100 * of.mean():.1f}" for of in gates(False, fixed))]
        yield ["all", *(share(np.concatenate(of)) for of in all_rates), ""]

    table(["% of gates", "GO", "NO-GO", "best of the grid instead: GO / NO-GO"], rows())


def control(generator: np.random.Generator, repeats: int) -> None:
    """The baseline on fewer tokens: so much worse at every rung that the plan should tell it."""
    print(f"### A handicapped candidate, {repeats} a row\n")

    def rows() -> Iterator[list[str]]:
        for name, fixed in cells():
            row = [name]
            for times in (1.0, 1.5):
                found = []
                for truth, response, count in mixture(generator, repeats, **fixed):
                    tuned = draw(generator, truth, count, response)
                    costs = truth.log_costs()
                    slope = truth.baseline_loss(costs.candidate[-1:] - 1e-4) - truth.baseline_loss(costs.candidate[-1:])
                    plan = Plan(
                        seeds=truth.seeds,
                        rungs=truth.rungs,
                        noise_sd=truth.noise,
                        slope_nats=float(slope[0]) / 1e-4,
                        shared=truth.shared,
                        tuning_variance=float(tuned.candidate_tuning[:, -1].mean()),
                    )
                    worse = tuned._replace(candidate=tuned.candidate + times * detectable(plan).nats)
                    found.append(log_gains(worse, costs, truth.rungs - 1, LEVEL).high < 0)
                row.append(share(np.concatenate(found)))
            yield row

    table(["% NO-GO", "worse by what is detectable at 80%", "by 1.5 times that"], rows())


def coverage(generator: np.random.Generator, repeats: int) -> None:
    """Gains of 0.75 to 1.5, trends of -0.1 to 0.1, candidates 0.8 to 1.25 times as dear."""
    print(f"### Coverage, {repeats} ladders a row\n")

    def rows() -> Iterator[list[str]]:
        for name, fixed in cells():
            gains: list[list[np.ndarray]] = [[], [], []]
            trends: list[np.ndarray] = []
            widths: list[list[np.ndarray]] = [[], []]
            for truth, response, count in mixture(generator, repeats, **fixed):
                truth = replace(
                    truth,
                    gain=float(np.exp(generator.uniform(-0.3, 0.4))),
                    trend=generator.uniform(-0.1, 0.1),
                    dearer=float(np.exp(generator.uniform(-0.22, 0.22))),
                )
                arrays, costs = draw(generator, truth, count, response), truth.log_costs()
                for rung, into in zip((0, truth.rungs // 2, truth.rungs - 1), gains, strict=True):
                    of, true = log_gains(arrays, costs, rung, LEVEL), truth.log_gains()[rung]
                    into.append((of.low <= true) & (true <= of.high))
                widths[0].append(of.high - of.low)
                line = slopes(arrays, costs, LEVEL)
                trends.append(~(np.abs(line.slope - truth.trend) > line.half))
                widths[1].append(2 * line.half)
            middle = [np.nanmedian(np.concatenate(of)) for of in widths]
            unbounded = 100 * np.mean(~np.isfinite(np.concatenate(widths[0])))
            yield [
                name,
                *(f"{100 * np.concatenate(of).mean():.1f}" for of in gains),
                f"{middle[0]:.3f} ({unbounded:.1f})",
                f"{100 * np.concatenate(trends).mean():.1f}",
                f"{middle[1]:.3f}",
            ]

    heads = ["% of intervals that hold the truth", "gain, lowest rung", "middle", "highest"]
    table([*heads, "median width of its logarithm (% unbounded)", "trend", "median width"], rows())


def methods(generator: np.random.Generator, repeats: int) -> None:
    """What the interval of a gain was chosen among; no tuning, gains of 1.3."""
    print(f"### Methods for the gain at the highest rung, {repeats} ladders a row, gain 1.3\n")

    def rows() -> Iterator[list[str]]:
        for exponent, noise in itertools.product((0.05, 0.3), (0.003, 0.01, 0.02)):
            row = [f"exponent {exponent}, noise {noise}"]
            for seeds in SEEDS:
                truth = Truth(rungs=4, seeds=seeds, exponent=exponent, noise=noise, gain=1.3)
                arrays = draw(generator, truth, repeats)
                costs, true = truth.log_costs(), float(truth.log_gains()[-1])
                of = log_gains(arrays, costs, 3, LEVEL)
                ours = (of.low <= true) & (true <= of.high)
                logs = Arrays(np.log(arrays.baseline), np.log(arrays.candidate), *arrays[2:])
                found = [ours, *(_held_by_secant(each, costs, true) for each in (arrays, logs))]
                few = Arrays(*(each[: max(repeats // 10, 100)] for each in arrays))
                found.append(_held_by_bootstrap(generator, few, costs, true))
                row.append(" / ".join(f"{100 * each.mean():.1f}" for each in found))
            yield row

    table(["curve / secant / secant of log L / bootstrap of seeds", *(f"{seeds} seeds" for seeds in SEEDS)], rows())


def _straight(log_costs: np.ndarray, losses: np.ndarray) -> curve.Curve:
    nothing = np.zeros(len(losses))
    return curve.Curve(log_costs, losses, nothing, np.zeros_like(losses), nothing)


def _held_by_secant(arrays: Arrays, costs: LogCosts, true: float) -> np.ndarray:
    """Whether the interval of Fieller for straight lines between rungs holds the truth at the highest rung."""
    reads = Reads(arrays, costs, len(costs.candidate) - 1)
    reads.curve = _straight(costs.baseline, arrays.baseline.mean(-1))
    excess, half = reads.with_half(np.full((len(arrays.baseline), 1), costs.candidate[-1] + true), LEVEL)
    return (np.abs(excess) <= half)[:, 0]


def _held_by_bootstrap(generator: np.random.Generator, arrays: Arrays, costs: LogCosts, true: float) -> np.ndarray:
    """The same of percentiles of 500 resamples of the seeds."""
    held = []
    for baseline, candidate in zip(arrays.baseline, arrays.candidate, strict=True):
        seeds = generator.integers(0, baseline.shape[-1], (500, baseline.shape[-1]))
        of = Arrays(*(each[:, seeds].swapaxes(0, 1) for each in (baseline, candidate)), np.zeros(1), np.zeros(1))
        reads = Reads.__new__(Reads)
        reads.curve, reads.rung = _straight(costs.baseline, of.baseline.mean(-1)), len(costs.candidate) - 1
        reads.candidate = of.candidate[:, -1].mean(-1)
        low, high = np.quantile(
            np.nan_to_num(roots(reads, costs), nan=1e9) - costs.candidate[-1], ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
        )
        held.append(low <= true <= high)
    return np.array(held)


def tuning(generator: np.random.Generator, repeats: int) -> None:
    """Nats lost to the chosen rate, in standard deviations of a run."""
    print(f"### Tuning, {repeats} grids a row: root mean square of what the chosen rate loses, in noise of one run\n")

    def rows() -> Iterator[list[str]]:
        for rise in (0.125, 0.25, 0.5, 1, 2, 4, 8, 16):
            row = [f"{rise:g}"]
            for lopsided, shape in ((0.0, "normal"), (0.15, "normal"), (0.3, "normal"), (0.15, "skewed")):
                found = []
                for parabola in (True, False):
                    response = Response(rise=rise, lopsided=lopsided, parabola=parabola)
                    truth = Truth(rungs=1, above=1, noise=1.0, first_loss=100.0, seeds=5, shape=shape)
                    arrays = draw(generator, truth, repeats, response)
                    flat = draw(generator, replace(truth, noise=1e-9), repeats, None)
                    lost = arrays.candidate.mean(-1) - flat.candidate.mean(-1)
                    # The mean square of a mean of five runs, less that of their noise.
                    found.append((lost**2).mean() - 1 / 5)
                    found.append(arrays.candidate_tuning.mean())
                row.append(" / ".join(f"{np.sqrt(max(each, 0)):.2f}" for each in found[:3]))
            yield row

    heads = [
        "rise one step off, in noise of one run",
        "parabola / as estimated / best of the grid",
        "lopsided 0.15",
        "0.3",
    ]
    table([*heads, "0.15, skewed noise"], rows())


def noise(generator: np.random.Generator, repeats: int) -> None:
    """Noise that is not alike in all runs."""
    print(
        f"### Noise that differs between runs, {repeats} gates a row: GO / NO-GO where the candidate is the baseline\n"
    )
    kinds = {
        "twice as large in the candidate": {"noisier": 2.0},
        "growing 1.4 times over three rungs": {"widening": 2 ** (1 / 6)},
        "doubling over three rungs": {"widening": 2 ** (1 / 3)},
        "halving over three rungs": {"widening": 0.5 ** (1 / 3)},
        "three quarters shared": {"shared": 0.75},
    }

    def rows() -> Iterator[list[str]]:
        for name, kind in kinds.items():
            row = [name]
            for seeds in SEEDS:
                found = []
                for truth, response, count in mixture(generator, repeats, seeds=seeds, rungs=4, **kind):
                    of = log_gains(draw(generator, truth, count, response), truth.log_costs(), 3, LEVEL)
                    found.append(np.stack([of.low > 0, of.high < 0]))
                row.append(" / ".join(f"{100 * of.mean():.1f}" for of in np.concatenate(found, 1)))
            yield row

    table(["noise", *(f"{seeds} seeds" for seeds in SEEDS)], rows())


def tiny(generator: np.random.Generator, repeats: int) -> None:
    """Gates of two sizes and few seeds, such as a smoke test has."""
    print(f"### Tiny placebo gates, {repeats} a row\n")
    kinds: dict[str, dict[str, Any]] = {
        "as above": {},
        "a baseline whose loss hardly falls (exponent 0.005)": {"exponent": 0.005},
        "the same, runs as noisy as 0.05 nats": {"exponent": 0.005, "noise": 0.05},
        "90% of the noise shared": {"shared": 0.9},
        "noise that doubles from rung to rung": {"widening": 2.0},
        "one step off costs 0.5 nats": {"rise": 0.5},
    }

    def rows() -> Iterator[list[str]]:
        for name, kind in kinds.items():
            row = [name]
            for seeds in (2, 3):
                found = []
                fixed = {key: value for key, value in kind.items() if key != "rise"}
                for truth, response, count in mixture(generator, repeats, seeds=seeds, rungs=2, **fixed):
                    response = replace(response, rise=kind.get("rise", response.rise))
                    of = log_gains(draw(generator, truth, count, response), truth.log_costs(), 1, LEVEL)
                    found.append(np.stack([of.low > 0, of.high < 0]))
                row.append(" / ".join(f"{100 * of.mean():.1f}" for of in np.concatenate(found, 1)))
            yield row

    table(["% GO / NO-GO at two rungs", "2 seeds", "3 seeds"], rows())


PARTS: dict[str, tuple[Callable[[np.random.Generator, int], None], int]] = {
    "placebo": (placebo, 2000),
    "control": (control, 2000),
    "coverage": (coverage, 5000),
    "methods": (methods, 2000),
    "tuning": (tuning, 5000),
    "noise": (noise, 2000),
    "tiny": (tiny, 2000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="which tables; all without")
    parser.add_argument("--simulated", action="store_true", required=True, help="simulated ladders, no training")
    parser.add_argument("--repeats", type=int, help="in each cell; 2,000 to 5,000 without")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for name in given.part or PARTS:
        part, repeats = PARTS[name]
        part(np.random.default_rng([given.seed, list(PARTS).index(name)]), given.repeats or repeats)


if __name__ == "__main__":
    main()
