"""Simulations behind docs/statistics.md: false alarms, coverage and power of the rule and of what it was chosen among.

    python benchmarks/error_rates.py            # all tables, about six minutes on one core
    python benchmarks/error_rates.py looks      # one of: alarms, one-arm, power, looks, texts, arms, seeds

The noise of an arm has standard deviation 1 unless the table says otherwise; all seeds and shapes are drawn anew with
--seed, and differ from those on which the critical values were found.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator

import numpy as np
from scipy import stats

from assay.analysis.intervals import calibration, paired, power, texts
from assay.analysis.intervals.calibration import Family, critical_values

LEVEL = 0.95
ARMS, SEEDS = (2, 3, 4, 6), (3, 5, 10)
Draw = Callable[[np.random.Generator, tuple[int, int, int]], np.ndarray]


def bad(generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """Normal noise, and 15% of the seeds 5 to 10 standard deviations worse."""
    worse = (generator.random(size) < 0.15) * generator.uniform(5, 10, size)
    return generator.standard_normal(size) + worse


ALIKE: dict[str, Draw] = {
    "normal": lambda g, size: g.standard_normal(size),
    "lognormal": lambda g, size: g.lognormal(size=size),
    "Student t, 3 df": lambda g, size: g.standard_t(3, size),
    "uniform": lambda g, size: g.random(size),
    "15% bad seeds": bad,
    "two plateaus": lambda g, size: 0.02 * g.standard_normal(size) + (g.random(size) < 0.5),
}


def spread(first: int) -> Draw:
    """Normal noise of which the first arms have three times the standard deviation."""
    return lambda g, size: g.standard_normal(size) * np.where(np.arange(size[1]) < first, 3.0, 1.0)[:, None]


def any_spread(generator: np.random.Generator, size: tuple[int, int, int]) -> np.ndarray:
    """Normal noise with standard deviations between 1 and 3, others in each study."""
    return generator.standard_normal(size) * generator.uniform(1, 3, (*size[:2], 1))


PROMISED: dict[str, Draw] = {
    **ALIKE,
    "one arm threefold": spread(1),
    "two arms threefold": spread(2),
    "one- to threefold": any_spread,
}


def in_one_arm(draw: Draw) -> Draw:
    """The noise of `draw`, less its mean, in the first arm; normal noise in the others."""

    def drawn(generator: np.random.Generator, size: tuple[int, int, int]) -> np.ndarray:
        scores = generator.standard_normal(size)
        mean = draw(generator, (100_000, 1, 1)).mean()
        scores[:, 0] = draw(generator, (size[0], 1, size[2]))[:, 0] - mean
        return scores

    return drawn


def rule(scores: np.ndarray, baseline: bool = False) -> np.ndarray:
    """Whether some pair is resolved by the rule, of scores [R, k, n] of arms alike."""
    k, n = scores.shape[1:]
    return calibration.largest_ratio(scores, baseline) > critical_values(Family((k,), baseline, (n,)), LEVEL)[0]


def holm(scores: np.ndarray) -> np.ndarray:
    """The same by paired t with Holm's steps: some pair is resolved where the smallest p is below alpha / pairs."""
    k, n = scores.shape[1:]
    pairs = list(itertools.combinations(range(k), 2))
    differences = np.stack([scores[:, a] - scores[:, b] for a, b in pairs], 1)
    ratios = np.abs(differences.mean(-1)) / (differences.std(-1, ddof=1) / np.sqrt(n))
    return ratios.max(1) > stats.t.ppf(1 - (1 - LEVEL) / (2 * len(pairs)), n - 1)


def pooled(scores: np.ndarray) -> np.ndarray:
    """The same by Tukey's range with the pooled error of arm x seed."""
    k, n = scores.shape[1:]
    residuals = (
        scores - scores.mean(2, keepdims=True) - scores.mean(1, keepdims=True) + scores.mean((1, 2), keepdims=True)
    )
    error = np.sqrt((residuals**2).sum((1, 2)) / ((k - 1) * (n - 1)) / n)
    return np.ptp(scores.mean(2), axis=1) / error > stats.studentized_range.ppf(LEVEL, k, (k - 1) * (n - 1))


def percent(shares: np.ndarray | float) -> str:
    return f"{100 * float(np.mean(shares)):.1f}"


def table(heads: list[str], rows: Iterator[list[str]]) -> None:
    """Print a Markdown table row by row."""
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    print()


def alarms(generator: np.random.Generator, repeats: int, shapes: dict[str, Draw], title: str) -> None:
    """Studies with some false alarm."""
    print(f"### {title}\n")

    def rows() -> Iterator[list[str]]:
        for k, n in itertools.product(ARMS, SEEDS):
            drawn = {name: draw(generator, (repeats, k, n)) for name, draw in shapes.items()}
            promised = Family((k,), False, (n,)).in_any_shape(LEVEL)
            found = [percent(rule(scores)) for scores in drawn.values()]
            marks = [
                f"({of})" if name == "two plateaus" and not promised else of
                for name, of in zip(drawn, found, strict=True)
            ]
            yield [f"{k} arms, {n} seeds", *marks]

    table(["% of studies", *shapes], rows())


def alarms_of_others(generator: np.random.Generator, repeats: int) -> None:
    """What the rule was chosen among: false alarms and power of three rules."""
    print("### The rules that were compared\n")

    def rows() -> Iterator[list[str]]:
        for k, n in itertools.product((3, 4, 6), SEEDS):
            row = [f"{k} arms, {n} seeds"]
            for name in ("normal", "one arm threefold", "two arms threefold", "two plateaus"):
                scores = PROMISED[name](generator, (repeats, k, n))
                row.append(" / ".join(percent(test(scores)) for test in (rule, holm, pooled)))
            yield row

    table(
        [
            "% of studies: the rule / paired t, Holm / pooled error, Tukey",
            "normal",
            "one arm threefold",
            "two arms threefold",
            "two plateaus",
        ],
        rows(),
    )


def powers(generator: np.random.Generator, repeats: int) -> None:
    """How often a difference of two standard deviations of an arm is resolved, of one given pair."""
    print("### Power\n")

    def resolved(scores: np.ndarray, how: str) -> np.ndarray:
        k, n = scores.shape[1:]
        found = paired.differences(scores)
        if how in ("rule", "baseline"):
            value = critical_values(Family((k,), how == "baseline", (n,)), LEVEL)[0]
            return np.abs(found.mean[:, 0, 1]) > value * found.error[:, 0, 1]
        difference = scores[:, 0] - scores[:, 1]
        if how == "paired":
            error = difference.std(-1, ddof=1) / np.sqrt(n)
            return np.abs(difference.mean(-1)) > stats.t.ppf(1 - (1 - LEVEL) / (k * (k - 1)), n - 1) * error
        residuals = (
            scores - scores.mean(2, keepdims=True) - scores.mean(1, keepdims=True) + scores.mean((1, 2), keepdims=True)
        )
        error = np.sqrt((residuals**2).sum((1, 2)) / ((k - 1) * (n - 1)) / n)
        return np.abs(difference.mean(-1)) > stats.studentized_range.ppf(LEVEL, k, (k - 1) * (n - 1)) * error

    def rows() -> Iterator[list[str]]:
        for k, n in itertools.product(ARMS, SEEDS):
            scores = generator.standard_normal((repeats, k, n))
            scores[:, 0] += 2.0
            value = critical_values(Family((k,), False, (n,)), LEVEL)[0]
            shares = [percent(resolved(scores, how)) for how in ("rule", "paired", "pooled", "baseline")]
            effect = power.detectable_effect(value, k, n, 0.8)
            yield [f"{k} arms, {n} seeds", *shares, f"{effect:.2f}"]

    heads = [
        "% of studies, a difference of 2",
        "the rule",
        "paired t, Bonferroni",
        "pooled error, Tukey",
        "the rule, baseline only",
    ]
    table([*heads, "detectable at 80%, in standard deviations of a difference"], rows())


def looks(generator: np.random.Generator, repeats: int) -> None:
    """Planned looks: false alarms, power and seeds used, beside one look and beside looking without a plan."""
    print("### Planned looks\n")

    def rows() -> Iterator[list[str]]:
        for k, plan in itertools.product((2, 3, 4), ((5, 8, 12), (3, 5, 10), (5, 10))):
            values = critical_values(Family((k,), False, plan), LEVEL)
            unplanned = [critical_values(Family((k,), False, (n,)), LEVEL)[0] for n in plan]
            row = [f"{k} arms, {', '.join(map(str, plan))}"]
            for name in ("normal", "one arm threefold", "uniform"):
                scores = PROMISED[name](generator, (repeats, k, plan[-1]))
                ratios = np.stack([calibration.largest_ratio(scores[..., :n], False) for n in plan], 1)
                row.append(f"{percent((ratios > values).any(1))} ({percent((ratios > unplanned).any(1))})")
            scores = generator.standard_normal((repeats, k, plan[-1])) + 2.0 * np.arange(k)[:, None]
            all_resolved = np.stack(
                [_all_resolved(scores[..., :n], value) for n, value in zip(plan, values, strict=True)], 1
            )
            stopped = np.where(all_resolved.any(1), all_resolved.argmax(1), len(plan) - 1)
            one = _all_resolved(scores, unplanned[-1])
            row += [f"{percent(all_resolved.any(1))} ({percent(one)})", f"{np.array(plan)[stopped].mean():.1f}"]
            yield row

    table(
        [
            "% of studies (in brackets: each look at its own 95%)",
            "false alarms, normal",
            "one arm threefold",
            "uniform",
            "all pairs resolved, arms 2 apart (one look at the end)",
            "seeds used",
        ],
        rows(),
    )


def _all_resolved(scores: np.ndarray, value: float) -> np.ndarray:
    found = paired.differences(scores)
    a, b = np.triu_indices(scores.shape[1], 1)
    return (np.abs(found.mean[:, a, b]) > value * found.error[:, a, b]).all(1)


def over_texts(generator: np.random.Generator, repeats: int) -> None:
    """Seeds and texts crossed: how often the intervals of all pairs hold what is true of all texts and seeds."""
    print("### Other texts too\n")
    shapes: dict[str, tuple[float, Callable[[tuple[int, ...]], np.ndarray]]] = {
        "sources alike in length": (0.0, generator.standard_normal),
        "lengths lognormal, sigma 1": (1.0, generator.standard_normal),
        "lengths lognormal, sigma 1.5": (1.5, generator.standard_normal),
        "differences skewed (lognormal)": (0.0, lambda size: (generator.lognormal(size=size) - np.exp(0.5)) / 2.16),
    }

    def rows() -> Iterator[list[str]]:
        for k, n, sources in itertools.product((2, 4), (3, 5, 10), (20, 50, 200)):
            row = [f"{k} arms, {n} seeds, {sources} sources"]
            for length, noise in shapes.values():
                held = [_held(generator, k, n, sources, length, noise) for _ in range(max(200, repeats // 20))]
                row.append(f"{percent(np.array([h[0] for h in held]))} ({percent(np.array([h[1] for h in held]))})")
            yield row

    table(["% of studies (in brackets: the interval over seeds)", *shapes], rows())


def _held(
    generator: np.random.Generator, k: int, n: int, sources: int, length: float, noise: Callable[..., np.ndarray]
) -> tuple[bool, bool]:
    """Whether all intervals for other texts, and all over seeds, hold the truth, which is no difference."""
    tokens = 500 * np.exp(length * generator.standard_normal(sources))
    of_texts = 0.1 * noise((k, 1, sources))
    of_seeds = 0.03 * generator.standard_normal((k, n, 1))
    both = 0.1 * generator.standard_normal((k, n, sources))
    nats = (of_texts + of_seeds + both) * tokens
    scores = nats.sum(-1) / tokens.sum()
    found = paired.differences(scores[None])
    family = Family((k,), False, (n,))
    value = critical_values(family, LEVEL)[0]
    with_texts, over_seeds = True, True
    for a, b in itertools.combinations(range(k), 2):
        half = value * float(found.error[0, a, b])
        text = texts.over_texts((nats[a] - nats[b]).mean(0), tokens, range(sources), 1 - (1 - LEVEL) / family.pairs)
        assert text is not None
        over_seeds &= abs(text.mean) <= half
        with_texts &= abs(text.mean) <= texts.crossed(half, text.half)
    return with_texts, over_seeds


def of_arms(generator: np.random.Generator, repeats: int) -> None:
    """The interval of one arm, and a normal interval in its place."""
    print("### One arm\n")

    def rows() -> Iterator[list[str]]:
        for n in SEEDS:
            row = [f"{n} seeds"]
            for draw, mean in (
                (ALIKE["normal"], 0.0),
                (ALIKE["lognormal"], float(np.exp(0.5))),
                (bad, 0.15 * 7.5),
            ):
                scores = draw(generator, (repeats, 1, n))[:, 0]
                off = np.abs(scores.mean(1) - mean) / (scores.std(1, ddof=1) / np.sqrt(n))
                row.append(f"{percent(off <= stats.t.ppf((1 + LEVEL) / 2, n - 1))} ({percent(off <= 1.96)})")
            yield row

    table(
        [
            "% of intervals that hold the truth (in brackets: 1.96 in place of t)",
            "normal",
            "lognormal",
            "15% bad seeds",
        ],
        rows(),
    )


def ranges_of_seeds(generator: np.random.Generator, repeats: int) -> None:
    """How often the range of seeds holds the number that the true noise takes, for a true difference as seen."""
    print("### The range of seeds\n")

    def rows() -> Iterator[list[str]]:
        for k, n in itertools.product((2, 3, 4), (3, 5, 10)):
            found = paired.differences(generator.standard_normal((max(500, repeats // 20), k, n)))
            held, lows, highs = [], [], []
            for error in found.error[:, 0, 1]:
                spread_ = float(error) * np.sqrt(n)
                low, high = power.seed_range(np.sqrt(2), spread_, n, (k,), False, LEVEL, 0.8)
                held.append(low <= power.seeds_for(1.0, (k,), False, LEVEL, 0.8) <= high)
                lows.append(low)
                highs.append(high)
            middle = f"{np.median(lows):.0f} to {np.median(highs):.0f}"
            yield [
                f"{k} arms, {n} seeds",
                percent(np.array(held)),
                middle,
                str(power.seeds_for(1.0, (k,), False, LEVEL, 0.8)),
            ]

    table(
        [
            "a difference of one standard deviation of a difference",
            "% of ranges that hold it",
            "median range",
            "seeds it takes",
        ],
        rows(),
    )


def main() -> None:
    parts: dict[str, Callable[[np.random.Generator, int], None]] = {
        "alarms": lambda g, r: (
            alarms(g, r, PROMISED, "False alarms where 5% are promised (in brackets: not promised)"),
            alarms_of_others(g, r),
        )[0],
        "one-arm": lambda g, r: alarms(
            g,
            r,
            {f"{name}, one arm": in_one_arm(ALIKE[name]) for name in ("lognormal", "15% bad seeds")},
            "False alarms where nothing is promised: one arm whose noise has another shape",
        ),
        "power": powers,
        "looks": looks,
        "texts": over_texts,
        "arms": of_arms,
        "seeds": ranges_of_seeds,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", choices=[*parts, []], help="which tables; all without")
    parser.add_argument("--repeats", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for name in given.part or parts:
        parts[name](np.random.default_rng([given.seed, list(parts).index(name)]), given.repeats)


if __name__ == "__main__":
    main()
